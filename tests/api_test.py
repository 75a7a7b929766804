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

import jax
import jax.numpy as jnp
import pytest

import jaxmix

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [importlib.import_module(name) for _, name, _ in pkgutil.walk_packages(jaxmix.__path__, "jaxmix.")]
INTERNAL = {"jaxmix.checks", "jaxmix.dtypes", "jaxmix.types", "jaxmix.evaluation.corruptions.levels"}
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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_every_argument_the_result_the_errors_and_an_example(name):
    doc = inspect.getdoc(FUNCTIONS[name])
    for section in ("Args:", "Returns:", "Example:"):
        assert f"\n{section}\n" in doc, section
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    for parameter in parameters:
        assert re.search(rf"^  \*?{parameter}: ", doc, re.MULTILINE), parameter
    source = inspect.getsource(inspect.unwrap(FUNCTIONS[name]))
    if "raise " in source or "checks." in source:
        assert "\nRaises:\n" in doc


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup", "multimix", "dense_multimix"])
def test_methods_name_their_paper(name):
    references = inspect.getdoc(getattr(jaxmix, name)).partition("References:")[2]
    assert "<https://arxiv.org/abs/" in references


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rng_is_the_last_positional_argument_and_options_are_keywords(name):
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if "rng" in positional:
        assert positional[-1] == "rng"
    assert not {"rng", "key", "batch", "labels"} & set(options)
    defaults = [p.name for p in parameters if p.default is not p.empty]
    assert set(defaults) <= {*options, "labels", "weights"}


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup", "mix"])
def test_methods_have_the_signature_of_a_mix_fn(name):
    assert list(inspect.signature(getattr(jaxmix, name)).parameters)[:3] == ["batch", "labels", "rng"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_run(name):
    [test] = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(FUNCTIONS[name]), name, globs=NAMES)
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_readme_s_examples_run():
    results = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 3
    assert results.failed == 0


def test_the_readme_names_everything_public_and_nothing_that_is_not_there():
    readme = (ROOT / "README.md").read_text()
    for name in jaxmix.__all__:
        assert getattr(jaxmix, name) is not None
        assert f"`{name}" in readme or f".{name}" in readme, name
    modules = "|".join(("jaxmix", *(name for name in jaxmix.__all__ if inspect.ismodule(getattr(jaxmix, name)))))
    for dotted in re.findall(rf"`((?:{modules})\.[\w.]+)", readme):
        parts = dotted.removeprefix("jaxmix.").split(".")
        assert functools.reduce(getattr, parts, jaxmix) is not None, dotted


def test_every_test_that_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text()
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
