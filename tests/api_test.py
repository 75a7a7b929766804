"""The rules that every public function keeps, and the examples that it shows."""

import doctest
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

import jaxmix
from tests import conftest
from tests.conftest import function
from tests.fuzz_test import FUZZED

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not {part[:1] for part in page.relative_to(ROOT).parts} & {".", "_"} and "egg-info" not in str(page)
)
MODULES = [importlib.import_module(name) for _, name, _ in pkgutil.walk_packages(jaxmix.__path__, "jaxmix.")]
INTERNAL = {
    "jaxmix.checks",
    "jaxmix.dtypes",
    "jaxmix.weighing",
    "jaxmix.masks.axes",
    "jaxmix.signatures",
    "jaxmix.types",
    "jaxmix.evaluation.corruptions.levels",
}
NAMES = {
    **{module.__name__.rpartition(".")[2]: module for module in MODULES},
    "functools": functools,
    "jax": jax,
    "jaxmix": jaxmix,
    "jnp": jnp,
}
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    if module.__name__ not in INTERNAL
    for name, function in inspect.getmembers(module, inspect.isroutine)
    if inspect.unwrap(function).__module__ == module.__name__ and not name.startswith("_")
}


def takes(function, first, last):
    """Whether these are the first and the last of what is passed by position."""
    parameters = inspect.signature(function).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return by_position[:1] == [first] and by_position[-1:] == [last]


