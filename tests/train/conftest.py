"""What the tests of the trainer share: small runs, the digits, Fashion-MNIST as tfds prepares it."""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from orbax import checkpoint
import pytest

from train import config, data, models
from train.data import augmentation
from train.learning import steps
from train.running import parallel

ROOT = pathlib.Path(__file__).parents[2]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell: runs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _promotion_as_optax_and_flax_need_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def digits():
    return data.load(config.Data())


@pytest.fixture(scope="session")
def fashion_mnist(common):
    """The folder into which the real builder prepared Fashion-MNIST, once for all workers."""
    original = os.environ.get("JAXMIX_FASHION_MNIST")
    if not original:
        pytest.skip("JAXMIX_FASHION_MNIST names no folder with the four original files")
    folder = common / "tfds"
    with locked(common / "tfds.lock"):
        command = ["train.prepare", "fashion_mnist", f"--data_dir={folder}", f"--manual_dir={original}"]
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True, timeout=300)
    return folder


@contextlib.contextmanager
def locked(path):
    """One worker at a time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def once(common, name, make, folder):
    """A copy of the folder that make(folder) leaves, which is called once for all workers."""
    with locked(common / f"{name}.lock"):
        if not (common / name).exists():
            shutil.rmtree(common / f"{name}.making", ignore_errors=True)
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                make(common / f"{name}.making")
                (common / f"{name}.making").rename(common / name)
    shutil.copytree(common / name, folder)
    return folder


def small_config(**mix):
    """Two epochs of the digits, 22 steps, by a small network."""
    return config.Config(model=config.Model(width=4), mix=config.Mix(**mix), num_epochs=2)


def start(*arguments, devices=1, cache=None, under=(), flags=""):
    """A run of train.main in a process of its own, under another command; cache is a folder of compiled programs."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices} {flags}"
    caching = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | (caching if cache else {}) | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [*under, sys.executable, "-m", "train.main", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments, **options):
    """A whole run of train.main, with the options of start."""
    with start(*arguments, **options) as process:
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def final_state(folder, step):
    """As numpy arrays, on whatever devices they were."""
    path = folder.resolve() / "checkpoints" / str(step) / "state"
    with checkpoint.Checkpointer(checkpoint.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: checkpoint.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(path, args=checkpoint.args.PyTreeRestore(restore_args=as_numpy))


def rows(folder):
    measured = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in measured]


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def setup(dataset, objective, rng=0, augment="", optimizer=None, accumulate=1, ema=0.0, **model):
    """A step's parts: a small model, its state, the training split."""
    split = dataset.splits["train"]
    built = models.build(config.Config(model=config.Model(**({"width": 4} | model))), split.shape, dataset.num_classes)
    optimizer = optimizer or optax.adam(1e-2)
    state = steps.init(built, optimizer, jax.random.key(rng), jnp.zeros((1, *split.shape)), ema=ema)
    samples = steps.Samples(*split.resident, dataset.mean, dataset.std)
    step = functools.partial(
        steps.train_step,
        model=built,
        augment=augmentation.build(augment, split.shape),
        objective=objective,
        optimizer=optimizer,
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS,
        accumulate=accumulate,
        ema=ema,
    )
    return built, state, samples, step
