"""Draws how strongly each method ties every pixel to the central one.

Usage: python -m train.coefficients [--out=FOLDER] [--alpha=A] [--size=N] [--form=FORM] ...

Estimates the coefficients a of jaxmix.coefficients for square images. Writes profiles.png and
profiles.csv, with a row for every pixel of every method.
"""

from collections.abc import Mapping, Sequence
import csv
import functools
import math
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from train.errors import UsageError
from train.program import program

if TYPE_CHECKING:
    from jaxmix.types import MaskFn

AREA_RATIOS = (0.25, 0.5, 0.75)
STYLES = {  # colours that the colour-blind tell apart, and dashes
    "mixup": ("#000000", (0, (1, 1))),
    "hmix area_ratio=0.25": ("#56B4E9", (0, (6, 1, 1, 1))),
    "hmix area_ratio=0.5": ("#0072B2", (0, (5, 1.5))),
    "hmix area_ratio=0.75": ("#CC79A7", (0, (3, 1, 1, 1, 1, 1))),
    "cutmix": ("#D55E00", "-"),
    "gmix": ("#009E73", "-"),
}


def masks() -> "Mapping[str, MaskFn]":
    """Returns the mask of each method by name."""
    from jaxmix import masks as lib

    framed: dict[str, MaskFn] = {
        f"hmix area_ratio={r:g}": functools.partial(lib.framed_box, area_ratio=r) for r in AREA_RATIOS
    }
    return {"mixup": lib.uniform} | framed | {"cutmix": lib.box, "gmix": lib.gaussian}


def estimate(size: int, alpha: float, form: Any, num_draws: int) -> dict[str, np.ndarray]:
    """Estimates coefficients and standard errors around the central pixel, [2, size, size] for each method.

    All methods use the same ratios, so their differences are more precise than their values.
    """
    import jax

    from jaxmix import coefficients

    profile = functools.partial(
        coefficients.profile, anchor=(size // 2, size // 2), alpha=alpha, form=form, num_draws=num_draws
    )
    drawn = {name: profile(mask, (size, size), jax.random.key(0)) for name, mask in masks().items()}
    return {name: np.stack([one.quadratic, one.quadratic_error]) for name, one in drawn.items()}


def write(estimates: Mapping[str, np.ndarray], path: pathlib.Path) -> None:
    """Writes a row for every pixel of every method."""
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["method", "dy", "dx", "distance", "coefficient", "standard_error"])
        for name, estimated in estimates.items():
            for (y, x), value in np.ndenumerate(estimated[0]):
                dy, dx = y - estimated.shape[1] // 2, x - estimated.shape[2] // 2
                distance = f"{math.hypot(dy, dx):.4f}"
                table.writerow([name, dy, dx, distance, f"{value:.6f}", f"{estimated[1, y, x]:.6f}"])


def draw(estimates: Mapping[str, np.ndarray], title: str, path: pathlib.Path) -> None:
    """Draws curves along the row to the left of the central pixel, and a map for every method."""
    from train.running import figures

    size = next(iter(estimates.values())).shape[-1]
    centre = size // 2
    columns = -(-len(estimates) // 2)
    drawn = figures.figure(6 + 2 * columns, 4.6)
    grid = drawn.add_gridspec(2, 1 + columns, width_ratios=[2.6, *[1] * columns])
    curves = drawn.add_subplot(grid[:, 0])
    for name, (values, _) in sorted(estimates.items(), key=lambda entry: -entry[1][0][centre, centre]):
        colour, dashes = STYLES.get(name, (None, "-."))
        row = values[centre, centre::-1]
        over = 2 if dashes == "-" else 3
        curves.plot(np.arange(centre + 1), row, color=colour, linestyle=dashes, linewidth=2, zorder=over, label=name)
    curves.set(xlabel="distance from the central pixel along its row", ylabel="coefficient a")
    curves.set(xlim=(0, centre), ylim=(0, None))
    curves.grid(alpha=0.3)
    curves.spines[["top", "right"]].set_visible(False)
    curves.legend(frameon=False, handlelength=3.5)
    cells = [drawn.add_subplot(grid[i // columns, 1 + i % columns]) for i in range(len(estimates))]
    most = max(values.max() for values, _ in estimates.values())
    extent = (-centre - 0.5, size - centre - 0.5, size - centre - 0.5, -centre - 0.5)
    for place, (cell, (name, (values, _))) in enumerate(zip(cells, estimates.items(), strict=True)):
        shown = cell.imshow(values, cmap="viridis", vmin=0, vmax=most, extent=extent)
        cell.set_title(name, fontsize=10)
        left, bottom = place % columns == 0, place >= len(cells) - columns
        cell.set(xlabel="dx (pixels)" if bottom else "", ylabel="dy (pixels)" if left else "")
        cell.tick_params(labelsize=8, labelbottom=bottom, labelleft=left)
        cell.locator_params(nbins=5)
    drawn.colorbar(shown, ax=cells, label="coefficient a", shrink=0.9)
    drawn.suptitle(title, fontsize=11)
    drawn.savefig(path, dpi=100)


def parse(argv: Sequence[str]) -> Any:
    """Reads the flags."""
    from train import cli

    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    folder = pathlib.Path("runs") / "coefficients"
    add("--out", metavar="FOLDER", type=pathlib.Path, default=folder, help="folder to write to (%(default)s)")
    add("--alpha", metavar="A", type=float, default=1.0, help="concentration of the ratio's Beta, > 0 (%(default)s)")
    add("--size", metavar="N", type=int, default=32, help="side of the images in pixels, at least 2 (%(default)s)")
    add("--form", choices=("paper", "exact"), default="paper", help="form of the coefficients (%(default)s)")
    add("--num_draws", metavar="N", type=int, default=2**17, help="number of masks to draw per method (%(default)s)")
    flags = parser.parse_args(argv)
    if not 0 < flags.alpha < math.inf:
        raise UsageError(f"--alpha must be positive and finite, got {flags.alpha:g}")
    for name in ("size", "num_draws"):
        if getattr(flags, name) < 2:
            raise UsageError(f"--{name} must be at least 2, got {getattr(flags, name)}")
    flags.out = flags.out.expanduser()
    return flags


def make(folder: pathlib.Path) -> None:
    """Makes the output folder, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out={folder}: {error.strerror}: name a folder to write to") from None


@program("train.coefficients")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    flags = parse(argv)
    make(flags.out)
    estimates = estimate(flags.size, flags.alpha, flags.form, flags.num_draws)
    title = f"how strongly mixing ties the pixels of {flags.size} x {flags.size} to the central one"
    draw(estimates, f"{title} ({flags.form} form, alpha = {flags.alpha:g})", flags.out / "profiles.png")
    write(estimates, flags.out / "profiles.csv")
    for name in ("profiles.png", "profiles.csv"):
        print(flags.out / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
