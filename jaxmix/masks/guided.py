"""Masks that look at a guide and take the most salient part of the partner."""

import math
import operator

from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.masks import axes
from jaxmix.types import Guide, Space

BEYOND = 2.0**120  # in place of what is infinite: beyond any guide, and its means are finite


def salient_box(
    space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, guide: Guide | None = None
) -> Bool[Array, "n *space"]:
    r"""Gives the box around the partner's most salient place to the partner: SaliencyMix' mask.

    The box has the sides of `box`: :math:`(1 - \lambda)^{1/r}` times the length of each of the r
    axes longer than 1. Its centre is the place where the partner's guide is highest, the first on
    a tie. NaN counts as -inf. The box is clipped to the sample.

    Args:
      space: the lengths of the sample's axes, such as (h, w); axes of length 1 are covered
        whole.
      ratio: each sample's own share, [n], in [0, 1].
      rng: ignored.
      guide: maps of every sample and of its partner, [n, *space] or coarser; `jaxmix.draw` passes
        them. A coarse place stands for the middle of the places that it covers.

    Returns:
      Booleans [n, *space]: False inside the box, True outside.

    Raises:
      ValueError: if no axis of space is longer than 1, an axis has length 0, or there is no
        guide.

    Example:
      >>> guide = types.Guide(own=jnp.zeros((1, 4)), partner=jnp.array([[0.0, 0.0, 1.0, 0.0]]))
      >>> masks.salient_box((4,), jnp.array([0.5]), jax.random.key(0), guide=guide)
      Array([[ True, False, False,  True]], dtype=bool)

    References:
      Uddin et al., `SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better
      Regularization <https://arxiv.org/abs/2006.01791>`_, 2021
    """
    del rng
    axes.rank(space)
    maps = _partner(guide, space)
    highest = jnp.unravel_index(jnp.argmax(maps.reshape(len(maps), -1), axis=1), maps.shape[1:])
    centres = [
        (2 * place.astype(jnp.int32) + 1) * length // (2 * places)
        for place, length, places in zip(highest, space, maps.shape[1:], strict=True)
    ]
    return ~axes.inside(axes.box_sides(space, 1 - ratio, centres))


def salient_cells(
    space: Space, ratio: Float[Array, " n"], rng: PRNGKeyArray, *, guide: Guide | None = None, cells: int = 7
) -> Bool[Array, "n *space"]:
    r"""Gives the cells in which the partner is most salient to the partner: Attentive CutMix' mask.

    A regular grid divides the sample into m cells. The partner gets :math:`(1 - \lambda) m` of
    them, rounded: those where the mean of its guide is highest, the first on a tie. A cell with
    an infinite place comes first or last, by the sign. NaN counts as -inf.

    Args:
      space: the lengths of the sample's axes, such as (h, w).
      ratio: each sample's own share, [n], in [0, 1].
      rng: ignored.
      guide: maps of every sample and of its partner, [n, *space] or coarser; `jaxmix.draw` passes
        them.
      cells: number of cells along each axis, at most the number of places of the axis and of the
        guide.

    Returns:
      Booleans [n, *space]: False in the partner's cells, True elsewhere.

    Raises:
      ValueError: if no axis of space is longer than 1, an axis has length 0, there is no guide,
        or cells is less than 1.

    Example:
      >>> guide = types.Guide(own=jnp.zeros((1, 4)), partner=jnp.array([[0.0, 3.0, 1.0, 1.0]]))
      >>> masks.salient_cells((4,), jnp.array([0.5]), jax.random.key(0), guide=guide, cells=2)
      Array([[False, False,  True,  True]], dtype=bool)

    References:
      Walawalkar et al., `Attentive CutMix: An Enhanced Data Augmentation Approach for Deep
      Learning Based Image Classification <https://arxiv.org/abs/2003.13048>`_, 2020
    """
    del rng
    axes.rank(space)
    checks.at_least_one("cells", cells)
    maps = _partner(guide, space)
    grid = [min(operator.index(cells), length, places) for length, places in zip(space, maps.shape[1:], strict=True)]
    means = axes.averaged(maps, grid)
    order = jnp.argsort(-means.reshape(len(means), -1), axis=1)
    place_in_order = jnp.argsort(order, axis=1).reshape(means.shape).astype(jnp.float32)
    count = jnp.round((1 - ratio) * math.prod(grid))
    own = place_in_order >= jnp.expand_dims(count, range(1, means.ndim))
    matrices = [axes.cells(length, count).T for length, count in zip(space, grid, strict=True)]
    return axes.along(own.astype(jnp.float32), matrices) > 0.5


def _partner(guide: Guide | None, space: Space) -> Float[Array, "n *places"]:
    """Returns the partner's guide, made finite: an infinite place must not reach the mean of another cell."""
    if guide is None:
        raise ValueError(
            "this mask looks at a guide: give the draw one, such as guide=saliency.spectral_residual, "
            "a function from the batch to maps [n, *space]"
        )
    if guide.partner.ndim != 1 + len(space):
        raise ValueError(
            f"the guide has shape {guide.partner.shape}, where [n, *places] was expected for space {space}"
        )
    return jnp.nan_to_num(guide.partner.astype(jnp.float32), nan=-BEYOND, posinf=BEYOND, neginf=-BEYOND)
