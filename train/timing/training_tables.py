"""Tables of times beyond single calls: training steps, devices of one CPU, and other libraries."""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

from train import data
from train.config import Config, Data, Mix, Model
from train.data import splits
from train.errors import UsageError
from train.timing import cost, peers
from train.timing.report import Cell, Table

RANGE, EMBEDDINGS, LOGITS = "alpha=(0.5, 2.0)", "embeddings", "logits"
MIXES = {
    "erm": Mix("erm"),
    "mixup": Mix("mixup"),
    "cutmix": Mix("cutmix"),
    "hmix": Mix("hmix"),
    "gmix": Mix("gmix"),
    "kmixup k=16, exact": Mix("kmixup(k=16, solver='exact')"),
    "kmixup k=16, sinkhorn": Mix("kmixup(k=16)"),
    "mixup of embeddings": Mix("mixup", EMBEDDINGS),
    "multimix of embeddings": Mix("multimix(num_mixed=1000)", EMBEDDINGS),
    "multimix of logits": Mix("multimix(num_mixed=1000)", LOGITS),
    "multimix of logits, alpha in [.5, 2]": Mix(f"multimix(num_mixed=1000, {RANGE})", LOGITS),
    "dense multimix": Mix("dense_multimix(num_mixed=1000)"),
    "dense multimix, alpha in [.5, 2]": Mix(f"dense_multimix(num_mixed=1000, {RANGE})"),
    "dense multimix, draws per position": Mix("dense_multimix(num_mixed=1000, per_position=True)"),
}
ROOT = pathlib.Path(__file__).parents[2]


def training_steps(rounds: int, n: int = 128, size: int = 28, mixes: Sequence[str] = tuple(MIXES)) -> Table:
    """Steps of a small CNN, by method."""
    ratios = cost.step_ratios({name: config(n, MIXES[name]) for name in mixes}, dataset(n, size), rounds)
    title = f"Training steps of the CNN of the comparisons, {n} x {size} x {size} x 1, 1,000 points of the hull"
    return Table(title, ["method", "/ erm"], [[name, ratio] for name, ratio in ratios.items() if name != "erm"])


def scaling(rounds: int, counts: Sequence[int] = (1, 2, 4), repeats: int = 3) -> Table:
    """What the same steps take of the processor and of the clock, by the number of devices that it is split into."""
    answers = {count: [_answer("train.timing.scaling", rounds, count) for _ in range(repeats)] for count in counts}
    used = {count: np.array(answer).T for count, answer in answers.items()}
    base = np.median(used[counts[0]], axis=1)
    rows: list[list[Cell]] = []
    for count, times in used.items():
        pairs = zip(times, base, strict=True)
        cells = [cell for row, one in pairs for cell in (cost.quartiles(1e3 * row), cost.quartiles(row / one))]
        rows.append([str(count), *cells])
    against = f"/ {counts[0]} device"
    return Table(
        "Devices of one CPU: steps of mixup, 128 images in all",
        ["devices", "ms of all cores", against, "ms of the clock", against],
        rows,
    )


def others(rounds: int) -> Table:
    """Other libraries, each on one core."""
    sizes = [f"{n} x {size} x {size} x 3" for n, size in peers.BATCHES]
    columns = [heading for size in sizes for heading in (f"{size}, ms", "/ jaxmix")]
    return Table(
        "Other libraries, one core", ["method", "drawn per", "by", *columns], _answer("train.timing.peers", rounds)
    )


def config(n: int, mix: Mix) -> Config:
    """Of the CNN of the comparisons."""
    return Config(data=Data(batch_size=n), model=Model(width=16), mix=mix)


def dataset(n: int, size: int) -> data.Dataset:
    """One batch of noise."""
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 1)).astype(np.uint8)
    split = splits.InMemory(images, np.arange(n, dtype=np.int32) % 10)
    return data.Dataset({"train": split}, 10, np.full(1, 0.5, np.float32), np.full(1, 0.3, np.float32))


def _answer(module: str, *arguments: int) -> Any:
    """What a program of this project prints as JSON, on the CPU."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(
            f"python -m {module} failed: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}"
        )
    return json.loads(done.stdout.splitlines()[-1])
