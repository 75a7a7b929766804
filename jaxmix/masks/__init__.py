"""Where in the sample: (space, ratio, rng) -> the sample's own weight at every place.

A mask returns weights [n], one for the whole sample, or [n, *space], in float32; or, if it is
hard, booleans that are true where the sample stays: these select, and so mix any dtype.

A guided mask has an option `guide` besides: a map of every sample and of its partner, which
`jaxmix.draw` makes by its own `guide`.
"""

from jaxmix.masks.grids import grid
from jaxmix.masks.guided import salient_box, salient_cells
from jaxmix.masks.noise import fourier
from jaxmix.masks.shapes import box, framed_box, gaussian, smooth_spot, uniform

__all__ = [
    "box",
    "fourier",
    "framed_box",
    "gaussian",
    "grid",
    "salient_box",
    "salient_cells",
    "smooth_spot",
    "uniform",
]
