"""Times mixing against copying the memory and against hand-written code, on the devices that JAX finds.

Usage: python -m train.benchmark [--only=TABLES] [--peers] [--rounds=N] [--workdir=FOLDER] [--results=FILE] [--update]
       python -m train.benchmark --topology=v5e:2x2 [--only=TABLES] [--workdir=FOLDER] [--results=FILE] [--update]

Tables: methods (by batch size, against a copy), hand (Mixup and CutMix against hand-written ones),
programs (compile time and memory), scratch (with results that overwrite the previous ones), draws
(random numbers), transport (k-mixup by k and solver), hull (MultiMix by number of points), steps
(training steps against ERM), devices (processor time by number of devices of one CPU). --peers adds
other installed libraries, on one core. Prints the tables and writes results.json and benchmark.png.

--topology times nothing. It compiles the methods (tpu_methods), and training steps of ResNet-50
(tpu_steps), for a TPU that need not be present. The tables show how much memory they move by XLA's
estimate. This takes minutes.

--update keeps the other tables of the results. Each table records its command and date.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import importlib.metadata
import pathlib
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from train.config import known
from train.errors import UsageError
from train.program import program

if TYPE_CHECKING:
    from train.timing.report import Table

TABLES = ("methods", "hand", "programs", "scratch", "draws", "transport", "hull", "steps", "devices")
TPU_TABLES = ("tpu_methods", "tpu_steps")
PEERS = "peers"


def tables() -> "Mapping[str, Callable[[int], Table]]":
    """Returns the function that makes each table from a number of rounds."""
    from train.timing import mixing_tables, training_tables

    return {
        "methods": mixing_tables.methods,
        "hand": mixing_tables.hand,
        "programs": mixing_tables.programs,
        "scratch": mixing_tables.scratch,
        "draws": mixing_tables.draws,
        "transport": mixing_tables.transport,
        "hull": mixing_tables.hull,
        "steps": training_tables.training_steps,
        "devices": training_tables.scaling,
        PEERS: training_tables.others,
    }


@program("train.benchmark")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli
    from train.timing import peers

    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--only", metavar="TABLES", help=f"tables to make, separated by commas: {', '.join(TABLES)} (all)")
    add("--peers", action="store_true", help="also time timm, torchvision, kornia and keras, if installed")
    add("--topology", metavar="NAME", help="compile for this TPU instead, such as v5e:2x2 (needs pip install libtpu)")
    add("--rounds", metavar="N", type=int, help="number of times to measure each entry (50)")
    add(
        "--workdir",
        metavar="FOLDER",
        type=pathlib.Path,
        default="runs/benchmark",
        help="folder for the figure (%(default)s)",
    )
    add("--results", metavar="FILE", type=pathlib.Path, help="file for the results (results.json in the workdir)")
    add("--update", action="store_true", help="keep the other tables of the results")
    flags = parser.parse_args(argv)
    all_names = TPU_TABLES if flags.topology else TABLES
    names = [name for name in flags.only.split(",") if name] if flags.only is not None else list(all_names)
    for name in names:
        known("table", name, all_names)
    rounds = 50 if flags.rounds is None else flags.rounds
    if rounds < 2:
        raise UsageError(f"--rounds must be at least 2, got {rounds}")
    if flags.peers and not peers.installed():
        raise UsageError(f"--peers finds none of {', '.join(peers.PACKAGES)}: install one of them to compare with")
    names += [PEERS] * flags.peers
    if flags.topology and (flags.peers or flags.rounds is not None):
        raise UsageError("--topology times nothing: drop --peers and --rounds")
    if not names:
        raise UsageError("--only= names no table, and there is no --peers: name a table to time")

    from train.running import run_folder
    from train.timing import report as benchmark_report  # after --help and usage errors, which need no JAX

    if flags.topology:
        from train.timing import tpu_tables

        make = tpu_tables.tables(tpu_tables.device(flags.topology))
        versions = {"libtpu": importlib.metadata.version("libtpu")}
    else:
        make, versions = {name: functools.partial(table, rounds) for name, table in tables().items()}, {}
    workdir = flags.workdir.expanduser()
    results = (flags.results or workdir / "results.json").expanduser()
    for folder in (workdir, results.parent):
        folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"topology": flags.topology, "tables": {}}
    if flags.update:
        record = benchmark_report.read(results, flags.topology)
    run = {
        "command": shlex.join(["python", "-m", "train.benchmark", *argv]),
        "date": time.strftime("%Y-%m-%d"),
        "environment": run_folder.environment() | versions,
        "rounds": None if flags.topology else rounds,
    }
    for name in names:
        table = make[name]()
        record["tables"][name] = table._asdict() | run
        run_folder.write_json(results, record)
        print("\n".join([f"{table.title}.", "", *benchmark_report.markdown(table), ""]), flush=True)
    print(results)
    if "methods" in names:
        benchmark_report.draw(record, workdir / "benchmark.png")
        print(workdir / "benchmark.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
