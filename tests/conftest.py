"""One table of all methods, and those of their parts; every general claim is tested over them, and on this data."""

import functools
import gc
import inspect
import os

import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix

# Most of what tests do is compile, which takes a third of the time so. XLA ends at a flag that it does not know, hence
# the version; the runs that tests start inherit them.
RECENT = jax.__version_info__[:2] == (0, 10)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false" if RECENT else ""
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)

_transport = functools.partial(jaxmix.pairings.transport, k=2, solver="exact")


def public(module, *arguments):
    """The functions of a module that are called with these arguments, the first of any name, and need no option."""
    found = {}
    for name, value in vars(module).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            parameters = inspect.signature(value).parameters.values()
            needed = [p.name for p in parameters if p.default is p.empty]
            if needed[1:] == list(arguments):
                found[name] = value
    return found


# MixFns over images that keep shapes: all of the library, and more. They take any n that 4 divides at least twice.
METHODS = public(jaxmix, "labels", "rng") | {
    "mixup_shared": functools.partial(jaxmix.mixup, alpha=0.4, shared=True, pairing=jaxmix.pairings.roll),
    "cutmix_shared": functools.partial(jaxmix.cutmix, alpha=0.4, shared=True),
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

# MixFns over embeddings, and over feature maps, that return as many rows as asked for.
HULLS = {
    "multimix": functools.partial(jaxmix.multimix, num_mixed=5),
    "dense_multimix": functools.partial(jaxmix.dense_multimix, num_mixed=5),
}
PAIRINGS = public(jaxmix.pairings, "rng") | {
    "transport": functools.partial(jaxmix.pairings.transport, k=3),
    "similar_labels": functools.partial(jaxmix.pairings.similar_labels, bandwidth=1.0),
}
MASKS = public(jaxmix.masks, "ratio", "rng") | {
    "framed_box": functools.partial(jaxmix.masks.framed_box, area_ratio=0.5),
}


def brightness(batch):
    """A guide: the mean over channels of the leaf that leads."""
    return jnp.mean(max(jax.tree.leaves(batch), key=jnp.ndim), axis=-1, dtype=jnp.float32)


def seen_by(mask):
    """What a draw needs besides, if a mask is guided."""
    return {"guide": brightness} if "guide" in inspect.signature(mask).parameters else {}


def middle(batch):
    """A guide: the middle of every sample, so that no box around it is clipped."""
    shape = max(jax.tree.leaves(batch), key=jnp.ndim).shape[:-1]
    return jnp.zeros(shape).at[(slice(None), *(length // 2 for length in shape[1:]))].set(1)


def options(method):
    """What a method may be given besides batch, labels and rng, and what it is by default."""
    return {name: parameter.default for name, parameter in list(inspect.signature(method).parameters.items())[3:]}


def taking(*names):
    """The methods that jaxmix has under their names in the table and that take these options."""
    return [name for name in METHODS if hasattr(jaxmix, name) and {*names} <= {*options(METHODS[name])}]


@functools.cache
def needs_space(name):
    """Whether the mask of a method has a place, so that tables are refused."""
    try:
        jax.eval_shape(METHODS[name], jnp.ones((8, 3)), jnp.eye(8), jax.random.key(0))
    except ValueError as error:
        return "this mask needs an axis longer than 1" in str(error)
    return False


@functools.cache
def selects(name):
    """Whether the mask of a method is of booleans, so that leaves may have any dtype."""
    batch = {"image": jnp.ones((8, 6, 5, 1)), "map": jnp.ones((8, 6, 5), jnp.int32)}
    try:
        jax.eval_shape(METHODS[name], batch, jnp.eye(8), jax.random.key(0))
    except TypeError as error:
        return "cannot be blended" not in str(error)
    return True


@functools.cache
def moves(name):
    """Whether what a method shows at a place may come from other places, so that equal images are mixed, too."""
    batch = jnp.broadcast_to(images(1), (8, 6, 5, 8))
    return not np.allclose(METHODS[name](batch, jnp.eye(8), jax.random.key(0))[0], batch, rtol=1e-5)


def group_size(name, k):
    """How many samples a method matches with as many: k where that can be chosen."""
    chosen = options(METHODS[name])
    return k if "k" in chosen else getattr(chosen.get("pairing"), "keywords", {}).get("k", 1)


def quickly(*names, of=METHODS):
    """These methods, and all others among the slow tests, new ones too: for claims with a cheaper one beside them."""
    return [pytest.param(name, marks=[] if name in names else pytest.mark.slow) for name in of]


def function(part):
    """What a partial is of."""
    return part.func if isinstance(part, functools.partial) else part


def pytest_collection_finish():
    """What is imported stays: it need not be looked through for garbage again, a tenth of the time of all tests."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def pytest_report_header(config):
    """Says what is left out."""
    return None if config.option.markexpr != "not slow" else "without the slow tests: python -m pytest -m '' runs all"


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


def x64():
    """A context in which numbers may have 64 bits."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


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
    """A folder of compiled programs: tests are bound by compiling, and most long programs are compiled more than once.

    Those of single operations take as long to write and to read.
    """
    folder = common / "programs"
    if not RECENT:  # jaxlib 0.5.3 computes otherwise with programs that it reads back: infinities are lost
        return folder
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    compilation_cache.reset_cache()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_end_with_their_module():
    """XLA's CPU backend aborts once thousands of programs are mapped into one process."""
    yield
    jax.clear_caches()
