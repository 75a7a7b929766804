"""One table of all methods, and data to mix; every general claim is tested over the table."""

import functools
import os

import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)

_transport = functools.partial(jaxmix.pairings.transport, k=2, solver="exact")

# MixFns over images that keep shapes. All of them take any n that 4 divides at least twice.
METHODS = {
    "mixup": jaxmix.mixup,
    "mixup_shared": functools.partial(jaxmix.mixup, alpha=0.4, shared=True, pairing=jaxmix.pairings.roll),
    "cutmix": jaxmix.cutmix,
    "cutmix_shared": functools.partial(jaxmix.cutmix, alpha=0.4, shared=True),
    "hmix": jaxmix.hmix,
    "gmix": jaxmix.gmix,
    "kcutmix": functools.partial(jaxmix.cutmix, pairing=_transport),
    "kmixup": functools.partial(jaxmix.kmixup, k=4),
    "varmixup": functools.partial(jaxmix.varmixup, encode=lambda x: x, decode=lambda z: z),
    "perturbed_erm": jaxmix.regularization.perturbed_erm,
    "kmixup_as_released": functools.partial(
        jaxmix.kmixup, k=4, solver="exact", cost="euclidean", groups="permute", shared=True
    ),
    "sometimes": jaxmix.sometimes(jaxmix.mixup, probability=0.5),
    "one_of": jaxmix.one_of(jaxmix.mixup, jaxmix.cutmix),
    "one_of_per_sample": jaxmix.one_of(jaxmix.mixup, jaxmix.cutmix, per_sample=True),
    "in_latent_space": jaxmix.in_latent_space(jaxmix.mixup, encode=lambda x: x, decode=lambda x: x),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


# Modules that take minutes, in two halves of about the same length.
LONG = ("fault_test", "compare_test", "benchmark_test"), ("evaluate_test", "colabs_test", "vae_test", "fuzz_test")


def pytest_collection_modifyitems(items):
    """Begins both halves of the tests, which two workers start with, by long ones: short ones even out the end."""
    first, second = ([item for item in items if item.path.stem in stems] for stems in LONG)
    long = {*first, *second}
    short = [item for item in items if item not in long]
    middle = max(0, len(items) // 2 - len(first))
    items[:] = [*first, *short[:middle], *second, *short[middle:]]


def images(n=8, space=(6, 5), channels=8, dtype=jnp.float32, seed=0):
    """Images of whole numbers from 0 to 255: the same in every dtype but float16's and bfloat16's rounding."""
    shape = (n, *space, channels)
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)).astype(dtype)


def one_hot(n=8, dtype=jnp.float32):
    return jnp.eye(n, dtype=dtype)


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A folder of all workers of this session."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True, scope="session")
def programs(common):
    """A folder of compiled programs: tests are bound by compiling, and most of what they compile is the same."""
    folder = common / "programs"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """XLA's CPU backend aborts once thousands of programs are mapped into one process."""
    yield
    jax.clear_caches()
