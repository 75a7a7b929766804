"""Dependencies run one way; the imports say so."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

MEASURES = ("attacks", "calibration", "corruptions", "embeddings", "linearity", "ood")

# What each module of the library may import of the library.
LAYERS = {
    "types": set(),
    "checks": {"types"},
    "dtypes": set(),
    "layout": set(),
    "shortest_paths": set(),
    "assignment": {"shortest_paths"},
    "ratios": {"types", "checks"},
    "coefficients": {"types", "checks", "ratios"},
    "masks.axes": {"types", "checks"},
    "masks.shapes": {"types", "checks", "masks.axes"},
    "masks.guided": {"types", "checks", "masks.axes"},
    "saliency": {"types", "checks", "masks.axes"},
    "pairings.plain": {"types", "checks"},
    "pairings.transporting": {"types", "checks", "layout", "assignment", "pairings.plain"},
    "pairings.labelled": {"types", "checks", "layout"},
    "pairings": {"pairings.plain", "pairings.transporting", "pairings.labelled"},
    "masks.noise": {"types", "checks", "masks.axes"},
    "masks.grids": {"types", "checks", "masks.axes"},
    "masks.smooth": {"types", "checks", "masks.axes"},
    "masks": {"masks.shapes", "masks.guided", "masks.noise", "masks.grids", "masks.smooth"},
    "signatures": {"types"},
    "weighing": {"dtypes", "layout"},
    "core": {"types", "checks", "dtypes", "layout", "signatures", "weighing"},
    "blending": {"types", "core", "masks", "pairings", "ratios"},
    "cutting": {"types", "core", "masks", "pairings", "ratios"},
    "guided": {"types", "core", "masks", "pairings", "ratios", "saliency"},
    "resizing": {"types", "checks", "layout", "core", "masks.axes", "pairings"},
    "regularization.contraction": {"types", "checks", "dtypes", "layout", "ratios", "masks", "pairings", "core"},
    "regularization.expansion": {"types", "checks", "regularization.contraction"},
    "regularization.linearization": {"types", "checks", "regularization.contraction"},
    "regularization": {"regularization.contraction", "regularization.expansion", "regularization.linearization"},
    "attention": set(),
    "embedding": {"types", "checks", "layout", "ratios", "core", "attention"},
    "combinators": {"types", "checks", "signatures"},
    "latent": {"types", "checks", "layout", "core", "masks", "pairings", "blending", "ratios", "combinators"},
    "policies": {
        "types",
        "signatures",
        "assignment",
        "attention",
        "core",
        "blending",
        "cutting",
        "guided",
        "resizing",
        "latent",
        "embedding",
        "combinators",
        "pairings",
        "ratios",
        "masks",
        "saliency",
    },
    "vae": {"checks"},
    "evaluation": {f"evaluation.{part}" for part in MEASURES},
    "evaluation.calibration": set(),
    "evaluation.corruptions.filters": set(),
    "evaluation.corruptions.levels": {"types", "checks"},
    "evaluation.corruptions.noise": {"types", "evaluation.corruptions.levels"},
    "evaluation.corruptions.blur": {"types", "evaluation.corruptions.levels", "evaluation.corruptions.filters"},
    "evaluation.corruptions.weather": {"types", "evaluation.corruptions.levels", "evaluation.corruptions.filters"},
    "evaluation.corruptions.digital": {"types", "evaluation.corruptions.levels", "evaluation.corruptions.filters"},
    "evaluation.corruptions": {
        f"evaluation.corruptions.{part}" for part in ("levels", "noise", "blur", "weather", "digital")
    },
    "evaluation.attacks": {"types", "checks", "evaluation.calibration"},
    "evaluation.linearity": {"types", "checks"},
    "evaluation.embeddings": set(),
    "evaluation.ood": {"types", "checks"},
}
# And of others, at its top.
BASE = {"jax", "jaxtyping", "numpy"}
EXTRA = {"vae": {"flax"}}


# The trainer's floors, from the lowest: a module may import those of its own floor and of lower ones. Without a folder
# are what all share (below), and the programs (on top).
FLOORS = (
    {"config", "errors", "flat_mix", "user_code", "program", "cli"},
    {"data", "models"},
    {"learning"},
    {"running"},
    {"tasks"},
    {"measuring"},
    {"timing"},
    {"comparing"},
    {"configs", "runs"},
    {"main", "vae", "evaluate", "compare", "prepare", "benchmark", "gallery", "coefficients", "readme"},
)


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        yield name.removesuffix("__init__").removesuffix("."), ast.parse(path.read_text())


def imports(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names(tree):
    """Every attribute that is looked up and every name that is imported."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {dotted.split(".")[-1] for dotted in imports(ast.walk(tree))}


@pytest.mark.parametrize(("name", "tree"), [m for m in modules("jaxmix") if m[0]])
def test_modules_import_only_what_lies_below(name, tree):
    own = {i.removeprefix("jaxmix.") for i in imports(ast.walk(tree)) if i.startswith("jaxmix")}
    assert name in LAYERS, "a new module: say in LAYERS what it may import"
    assert {i if i in LAYERS else i.rpartition(".")[0] for i in own} <= LAYERS[name]


@pytest.mark.parametrize(("name", "tree"), list(modules("jaxmix")))
def test_only_base_packages_are_imported_at_the_top(name, tree):
    import sys

    roots = {i.split(".")[0] for i in imports(tree.body)} - {"jaxmix"}
    assert roots <= BASE | EXTRA.get(name, set()) | set(sys.stdlib_module_names)


def test_the_library_does_not_know_the_programs():
    for _, tree in modules("jaxmix"):
        assert not [i for i in imports(ast.walk(tree)) if i.split(".")[0] in ("train", "tests")]


def test_only_parallel_names_pmap_and_only_ratios_sample_betas():
    for package in ("jaxmix", "train"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            if path.name != "parallel.py":
                assert "pmap" not in names(ast.parse(text)), path
            if path.name != "ratios.py":
                assert "random.beta(" not in text, path
                assert "random.dirichlet(" not in text, path


def test_the_library_calls_jit_around_its_while_loops_and_one_mean_only_and_sets_no_configuration():
    """A loop over closures would be compiled anew at every call outside of jit, and a mean would round otherwise."""
    for name, tree in modules("jaxmix"):
        assert "update" not in names(tree), name
        assert ("jit" in names(tree)) == (
            name in {"assignment", "weighing", "ratios", "masks.noise", "masks.smooth"}
        ), name


def floor_of(module):
    """The floor of train.this or of train.this.that; of what is no module, such as a function of train.data, None."""
    name = module.split(".")[1]
    found = [floor for floor, names in enumerate(FLOORS) if name in names]
    assert found, f"train.{name} has no floor: say in FLOORS what it may import"
    return found[0]


@pytest.mark.parametrize("path", sorted((ROOT / "train").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_trainer_s_modules_import_of_their_own_floor_and_of_lower_ones_only(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts == ("train", "__init__"):
        return
    tree = ast.parse(path.read_text())
    imported = {i for i in imports(ast.walk(tree)) if i.startswith("train.")}
    higher = sorted(i for i in imported if floor_of(i) > floor_of(".".join(parts)))
    assert not higher
    programs = {i for i in imported if i.split(".")[1] in FLOORS[-1]}
    assert not programs, "a program is imported by nothing"
    assert len(path.read_text().splitlines()) <= 250
