"""Downloads and prepares a data set of tensorflow-datasets for training; needed once.

Usage: python -m train.prepare NAME [--data_dir=FOLDER] [--manual_dir=FOLDER]

NAME is fashion_mnist, cifar10, cifar100, svhn_cropped, imagenet2012, tfds:SET for any other, or
cifar10_corrupted for evaluation. Data go to --data_dir (by default that of tfds,
~/tensorflow_datasets). With --manual_dir they are prepared from the original files in that
folder, and need no network if all files are there. imagenet2012 always needs its files there:
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar.
"""

from collections.abc import Sequence
import pathlib
import sys

from train import config
from train.errors import UsageError
from train.program import program


@program("train.prepare")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    if {"-h", "--help"} & set(argv):
        print((__doc__ or "").strip())
        return
    from train.data import sources  # after --help, which needs no JAX

    options = dict(argument.lstrip("-").split("=", 1) for argument in argv if "=" in argument)
    names = [argument for argument in argv if "=" not in argument]
    for option in options:
        config.known("flag", option, ["data_dir", "manual_dir"], prefix="--")
    if len(names) != 1:
        raise UsageError(f"name one data set, not {len(names)} (see --help)")
    if not names[0].startswith(sources.ANY):
        config.known("data set", names[0], [*sources.RESIDENT, *sources.STREAMED, sources.CORRUPTED])
    manual_dir = pathlib.Path(options["manual_dir"]).expanduser() if "manual_dir" in options else None
    first = sources.tfds_builder(config.Data(name=names[0], data_dir=options.get("data_dir", "")))
    for part in first.builder_configs if names[0] == sources.CORRUPTED else [""]:
        name = f"{names[0]}/{part}" if part else names[0]
        builder = sources.tfds_builder(config.Data(name=name, data_dir=options.get("data_dir", "")))
        if not builder.is_prepared():
            sources.prepare(builder, manual_dir)
    print(f"{names[0]} is prepared in {builder.data_path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
