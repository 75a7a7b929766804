"""The axes of a sample, and how what each of them has makes a mask."""

from jax import Array
import jax.numpy as jnp

from jaxmix.types import Space


def rank(space: Space) -> int:
    """The number of axes longer than 1, of which there has to be one."""
    rank = sum(length > 1 for length in space)
    if rank == 0 or 0 in space:
        raise ValueError(
            f"this mask needs an axis longer than 1, and none of length 0; space is {space}: "
            "pass samples [n, *space, channels], or use the uniform mask (mixup)"
        )
    return rank


def spread(parts: list[Array]) -> list[Array]:
    """Lays what each axis has, [n, length], along that axis: together they broadcast to [n, *space]."""
    axes = range(1, len(parts) + 1)
    return [jnp.expand_dims(part, [o for o in axes if o != axis]) for axis, part in zip(axes, parts, strict=True)]
