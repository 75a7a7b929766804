"""The program that draws coefficients."""

import csv
import math
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from tests.train.conftest import ROOT
from train import coefficients
from train.running import figures


def test_it_leaves_a_figure_and_the_coefficient_of_every_pixel(tmp_path, capsys, monkeypatch):
    of_all = coefficients.masks()
    assert set(of_all) == set(coefficients.STYLES)
    some = {name: of_all[name] for name in ("mixup", "cutmix")}
    monkeypatch.setattr(coefficients, "masks", lambda: some)
    out = tmp_path / "new" / "folder"
    flags = [f"--out={out}", "--size=5", "--num_draws=20000", "--alpha=2", "--form=exact"]
    assert coefficients.main(flags) == 0
    assert capsys.readouterr().out.split() == [str(out / "profiles.png"), str(out / "profiles.csv")]
    with Image.open(out / "profiles.png") as picture:
        assert picture.width == 800
    with (out / "profiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = {(row["method"], int(row["dy"]), int(row["dx"])) for row in rows}
    assert places == {(m, y, x) for m in some for y in range(-2, 3) for x in range(-2, 3)}
    assert len(rows) == len(places)
    for row in rows:
        value, error = float(row["coefficient"]), float(row["standard_error"])
        assert float(row["distance"]) == pytest.approx(math.hypot(int(row["dy"]), int(row["dx"])), abs=1e-4)
        assert 0 < error < 0.005
        if row["method"] == "mixup":  # alpha / (2 (2 alpha + 1))
            assert abs(value - 0.2) < 4 * error
    at = {(row["method"], int(row["dy"]), int(row["dx"])): float(row["coefficient"]) for row in rows}
    assert at["cutmix", 0, 0] > at["cutmix", 0, 1] + 0.03 > at["cutmix", 0, 2] + 0.06


@pytest.mark.parametrize("count", [1, 6, 7])
def test_a_figure_has_a_map_for_each_method(count, tmp_path, monkeypatch):
    """However many there are, and of whatever name."""
    drawn = []
    make = figures.figure
    monkeypatch.setattr(figures, "figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    estimates = {f"method {index}": np.full((2, 4, 4), 0.1 * index + 0.1) for index in range(count)}
    coefficients.draw(estimates, "title", tmp_path / "profiles.png")
    assert [axes.get_title() for axes in drawn[0].axes if axes.images] == list(estimates)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--alpha=0", "--alpha must be positive and finite, got 0"),
        ("--alpha=nan", "--alpha must be positive and finite, got nan"),
        ("--size=1", "--size must be at least 2, got 1"),
        ("--num_draws=1", "--num_draws must be at least 2, got 1"),
        ("--form=papers", "argument --form: invalid choice: 'papers'"),
        ("--sizes=3", "unrecognized arguments: --sizes=3"),
        ("--out=pyproject.toml", "--out=pyproject.toml: File exists: name a folder to write to"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(flag, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert coefficients.main([flag]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train.coefficients: {message}")


def test_help_needs_no_jax():
    code = (
        "import sys; from train import coefficients\n"
        "try: coefficients.main(['--help'])\n"
        "finally: assert 'jax' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--num_draws" in result.stdout