# The methods: what jaxmix itself has that maps (batch, labels, rng), but for what they are made of.
PUBLIC = [
    name
    for name in jaxmix.__all__
    if inspect.isfunction(fn := getattr(jaxmix, name))
    and [*inspect.signature(fn).parameters][1:3] == ["labels", "rng"]
    and fn is not jaxmix.mix
]
# How what methods share is described, to begin with: for masks of no place or of one, codecs, embeddings.
WORDS = {
    "batch": (
        "samples [n, ...], floats or uint8 pixels, or a pytree of arrays with one row per sample.",
        "samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned in n and space.",
        "samples [n, ...], as `encode` takes and `decode` returns them.",
    ),
    "labels": ("float targets [n, ...], a pytree of them, or None.", "float targets [m, c]."),
    "rng": ("a JAX key.",),
    "alpha": (
        "concentration of the ratio's Beta distribution, > 0. Not checked when traced.",
        "concentration of the Dirichlet, > 0, or a range (low, high)",
    ),
    "pairing": ("picks each sample's partner",),
    "shared": ("draw ratio and mask once for the whole batch rather than once per sample.",),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_every_argument_the_result_the_errors_and_an_example(name):
    doc = inspect.getdoc(FUNCTIONS[name])
    for section in ("Args:", "Returns:", "Example:"):
        assert f"\n{section}\n" in doc, section
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    for parameter in parameters:
        assert re.search(rf"^  \*{{0,2}}{parameter}: ", doc, re.MULTILINE), parameter
    source = inspect.getsource(inspect.unwrap(FUNCTIONS[name]))
    if "raise " in source or "checks." in source:
        assert "\nRaises:\n" in doc


@pytest.mark.parametrize("name", PUBLIC)
def test_methods_name_their_paper(name):
    references = inspect.getdoc(getattr(jaxmix, name)).partition("References:")[2]
    assert re.search("<https://(arxiv.org/abs|doi.org)/", references)


def test_every_method_and_part_is_in_the_tables_and_every_method_in_the_fuzz():
    """A method that is in none would pass every test."""
    tested = {function(method) for method in (conftest.METHODS | conftest.HULLS).values()}
    fuzzed = {function(method) for method in [conftest.METHODS[name] for name in FUZZED] + [*conftest.HULLS.values()]}
    for name in PUBLIC:
        assert getattr(jaxmix, name) in tested, name
        assert getattr(jaxmix, name) in fuzzed, name
    for module, table, first in (("masks", conftest.MASKS, "space"), ("pairings", conftest.PAIRINGS, "batch")):
        public = {f for name, f in FUNCTIONS.items() if name.startswith(f"jaxmix.{module}.") and takes(f, first, "rng")}
        assert public == {function(part) for part in table.values()}


@pytest.mark.parametrize("argument", WORDS)
def test_an_argument_that_methods_share_is_documented_in_the_same_words(argument):
    found = {}
    for name in (*PUBLIC, "mix", "draw", "regularization.perturbed_erm", "latent.adversarial_varmixup"):
        doc = inspect.getdoc(functools.reduce(getattr, name.split("."), jaxmix))
        if described := re.search(rf"^  {argument}: (.*(?:\n    .*)*)", doc, re.MULTILINE):
            found[name] = " ".join(described[1].split())
    assert len(found) > 4
    for name, words in found.items():
        assert words.startswith(WORDS[argument]), f"{name}: {words}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rng_is_the_last_positional_argument_and_options_are_keywords(name):
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if "rng" in positional:
        assert positional[-1] == "rng"
    assert not {"rng", "key", "batch"} & set(options)
    if "labels" in options:  # of a pairing, or a draw, that may look at them
        assert positional == ["batch", "rng"]
    defaults = [p.name for p in parameters if p.default is not p.empty]
    assert set(defaults) <= {*options, "labels", "weights"}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, function in FUNCTIONS.items()
        if "rng" in inspect.signature(function).parameters and ".filters." not in name  # what corruptions are made of
    ],
)
def test_what_is_no_key_is_refused_wherever_one_is_used(name, monkeypatch):
    """In the example of its docstring."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    function = inspect.unwrap(FUNCTIONS[name])
    if re.search(r"^  rng: ignored", inspect.getdoc(function), re.MULTILINE):
        return
    given = {"key": lambda seed: 7, "split": lambda rng, n: None}
    random = types.SimpleNamespace(**(vars(jax.random) | given))
    corruptions = types.SimpleNamespace(**(vars(NAMES["corruptions"]) | {"keys": lambda *_, **__: 7}))
    names = NAMES | {"jax": types.SimpleNamespace(**(vars(jax) | {"random": random})), "corruptions": corruptions}
    example = "\n".join(part.source for part in doctest.DocTestParser().get_examples(inspect.getdoc(function)))
    with pytest.raises(TypeError, match=r"rng must be a key of JAX, such as jax.random.key\(0\), got "):
        exec(example, dict(names))


@pytest.mark.parametrize("name", PUBLIC)
def test_methods_have_the_signature_of_a_mix_fn(name):
    first, *rest = list(inspect.signature(getattr(jaxmix, name)).parameters)[:3]
    assert first in ("batch", "embeddings", "features")
    assert rest == ["labels", "rng"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_run(name):
    [test] = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(FUNCTIONS[name]), name, globs=NAMES)
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>>" in page.read_text()], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_pages_examples_run(page):
    results = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 3
    assert results.failed == 0


def anchors(page):
    """What headings are called in links, as GitHub does."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_the_library_s_page_names_everything_public_and_nothing_that_is_not_there():
    readme = (ROOT / "jaxmix" / "README.md").read_text()
    for name in jaxmix.__all__:
        assert getattr(jaxmix, name) is not None
        assert f"`{name}" in readme or f".{name}" in readme, name
    modules = "|".join(("jaxmix", *(name for name in jaxmix.__all__ if inspect.ismodule(getattr(jaxmix, name)))))
    for dotted in re.findall(rf"`((?:{modules})\.[\w.]+)", readme):
        parts = dotted.removeprefix("jaxmix.").split(".")
        assert functools.reduce(getattr, parts, jaxmix) is not None, dotted


def test_every_test_that_a_page_names_exists():
    readme = "\n".join(page.read_text() for page in PAGES)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", readme))
    assert len(named) > 10
    for name in named:
        assert f"def {name}(" in tests, name


def test_importing_jaxmix_imports_nothing_heavy():
    code = "import jax, sys; before = set(sys.modules); import jaxmix; print(*(set(sys.modules) - before))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    roots = {name.split(".")[0] for name in imported}
    assert not roots & {"flax", "ott", "optax", "sklearn", "scipy", "matplotlib", "tensorflow", "chex", "orbax"}
    assert roots & {"jaxmix"}


def test_the_changelog_is_of_this_version():
    assert f"## {jaxmix.__version__}" in (ROOT / "jaxmix" / "CHANGELOG.md").read_text()
