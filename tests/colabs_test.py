"""The notebooks: what they show, what they say, and that they run."""

import ast
import base64
import io
import itertools
import json
import pathlib
import re

import nbclient
import nbformat
import numpy as np
from PIL import Image
import pytest

from colabs import renew
import jaxmix
import jaxmix.evaluation
import jaxmix.vae
from train.running.figures import figure

FOLDER = pathlib.Path(__file__).parents[1] / "colabs"
NAMES = ("quickstart", "kmixup", "hmix_gmix", "mixup_regularization", "varmixup", "multimix")
MOST = 0.04  # by which pictures of the same differ; JPEG alone makes up 0.03


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def cells(name, kind):
    return [cell.source for cell in read(name).cells if cell.cell_type == kind]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell):
    """What a cell draws, as the bytes of files."""
    shown = [output.get("data", {}) for output in cell.get("outputs", ())]
    return [base64.b64decode(data[kind]) for data in shown for kind in ("image/png", "image/jpeg") if kind in data]


def text(cell):
    """What a cell prints."""
    return "".join(output.get("text", "") for output in cell.outputs)


def without_magic(source):
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def test_there_is_a_quickstart_and_one_for_each_paper():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_short_and_shows_what_each_of_its_cells_yields(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 300_000
    notebook = read(name)
    assert len(notebook.cells) <= 20
    for cell in code_cells(notebook):
        assert len(pictures(cell)) == cell.source.count("plt.show()"), cell.id
        assert bool(text(cell)) == ("print(" in cell.source), cell.id
        assert all(map(shows_something, pictures(cell))), cell.id
        assert {(it.output_type, it.get("name")) for it in cell.outputs} <= {
            ("stream", "stdout"),
            ("display_data", None),
        }
        assert len(text(cell)) < 1000, cell.id
    assert sum(len(pictures(cell)) for cell in code_cells(notebook)) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_s_outputs_are_those_of_its_code(name):
    notebook = read(name)
    assert notebook.metadata.outputs_of == renew.digest(notebook), f"run python -m colabs.renew {name}"
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_another_line_of_code_is_told_from_what_was_run_and_another_line_of_prose_is_not():
    notebook = read("kmixup")
    before = renew.digest(notebook)
    notebook.cells[0].source += " More."
    assert renew.digest(notebook) == before
    code_cells(notebook)[-1].source += "  # more"
    assert renew.digest(notebook) != before


def test_a_figure_of_few_colours_stays_as_it_is_and_a_photograph_is_told_from_it():
    rng, png = np.random.default_rng(0), io.BytesIO()
    colours = rng.integers(0, 256, (20, 3), dtype=np.uint8)
    few, many = colours[rng.integers(0, 20, (30, 40))], rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(few).save(png, "png")
    kind, made = renew.smaller(png.getvalue())
    assert kind == "png"
    assert len(made) < len(png.getvalue())
    np.testing.assert_array_equal(Image.open(io.BytesIO(made)).convert("RGB"), few)
    png = io.BytesIO()
    Image.fromarray(many).save(png, "png")
    kind, made = renew.smaller(png.getvalue())
    assert kind == "jpeg"
    assert Image.open(io.BytesIO(made)).size == (40, 30)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_a_figure_of_the_notebook(name):
    [shown] = re.findall(rf"\]\((\.\./\.github/notebook_{name}\.\w+)\)", (FOLDER / "README.md").read_text())
    [tagged] = [cell for cell in code_cells(read(name)) if "picture" in cell.metadata.get("tags", ())]
    assert [(FOLDER / shown).read_bytes()] == pictures(tagged)


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_somewhere_and_say_where(name):
    """Links between files work in Jupyter, not on Colab: there the label is the way."""
    links = re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", "\n".join(cells(name, "markdown")))
    assert links
    for label, target in links:
        if not target.startswith("https://"):
            assert (FOLDER / target).exists(), target
            assert target.removeprefix("../").removesuffix(".ipynb") == label


def follows_the_setting(sources):
    """Whether each cell reads a name that follows from JAXMIX_FAST, so that it may show something else in the tests."""
    following, found = set(), []
    for source in sources:
        nodes = list(ast.walk(ast.parse(without_magic(source))))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        stored |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        found.append(bool((loaded - stored) & following))
        following = (following | stored if found[-1] else following - stored) | {"FAST"}
    return found


def test_what_follows_the_setting_is_told_from_what_does_not():
    sources = "FAST = True", "n = 1 if FAST else 2", "x, y = f(1), n", "x = f(2)", "print(x)", "print(y)", "n = 3", "n"
    assert follows_the_setting(sources) == [False, True, True, False, False, True, False, False]
    for name, compared in zip(NAMES, (1, 2, 4, 2, 0, 1), strict=True):
        found = zip(code_cells(read(name)), follows_the_setting(cells(name, "code")), strict=True)
        assert sum(len(pictures(cell)) for cell, follows in found if not follows) == compared, name


@pytest.mark.slow
def test_every_notebook_runs_and_shows_what_it_showed(monkeypatch, programs):
    """One after another in one kernel, which forgets its names between them: JAX starts once.

    Cells that follow the setting train less here. Of these only the size of figures is compared, and that they are not
    empty: a change of the library that alters nothing else is not seen.
    """
    monkeypatch.setenv("JAXMIX_FAST", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(programs))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    forget = {"cell_type": "code", "source": "%reset -f", "metadata": {}, "outputs": [], "execution_count": None}
    notebooks = [json.loads((FOLDER / f"{name}.ipynb").read_text()) for name in NAMES]
    together = notebooks[0] | {"cells": [cell for notebook in notebooks for cell in (*notebook["cells"], forget)]}
    for number, cell in enumerate(together["cells"]):
        together["cells"][number] = cell | {"id": str(number)}
    notebook = nbformat.reads(json.dumps(together), as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, coalesce_streams=True)
    left = iter(client.execute(cwd=FOLDER.parent).cells)
    for name, notebook in zip(NAMES, notebooks, strict=True):
        ran = list(itertools.islice(left, len(notebook["cells"]) + 1))[:-1]
        now = [cell for cell in ran if cell.cell_type == "code"]
        before = code_cells(read(name))
        follows = follows_the_setting(cell.source for cell in before)
        for old, new, may_differ in zip(before, now, follows, strict=True):
            assert not [output for output in new.outputs if output.get("name") == "stderr"], old.id
            for was, shown in zip(pictures(old), pictures(new), strict=True):
                assert shows_something(shown), f"a figure of {old.id} is empty"
                same = alike(was, shown, 1 if may_differ else MOST)
                assert same, f"a figure of {old.id} is another one"
            if not may_differ:
                assert_same_numbers(text(old), text(new))


def alike(one, other, most):
    """Whether pictures are as large, to 3%, and 99 in 100 of their 64 x 64 parts as bright, to so much of white."""
    one, other = (Image.open(io.BytesIO(picture)).convert("RGB") for picture in (one, other))
    if np.abs(np.divide(one.size, other.size) - 1).max() > 0.03:
        return False
    small = [np.asarray(picture.resize((64, 64), Image.Resampling.BOX), float) / 255 for picture in (one, other)]
    return np.percentile(np.abs(small[0] - small[1]).max(axis=-1), 99) <= most


def assert_same_numbers(one, other):
    """The same words, and numbers to two digits: programs that are compiled otherwise round apart."""
    number = r"\d+\.?\d*"
    assert re.sub(number, "", one) == re.sub(number, "", other)
    for pair in zip(re.findall(number, one), re.findall(number, other), strict=True):
        np.testing.assert_allclose(*map(float, pair), rtol=0.02, atol=0.01)


def test_another_picture_and_another_number_are_seen():
    def bar(width, height, length):
        drawn, png = Image.new("RGB", (width, height), "white"), io.BytesIO()
        drawn.paste("blue", (10, 10, 10 + length, 50))
        drawn.save(png, "png")
        return png.getvalue()

    one = bar(400, 300, 150)
    others = bar(400, 300, 150), bar(400, 300, 200), bar(400, 320, 150)
    assert [alike(one, other, MOST) for other in others] == [True, False, False]
    assert [alike(one, other, 1) for other in others] == [True, True, False]
    assert_same_numbers("12 of 0.500", "12 of 0.503")
    for other in ("12 of 0.530", "12 for 0.500", "12 of 0.500, 1"):
        with pytest.raises(AssertionError):
            assert_same_numbers("12 of 0.500", other)


def shows_something(png):
    """Whether a figure has more than the black and gray lines and letters of its axes."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
    coloured, dark = np.ptp(pixels, axis=2) > 40, pixels.max(axis=2) < 200
    return coloured.mean() > 0.002 or dark.mean() > 0.1


@pytest.mark.parametrize(("plot", "expected"), [(lambda axes: None, False), (lambda axes: axes.plot([1, 2, 3]), True)])
def test_empty_figures_are_told_from_others(plot, expected):
    drawn, png = figure(10, 2.8), io.BytesIO()
    for axes in drawn.subplots(1, 3):
        plot(axes)
    drawn.savefig(png, format="png")
    assert shows_something(png.getvalue()) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_installs_on_colab_only(name):
    first = cells(name, "code")[0]
    [condition] = [node for node in ast.parse(without_magic(first)).body if isinstance(node, ast.If)]
    assert ast.unparse(condition.test) == "'google.colab' in sys.modules"
    imports_flax = bool(
        re.search(r"^(import flax|from flax|from jaxmix import .*\bvae\b)", "\n".join(cells(name, "code")), re.M)
    )
    package = r"jaxmix\[vae\]" if imports_flax else "jaxmix"
    assert re.search(rf'^    %pip install --quiet "{package} @ git\+{{REPOSITORY}}"', first, re.MULTILINE)
    assert "pip" not in re.sub(r"^    .*$", "", first, flags=re.MULTILINE)
    imported = set(re.findall(r"^(?:import|from) (\w+)", "\n".join(cells(name, "code")), re.MULTILINE))
    installed = {"jax", "flax", "jaxmix", "numpy"} | set(re.findall(r"\w+", first.replace("scikit-learn", "sklearn")))
    assert imported <= installed | {"os", "sys", "functools"}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_prose_names_exists(name):
    code = "\n".join(map(without_magic, cells(name, "code")))
    known = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    known |= {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.keyword | ast.arg)}
    known |= {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}
    named = re.findall(r"`([A-Za-z_][\w.]*)`", "\n".join(cells(name, "markdown")))
    assert named
    for word in named:
        assert word in known or word in NAMES or exists(word), word


def exists(dotted):
    """Whether it is a part of jaxmix, or of one of its modules."""
    value = jaxmix
    for part in dotted.removeprefix("jaxmix.").split("."):
        value = (
            getattr(value, part, getattr(jaxmix.evaluation, part, None))
            if value is jaxmix
            else getattr(value, part, None)
        )
        if value is None:
            return dotted in ("jit", "pmap", "jaxmix")
    return True


def test_names_that_do_not_exist_are_seen():
    assert exists("jaxmix.kmixup")
    assert exists("pairings.transport")
    assert not exists("jaxmix.kmixdown")
    assert not exists("pairings.teleport")
