"""Several devices: shards that are mixed apart under shard_map, and batches on a mesh that are mixed as one."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

import jaxmix
from jaxmix import embedding, pairings
from jaxmix.evaluation import attacks, calibration, linearity
from tests.conftest import METHODS, images, one_hot

if not hasattr(jax, "set_mesh"):
    pytest.skip("a JAX without meshes of explicit axes", allow_module_level=True)
from jax.sharding import AxisType

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)
AXIS = "devices"
HALVES = slice(0, 8), slice(8, 16)


def flat(batch):
    return batch.reshape(len(batch), -1)


def maps(batch):
    return batch.reshape(len(batch), -1, batch.shape[-1])


def classes(labels):
    """Four of sixteen."""
    return labels.reshape(len(labels), 4, 4).sum(2)


def dense_loss(batch, labels, rng):
    logits = maps(batch) / 255
    attention = jax.nn.softmax(logits.mean(-1))
    labels = labels[:, : logits.shape[-1]]
    return embedding.dense_multimix_loss(logits, labels, rng, attention=attention, num_mixed=5)[None]


# What the library does to arrays that a mesh may hold: gathers of each kind, both solvers, a branch, products.
PAIRWISE = ("mixup", "kcutmix", "kmixup", "resizemix", "saliencymix", "attentivemix", "perturbed_erm", "one_of")
FNS = {name: METHODS[name] for name in PAIRWISE} | {
    "slerp": functools.partial(METHODS["varmixup"], interpolation="slerp"),
    "multimix": lambda x, y, rng: jaxmix.multimix(flat(x), y, rng, num_mixed=5, alpha=0.3),
    "multimix_of_some": lambda x, y, rng: jaxmix.multimix(flat(x), y, rng, num_mixed=5, num_sources=3),
    "dense_multimix": lambda x, y, rng: jaxmix.dense_multimix(maps(x), y, rng, num_mixed=5),
    "dense_multimix_loss": dense_loss,
    "displacement": lambda x, y, rng: pairings.displacement(x[:, :2, :2], pairings.permutation(x, rng))[None],
    "same_class": lambda x, y, rng: jaxmix.mixup(x, classes(y), rng, pairing=pairings.same_class),
    "other_class": lambda x, y, rng: jaxmix.mixup(x, classes(y), rng, pairing=pairings.other_class),
    "similar_labels": functools.partial(
        jaxmix.mixup, pairing=functools.partial(pairings.similar_labels, bandwidth=0.5)
    ),
}


def predict(x):
    return x.mean((1, 2))


def losses(x):
    return jnp.sum(jnp.sin(x), axis=(1, 2, 3))


def keys(x, rng):
    return jax.random.split(rng, len(x))


MEASURES = {
    "pgd": lambda x, y, rng: attacks.pgd(x / 255, jnp.argmax(y, 1), keys(x, rng), predict=predict, num_steps=2),
    "gap": lambda x, y, rng: linearity.gap(x, keys(x, rng), loss=losses, epsilon=0.1, num_steps=2),
    "temperature": lambda x, y, rng: calibration.fit_temperature(predict(x) / 50, jnp.argmax(y, 1) % 8)[None],
}


def mesh(kind):
    return jax.make_mesh((2,), (AXIS,), axis_types=(kind,), devices=jax.devices()[:2])


def placed(mesh):
    return jax.device_put((images(n=16), one_hot(16)), NamedSharding(mesh, PartitionSpec(AXIS)))


@pytest.mark.parametrize("fn", [*FNS.values(), *MEASURES.values()], ids=[*FNS, *MEASURES])
def test_shard_map_gives_what_each_device_gives_alone(fn):
    """With its check of what varies over devices, which is on by default."""

    def shard(batch, labels):
        return fn(batch, labels, jax.random.fold_in(KEY, jax.lax.axis_index(AXIS)))

    apart = mesh(AxisType.Auto)
    mapped = jax.shard_map(shard, mesh=apart, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS))
    batch, labels = images(n=16), one_hot(16)
    alone = [jax.jit(fn)(batch[half], labels[half], jax.random.fold_in(KEY, i)) for i, half in enumerate(HALVES)]
    expected = jax.tree.map(lambda *parts: jnp.concatenate(parts), *alone)
    chex.assert_trees_all_close(jax.jit(mapped)(*placed(apart)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fn", FNS.values(), ids=FNS)
def test_a_batch_on_a_mesh_of_explicit_axes_is_mixed_as_one(fn):
    expected = jax.jit(fn)(images(n=16), one_hot(16), KEY)
    chex.assert_trees_all_close(jax.jit(fn)(*placed(mesh(AxisType.Explicit)), KEY), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", ["mixup", "kmixup"])
def test_a_mixed_batch_lies_where_the_batch_did(name, kind):
    before = placed(mesh(kind))
    for was, is_ in zip(before, jax.jit(METHODS[name])(*before, KEY), strict=True):
        assert is_.sharding.is_equivalent_to(was.sharding, was.ndim)


def test_gradients_reach_a_batch_on_a_mesh_of_explicit_axes():
    gradient = jax.grad(lambda batch, labels: jnp.sum(METHODS["kcutmix"](batch, labels, KEY)[0] ** 2))
    several = mesh(AxisType.Explicit)
    with jax.set_mesh(several):
        got = jax.jit(gradient)(*placed(several))
    np.testing.assert_allclose(got, jax.jit(gradient)(images(n=16), one_hot(16)), rtol=1e-5)
