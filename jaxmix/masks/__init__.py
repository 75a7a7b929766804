"""Masks, which say where to mix: (space, ratio, rng) -> the sample's own weight at every place.

A mask returns float32 weights, [n] for whole samples or [n, *space] for every place. A hard mask
returns booleans, which are true where the sample stays. They select, and so mix any dtype.

A guided mask also has an option `guide`: maps of every sample and of its partner. `jaxmix.draw`
computes them by the function that its own option `guide` names.
"""

from jaxmix.masks.grids import grid
from jaxmix.masks.guided import salient_box, salient_cells
from jaxmix.masks.noise import fourier
from jaxmix.masks.shapes import box, framed_box, gaussian, uniform
from jaxmix.masks.smooth import smooth_box, smooth_spot

__all__ = [
    "box",
    "fourier",
    "framed_box",
    "gaussian",
    "grid",
    "salient_box",
    "salient_cells",
    "smooth_box",
    "smooth_spot",
    "uniform",
]
