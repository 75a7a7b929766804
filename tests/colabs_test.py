"""The notebooks: what they show, what they say, and that they run."""

import ast
import base64
import io
import itertools
import json
import pathlib
import re

from nbmake import nb_run
import numpy as np
from PIL import Image
import pytest

import jaxmix
import jaxmix.evaluation
import jaxmix.vae
from train.running.figures import figure

FOLDER = pathlib.Path(__file__).parents[1] / "colabs"
NAMES = ("quickstart", "kmixup", "hmix_gmix", "mixup_regularization", "varmixup", "multimix")


def cells(name, kind):
    written = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in written if cell["cell_type"] == kind]


def without_magic(source):
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def test_there_is_a_quickstart_and_one_for_each_paper():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.slow
def test_every_notebook_runs_and_every_figure_shows_something(tmp_path, monkeypatch, programs):
    """One after another in one kernel, which forgets its names between them: JAX starts once."""
    monkeypatch.setenv("JAXMIX_FAST", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(programs))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    forget = {"cell_type": "code", "source": "%reset -f", "metadata": {}, "outputs": [], "execution_count": None}
    notebooks = [json.loads((FOLDER / f"{name}.ipynb").read_text()) for name in NAMES]
    together = notebooks[0] | {"cells": [cell for notebook in notebooks for cell in (*notebook["cells"], forget)]}
    for number, cell in enumerate(together["cells"]):
        together["cells"][number] = cell | {"id": str(number)}
    (tmp_path / "together.ipynb").write_text(json.dumps(together))
    result = nb_run.NotebookRun(tmp_path / "together.ipynb", default_timeout=300).execute()
    assert result.error is None, result.error and result.error.trace
    left = iter(result.nb.cells)
    for name, notebook in zip(NAMES, notebooks, strict=True):
        ran = itertools.islice(left, len(notebook["cells"]) + 1)
        outputs = [output for cell in ran for output in cell.get("outputs", [])]
        pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        assert len(pictures) == sum(source.count("plt.show()") for source in cells(name, "code")) >= 2, name
        for picture in pictures:
            assert shows_something(base64.b64decode(picture)), f"a figure of {name} is empty"
        assert not [output for output in outputs if output.get("name") == "stderr"], name


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
def test_a_notebook_is_short_and_committed_without_outputs(name):
    written = json.loads((FOLDER / f"{name}.ipynb").read_text())
    assert len(written["cells"]) <= 20
    for cell in written["cells"]:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")


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
