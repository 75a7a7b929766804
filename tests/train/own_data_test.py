"""A user's own data: folders of images, .npz, .csv, functions, other sets of tfds."""

import dataclasses
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
import zipfile

import jax
import numpy as np
from PIL import Image
import pytest

from tests.train.conftest import ROOT, final_state
from train import config, data, main, runs
from train.comparing import design as comparison
from train.comparing import experiments
from train.data import sources, splits, streams
from train.errors import UsageError
from train.learning import mixing
from train.measuring import others, predictor, sections, vae_report
from train.running import figures, run_folder

RNG = np.random.default_rng(0)


def load(name, **fields):
    return data.load(config.Data(name=str(name), **fields))


def pixels(n=1, height=6, width=5):
    return RNG.integers(0, 256, (n, height, width, 3), np.uint8)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)


def folder(root, classes=("a", "b"), names=("train", "test"), n=2):
    """Two images of each class in each split."""
    for split in names:
        for name in classes:
            for i, image in enumerate(pixels(n)):
                save(root / split / name / f"{i}.png", image)
    return root


def refused(name, message, **fields):
    """The error is of one line and says so."""
    with pytest.raises(UsageError, match=message) as raised:
        load(name, **fields)
    assert "\n" not in str(raised.value)


# --- folders


def test_the_same_images_in_a_folder_and_in_an_npz_are_the_same_data_set(tmp_path):
    """Bit for bit, means and deviations included, in whichever order the .npz has those to train on."""
    arrays = same_twice(tmp_path)
    ours, theirs = load(tmp_path / "folder"), load(tmp_path / "file.npz")
    for split in ("train", "test"):
        np.testing.assert_array_equal(ours.splits[split].inputs, theirs.splits[split].inputs)
        np.testing.assert_array_equal(ours.splits[split].labels, theirs.splits[split].labels)
    np.testing.assert_array_equal(theirs.splits["test"].inputs, arrays["test_images"])
    np.testing.assert_array_equal((ours.mean, ours.std), (theirs.mean, theirs.std))
    assert ours.class_names == theirs.class_names == tuple(map(str, range(12)))


def same_twice(root):
    """Images in root/folder and root/file.npz, which has those to train on shuffled; its arrays."""
    arrays = {}
    for split, n in (("train", 60), ("test", 24)):
        images, labels = pixels(n, 8, 8), np.repeat(np.arange(12), n // 12)
        labels = RNG.permutation(labels) if split == "train" else labels
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            save(root / "folder" / split / str(label) / f"{i}.png", image)
    np.savez(root / "file.npz", **arrays, class_names=np.array([str(i) for i in range(12)]))
    return arrays


@pytest.mark.slow
def test_the_page_s_examples_of_own_data_run(tmp_path, monkeypatch, capsys):
    """As they stand there, but for one epoch of small networks.

    A folder and an .npz of the same images give the same parameters, and go on with these images only.
    """
    page = (ROOT / "train" / "README.md").read_text()
    section = page[page.index("\n## Your own data") : page.index("\n## What is mixed")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    small = [f"--config.{field}" for field in ("model.name=mlp", "model.width=4", "mix.policy=mixup", "num_epochs=1")]
    for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        assert block.count("\n") <= 15
        making, *runs = block.split("python -m train.main ")
        with_this_python = making.replace("python -c", f"'{sys.executable}' -c")
        subprocess.run(["bash", "-ec", with_this_python], check=True, timeout=120)
        for flags in runs:
            [name] = re.findall(r"data\.name=(\S+)", flags)
            assert main.main([*flags.split(), *small, f"--workdir=run-{name.strip('/')}"]) == 0
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert {"run-mine:splits", "run-mine.csv"} <= {path.name for path in tmp_path.iterdir()}
    ours, theirs = (final_state(tmp_path / f"run-{name}", 11)["params"] for name in ("my_digits", "my_digits.npz"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)

    next((tmp_path / "my_digits" / "train" / "0").iterdir()).unlink()
    capsys.readouterr()
    predictor.load(tmp_path / "run-my_digits")
    assert "my_digits/ has changed since" in capsys.readouterr().out
    again = ["--config.data.name=my_digits/", "--config.data.channels=1", *small, "--workdir=run-my_digits"]
    assert main.main(again) == 2
    assert "has a run on other data, since my_digits/ has changed" in capsys.readouterr().err


def trained_on(name):
    """A few steps of a small network."""
    return config.Config(
        data=config.Data(name=str(name), batch_size=20),
        model=config.Model(name="mlp", width=4, depth=1),
        mix=config.Mix("mixup"),
        num_epochs=1,
    )


def test_classes_have_their_folders_names_in_natural_order(tmp_path):
    names = ("10", "2", "été chaud", "b 1", "Ä")
    dataset = load(folder(tmp_path, names))
    assert dataset.class_names == ("2", "10", "b 1", "Ä", "été chaud")
    assert dataset.splits["train"].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_two_spellings_of_an_accent_are_one_class(tmp_path):
    folder(tmp_path, ("e\N{COMBINING ACUTE ACCENT}", "b"), ("train",))
    folder(tmp_path, ("\N{LATIN SMALL LETTER E WITH ACUTE}", "b"), ("test",))
    assert load(tmp_path).class_names == ("b", "\N{LATIN SMALL LETTER E WITH ACUTE}")


@pytest.mark.parametrize("other", ["validation", "val"])
def test_a_folder_without_a_test_split_is_tested_on_its_validation_split(other, tmp_path):
    assert len(load(folder(tmp_path, names=("train", other))).splits["test"]) == 4


def test_a_folder_of_classes_is_split_in_each_class_alike_for_all_seeds(tmp_path):
    """The seeds of a comparison draw what is held out, and never what others are tested on."""
    folder(tmp_path, ("a", "b"), (".",), n=10)
    one, other = (load(tmp_path, split_seed=seed, num_validation=4) for seed in (1, 2))
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        assert np.bincount(one.splits[split].labels).tolist() == [count, count]
    np.testing.assert_array_equal(one.splits["test"].inputs, other.splits["test"].inputs)
    assert not np.array_equal(one.splits["validation"].inputs, other.splits["validation"].inputs)
    every = {image.tobytes() for split in one.splits.values() for image in split.inputs}
    assert len(every) == 20


def test_names_that_only_differ_in_zeros_have_one_order_in_both_splits(tmp_path):
    """Equal as numbers, and one of them spelt with a combining accent in one split."""
    accents = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"
    for split, (first, second) in (("train", accents), ("test", accents[::-1])):
        for name, level in ((f"{first}1", 10), (f"{second}01", 20)):
            save(tmp_path / split / name / "0.png", np.full((6, 5, 3), level, np.uint8))
    dataset = load(tmp_path)
    assert dataset.class_names == (f"{accents[0]}01", f"{accents[0]}1")
    for split in dataset.splits.values():
        assert [image[0, 0, 0] for image in split.inputs[np.argsort(split.labels)]] == [20, 10]


def test_images_are_cut_to_the_square_in_their_middle(tmp_path):
    ramp = np.broadcast_to(5 * np.arange(40, dtype=np.uint8)[None, :, None], (20, 40, 3))
    save(folder(tmp_path) / "train" / "a" / "0.png", ramp)
    square = load(tmp_path, image_size=10).splits["train"].inputs[0]
    assert square.shape == (10, 10, 3)
    np.testing.assert_allclose(square[5, 1:-1, 0], 5 * (10 + 2 * np.arange(10) + 0.5)[1:-1], atol=1)


def test_a_run_reads_pictures_as_it_read_its_folder(tmp_path):
    """Of another size and mode than the run's; the square in the middle."""
    ramp = np.broadcast_to(5 * np.arange(40, dtype=np.uint8)[None, :, None], (20, 40, 3))
    save(folder(tmp_path) / "train" / "a" / "0.png", ramp)
    Image.fromarray(ramp[..., 0]).save(tmp_path / "train" / "a" / "0.bmp")
    dataset = load(tmp_path, image_size=10)
    run = runs.Run(config.Config(data=config.Data(name=str(tmp_path))), dataset, None)
    read = run.read([tmp_path / "train" / "a" / "0.png", str(tmp_path / "train" / "a" / "0.bmp")])
    np.testing.assert_array_equal(read, dataset.splits["train"].inputs[[1, 0]])
    assert run.read([]).shape == (0, 10, 10, 3)
    with pytest.raises(UsageError, match=r"cannot read .*nothing\.png"):
        run.read([tmp_path / "nothing.png"])
    with pytest.raises(UsageError, match="read takes a list of files"):
        run.read("photo.jpg")
    table = runs.Run(config.Config(data=config.Data(name="iris")), data.load(config.Data(name="iris")), None)
    with pytest.raises(UsageError, match="this run was trained on rows of 4 numbers, not on images"):
        table.read([])


def test_the_page_s_command_for_photographs_fits(tmp_path, monkeypatch, capsys):
    """As it stands there, but for the size of a batch, and without training."""
    page = (ROOT / "train" / "README.md").read_text()
    section = page[page.index("\n## Your own data") : page.index("\n## What is mixed")]
    [command] = re.findall(r"^    python -m train\.main ((?:.*\\\n)*.*)", section, re.MULTILINE)
    folder(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    flags = shlex.split(command.replace("\\\n", " "))
    assert main.main([*flags, "--config.data.batch_size=4", "--dry_run"]) == 0
    assert "one_of(mixup(alpha=0.8), cutmix)" in capsys.readouterr().out


def test_images_of_several_sizes_need_one_to_be_cut_to(tmp_path):
    save(folder(tmp_path) / "test" / "b" / "9.png", pixels(1, 7, 5)[0])
    refused(tmp_path, r"9\.png has 7 x 5 pixels and the first 6 x 5: give data\.image_size")
    assert load(tmp_path, image_size=4).splits["test"].shape == (4, 4, 3)


def kinds():
    """Images of all kinds of one gray of 100 (or its like), and how they are saved."""
    gray = Image.new("L", (5, 6), 100)
    palette = Image.new("P", (5, 6), 1)
    palette.putpalette([0, 0, 0, 100, 100, 100])
    cmyk = Image.new("CMYK", (5, 6), (155, 155, 155, 0))
    return {
        "gray.png": (gray, {}),
        "la.png": (gray.convert("LA"), {}),
        "rgba.png": (Image.merge("RGBA", (gray, gray, gray, Image.new("L", (5, 6), 255))), {}),
        "sixteen_keyed.png": (Image.fromarray(np.full((6, 5), 100 * 257, np.uint16)), {"transparency": 5}),
        "bits32.tif": (Image.fromarray(np.full((6, 5), 100 * 257, np.int32)), {}),
        "lab.tif": (Image.frombytes("LAB", (5, 6), bytes([108, 0, 0]) * 30), {}),
        "half.png": (Image.new("RGBA", (5, 6), (200, 200, 200, 128)), {}),
        "palette.gif": (palette, {}),
        "transparent.png": (palette, {"transparency": b"\xff\xff"}),
        "cmyk.tif": (cmyk, {}),
        "cmyk.jpg": (cmyk, {"quality": 100}),
        "sixteen.png": (Image.fromarray(np.full((6, 5), 100 * 257, np.uint16)), {}),
        "sixteen.pgm": (Image.fromarray(np.full((6, 5), 100 * 257, np.uint16)), {}),
        "sixteen.tif": (Image.fromarray(np.full((6, 5), 100 * 257, np.uint16)), {}),
        "UPPER.JPG": (gray, {"format": "JPEG"}),
        "a.webp": (gray.convert("RGB"), {"lossless": True}),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", kinds())
def test_images_of_every_kind_become_gray_or_rgb(name, channels, tmp_path):
    image, options = kinds()[name]
    save(folder(tmp_path) / "train" / "a" / name, image, **options)
    train = load(tmp_path, channels=channels).splits["train"]
    assert train.inputs.shape == (5, 6, 5, channels)
    [found] = [one for one in train.inputs if one.std() < 2]
    np.testing.assert_allclose(found, 100, atol=1)


def test_what_is_transparent_is_black(tmp_path):
    save(folder(tmp_path) / "train" / "a" / "0.png", Image.new("RGBA", (5, 6), (200, 10, 30, 0)))
    keyed = np.full((6, 5), 40_000, np.uint16)
    save(tmp_path / "train" / "a" / "1.png", Image.fromarray(keyed), transparency=40_000)
    inputs = load(tmp_path).splits["train"].inputs
    assert inputs[0].max() == inputs[1].max() == 0


def test_images_are_turned_as_their_exif_says(tmp_path):
    upright = pixels(1, 6, 5)[0]
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter, clockwise
    save(folder(tmp_path) / "train" / "a" / "0.png", np.rot90(upright).copy(), exif=turned)
    np.testing.assert_array_equal(load(tmp_path).splits["train"].inputs[0], upright)


def test_files_that_are_no_images_and_hidden_ones_are_passed_over(tmp_path):
    train = folder(tmp_path) / "train"
    for path in (train / "a" / "notes.txt", train / "a" / "._0.png", train / ".cache" / "x.png", train / "list.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("none")
    dataset = load(tmp_path)
    assert len(dataset.splits["train"]) == 4
    assert dataset.class_names == ("a", "b")


def test_folders_within_a_class_and_links_are_followed(tmp_path):
    train, away = folder(tmp_path / "set") / "train", tmp_path / "away"
    for i, name in enumerate(("deep/er/2.png", "deep/10.png")):
        save(train / "a" / name, np.full((6, 5, 3), i, np.uint8))
    save(away / "x.png", np.full((6, 5, 3), 2, np.uint8))
    (train / "a" / "link").symlink_to(away)
    (train / "a" / "z.png").symlink_to(away / "x.png")
    inputs = load(tmp_path / "set").splits["train"].inputs
    assert len(inputs) == 8
    assert [image[0, 0, 0] for image in inputs[2:6]] == [1, 0, 2, 2]


def test_links_that_go_in_a_circle_or_nowhere_are_named(tmp_path):
    link = folder(tmp_path) / "train" / "a" / "link.png"
    link.symlink_to(tmp_path / "nowhere")
    refused(tmp_path, r"cannot read .*link\.png, No such file")
    link.unlink()
    link.symlink_to(tmp_path / "train" / "a")
    refused(tmp_path, r"link\.png is a link to a folder that contains it")


def break_image(path):
    save(path, pixels(1, 60, 60)[0])
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "message", "fields"),
    [
        (lambda root: break_image(root / "train/a/0.png"), r"cannot read .*a/0\.png, .*truncated.*: replace it", {}),
        (lambda root: break_image(root / "test/b/1.png"), r"cannot read .*b/1\.png", {"image_size": 8}),
        (lambda root: (root / "train/a/0.png").write_text("text"), r"a/0\.png, which is no image: replace", {}),
        (lambda root: (root / "train/a/0.png").write_bytes(b""), r"a/0\.png, which is no image", {}),
        (
            lambda root: save(root / "train/a/0.tif", Image.new("F", (5, 6))),
            r"0\.tif, its pixels are floating-point numbers",
            {},
        ),
        (
            lambda root: save(root / "train/a/0.tif", Image.fromarray(np.full((6, 5), 70_000, np.int32))),
            r"0\.tif, its pixels range from 70000 to 70000",
            {},
        ),
        (lambda root: (root / "train/a/x.HEIC").touch(), r"x\.HEIC has a format that Pillow does not read: conv", {}),
        (lambda root: (root / "train/c").mkdir(), "train/c has no images: add some", {}),
        (lambda root: shutil.rmtree(root / "test/b"), r"test has 1 folders of classes", {}),
        (lambda root: save(root / "train/c/0.png", pixels()[0]), "class c is in .*train but not in .*test", {}),
        (lambda root: save(root / "test/c/0.png", pixels()[0]), "class c is in .*test but not in .*train", {}),
        (lambda root: shutil.rmtree(root / "test"), "has train/ but no test/: add that", {}),
        (
            lambda root: (root / "train").rename(root / "Training"),
            "test, Training but no train/|Training, test but no train/",
            {},
        ),
        (
            lambda root: [
                (root / "train").rename(root / "Train"),
                (root / "raw").mkdir(),
                save(root / "raw/a.png", pixels()[0]),
            ],
            "raw, Train, test but no train/|raw.* but no train/",
            {},
        ),
        (lambda root: None, r"data\.channels=2: take 1 \(gray\) or 3 \(RGB\)", {"channels": 2}),
        (lambda root: None, "image_size must be at least 1, or 0 for the images' own size, got -1", {"image_size": -1}),
    ],
)
def test_folders_that_are_spoilt_are_refused(spoil, message, fields, tmp_path):
    spoil(folder(tmp_path))
    refused(tmp_path, message, **fields)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    folder(tmp_path, names=(".",))
    (tmp_path / "b" / "0.png").unlink()
    refused(tmp_path, "class b has one sample, but training and testing need one each")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "none", "none is not a folder here")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has 0 folders of classes")


def test_too_many_images_to_hold_are_streamed(tmp_path, monkeypatch):
    held = load(folder(tmp_path), image_size=4, channels=1)
    monkeypatch.setattr(streams, "MOST_HELD", 8 * 4 * 4 - 1)
    given = {"mean": (0.5,), "std": (0.2,)}
    dataset = load(tmp_path, image_size=4, channels=1, **given)
    assert dataset.class_names == ("a", "b")
    for name in ("train", "test"):
        split = dataset.splits[name]
        assert isinstance(split, splits.Streamed)
        for ours, theirs in zip(split.read(), held.splits[name].read(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    random = load(tmp_path, image_size=4, channels=1, augmentation="random_resized_crop", **given).splits
    assert (random["train"].images.random_crop, random["test"].images.random_crop) == (True, False)
    refused(tmp_path, r"more than 2 GiB of images, which are streamed: give data\.image_size", channels=1)
    refused(tmp_path, r"data\.mean and data\.std: .* is not measured", image_size=4)
    refused(tmp_path, r"data\.num_train and num_validation are for", image_size=4, num_train=2)


# --- files and functions

IMAGES, ROWS = pixels(6), RNG.normal(size=(6, 3))
LABELS = np.array([0, 1, 2, 0, 1, 2])


def arrays(**changes):
    return {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS} | changes


@pytest.mark.parametrize(
    ("images", "shape", "dtype"),
    [(IMAGES, (6, 5, 3), np.uint8), (IMAGES[..., 0], (6, 5, 1), np.uint8), (ROWS, (3,), np.float32)],
)
def test_an_npz_holds_images_or_rows(images, shape, dtype, tmp_path):
    np.savez(tmp_path / "x.NPZ.npz", **arrays(train_images=images, test_images=images))
    dataset = load(tmp_path / "x.NPZ.npz")
    train = dataset.splits["train"]
    assert (train.shape, train.inputs.dtype, dataset.num_classes, dataset.class_names) == (shape, dtype, 3, ())
    by_class = [0, 3, 1, 4, 2, 5]
    np.testing.assert_array_equal(train.inputs, images.astype(dtype).reshape(6, *shape)[by_class])
    np.testing.assert_array_equal(train.labels, LABELS[by_class])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": IMAGES / 255}, r"x\.npz, train: inputs are \(6, 6, 5, 3\) of float64: give uint8 images"),
        ({"test_images": IMAGES.astype(np.int64)}, "test: inputs are .* of int64"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, r"inputs are \(6, 3, 6, 5\) of uint8"),
        ({"train_images": IMAGES.reshape(6, -1)}, r"inputs are \(6, 90\) of uint8"),
        ({"train_images": ROWS[:0], "train_labels": LABELS[:0]}, r"inputs are \(0, 3\)"),
        (
            {"test_images": IMAGES[:, :4]},
            r"training samples are \(6, 5, 3\) of uint8, test samples \(4, 5, 3\) of uint8",
        ),
        ({"test_images": ROWS.astype(np.float32)}, r"test samples \(3,\) of float32: make them alike"),
        ({"train_images": np.where(ROWS > 1, np.nan, ROWS)}, "train: row [0-5], column [0-2] is not a finite float32"),
        ({"train_images": np.full((6, 3), 1e300)}, "row 0, column 0 is not a finite float32"),
        ({"train_labels": LABELS[:5]}, r"labels are \(5,\) of int64 for 6 samples"),
        ({"train_labels": LABELS[:, None]}, r"labels are \(6, 1\)"),
        ({"train_labels": LABELS * 1.0}, r"labels are \(6,\) of float64 for .* give one integer per sample"),
        ({"train_labels": LABELS - 1}, "the label -1 is out of range .*: number the classes from 0"),
        ({"train_labels": LABELS + 2**40}, f"the label {2**40 + 2} is out of range for 6 samples: number the classes"),
        ({"train_labels": LABELS + 1, "test_labels": LABELS + 1}, "train: no sample has the label 0"),
        ({"train_labels": LABELS * 2}, "train: no sample has the label 1, and the largest is 4"),
        ({"train_labels": LABELS % 2}, "train: no sample has the label 2, and the largest is 2"),
        ({"test_labels": LABELS % 2}, "test: no sample has the label 2, and the largest is 2"),
        (
            {"train_labels": LABELS * 0, "test_labels": LABELS * 0},
            "all labels are 0: give samples of at least two classes",
        ),
        ({"class_names": np.array(["a", "b"])}, r"class_names are \(2,\) of <U1, for 3 classes"),
        (
            {"class_names": np.array(["a", "b", "c"], object)},
            "cannot read .*x.npz, .* with np.savez, from plain",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays(**changes))
    refused(tmp_path / "x.npz", message)


def test_an_npz_that_lacks_something_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=IMAGES, test_labels=LABELS, test_images=IMAGES)
    refused(tmp_path / "x.npz", r"x\.npz has no train_labels: save all of")
    refused(tmp_path / "none.npz", r"none\.npz is not a file")
    (tmp_path / "text.npz").write_text("text")
    refused(tmp_path / "text.npz", r"cannot read .*text\.npz")
    np.savez(tmp_path / "cut.npz", **arrays())
    os.truncate(tmp_path / "cut.npz", 1000)
    refused(tmp_path / "cut.npz", r"cannot read .*cut\.npz")
    np.savez_compressed(tmp_path / "flip.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "flip.npz") as file:
        place = file.infolist()[0].header_offset + 200
    content = bytearray((tmp_path / "flip.npz").read_bytes())
    content[place] ^= 255
    (tmp_path / "flip.npz").write_bytes(content)
    refused(tmp_path / "flip.npz", r"cannot read .*flip\.npz")


def table(labels=("10", "2", "x"), n=10):
    return [f"{i}.5,{place},{label}" for place, label in enumerate(labels) for i in range(n)]


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("header", [[], ["length,width,kind"], ["1,2,label"]])
def test_a_csv_with_or_without_a_header_is_split_in_each_class(header, tmp_path):
    dataset = load(write(tmp_path / "x.csv", [*header, *table(), ""]))
    assert dataset.class_names == ("2", "10", "x")
    for split, count in (("train", 8), ("test", 2)):
        inputs, labels = dataset.splits[split].read()
        assert np.bincount(labels).tolist() == [count] * 3
        assert inputs.dtype == np.float32
        np.testing.assert_array_equal(np.array([1, 0, 2])[inputs[:, 1].astype(int)], labels)
    other = load(tmp_path / "x.csv", split_seed=1)
    np.testing.assert_array_equal(dataset.splits["test"].inputs, other.splits["test"].inputs)


def test_a_byte_order_mark_is_no_part_of_the_first_cell(tmp_path):
    plain = load(write(tmp_path / "plain.csv", table()))
    marked = load(write(tmp_path / "marked.csv", ["\ufeff" + table()[0], *table()[1:]]))
    np.testing.assert_array_equal(marked.splits["train"].inputs, plain.splits["train"].inputs)


def test_the_column_of_labels_is_the_one_that_is_called_so(tmp_path):
    lines = ["a,Label,b", *(f"{i},{'no' if i % 2 else 'yes'},{i / 4}" for i in range(10))]
    dataset = load(write(tmp_path / "x.csv", lines))
    inputs, labels = dataset.splits["train"].read()
    assert dataset.class_names == ("no", "yes")
    np.testing.assert_array_equal(inputs[:, 0] % 2 == 0, labels)
    np.testing.assert_array_equal(inputs[:, 0] / 4, inputs[:, 1])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no rows: add some"),
        (["a,b,label"], "has no rows: add some below its header"),
        (["1;2;a"], "line 1 has one column: separate features and label by commas"),
        (["a,b,c", "1,2,x", "1,x"], "line 3 has 2 columns, not 3"),
        (["a,b,c", "1,,x"], "line 2, column 2 is '', not a finite number: fill it in"),
        (["1,2,x", "1,tall,x"], "line 2, column 2 is 'tall'"),
        (["1,tall,x", "1,2,x"], "line 1, column 2 is 'tall'"),
        (["1,2,x", "1,nan,x"], "line 2, column 2 is 'nan'"),
        (["1,2,x", "1,1_0,x"], "line 2, column 2 is '1_0'"),
        (
            [",a,label", "0,1,x", "1,2,x"],
            "column 1 has no heading: add one, or remove the column if it numbers the rows",
        ),
        (["1,2,x", "1,1e60,x"], "line 2, column 2 is '1e60'"),
        (["1,2,x", "1,2,"], "line 2 has no label"),
        (["1,2,x", "1,2,x", "1,2,y"], "class y has one sample"),
        (["1,2,x", "1,2,x", "1,2,x"], "all labels are 0|two classes"),
        (['1,2,"x'], "cannot read .*, unexpected end of data: write it again"),
    ],
)
def test_a_csv_that_is_broken_is_refused(lines, message, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    refused(path, message)


def test_a_csv_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes("1,2,é".encode("latin-1"))
    refused(tmp_path / "x.csv", r"cannot read .*x\.csv, .*utf-8.*: write it again, in UTF-8")
    refused(tmp_path / "none.csv", r"none\.csv is not a file")


def module(tmp_path, monkeypatch, body, name="own_data_of_test"):
    """A module in the current folder, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / f"{name}.py").write_text(f"import numpy as np\n\ndef load():\n    {body}\n{UNARRAYABLE}")


UNARRAYABLE = """
class Unarrayable:
    def __array__(self, *_, **__):
        raise TypeError("on another device")
"""


def test_a_function_of_the_current_folder_returns_splits(tmp_path, monkeypatch):
    module(
        tmp_path,
        monkeypatch,
        "x = np.eye(4), np.arange(4) % 2; return {'train': x, 'test': x, 'class_names': ['a', 'b']}",
    )
    before = list(sys.path)
    dataset = load("own_data_of_test:load")
    np.testing.assert_array_equal(dataset.splits["test"].inputs, np.eye(4))
    assert (dataset.num_classes, dataset.class_names) == (2, ("a", "b"))
    assert sys.path == before


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("pass", "own_data_of_test:load", r"load must return \{'train': \(inputs, labels\)"),
        ("return {'train': (1, 2)}", "own_data_of_test:load", "load must return"),
        ("return {'train': 1, 'test': 2}", "own_data_of_test:load", "load must return"),
        (
            "raise OSError('two\\nlines')",
            "own_data_of_test:load",
            r"load: OSError: two lines \(own_data_of_test\.py, line 4\): fix it",
        ),
        ("pass", "own_data_of_test:other", "unknown function of own_data_of_test other"),
        ("pass", "no_such_module_here:load", "there is no module no_such_module_here"),
        ("return {s: (Unarrayable(), [0, 1]) for s in ('train', 'test')}", "own_data_of_test:load", "or not arrays"),
        ("return {s: ([[1.0], [1.0, 2.0]], [0, 1]) for s in ('train', 'test')}", "own_data_of_test:load", "ragged"),
        ("return {s: (np.eye(2), [0.5, 1]) for s in ('train', 'test')}", "own_data_of_test:load", "of float64 for"),
    ],
)
def test_functions_that_return_no_splits_are_refused(body, name, message, tmp_path, monkeypatch):
    module(tmp_path, monkeypatch, body)
    refused(name, message)
    monkeypatch.delitem(sys.modules, "own_data_of_test", raising=False)


# --- tfds


def builder(features, counts, monkeypatch, image=None, dtype=np.uint8, label_of=lambda i: i % 2):
    """What stands in for a prepared builder: its images are encoded where image gives them."""
    label = types.SimpleNamespace(num_classes=2, names=["cat", "dog"])

    class Features(dict):  # tfds' has no get
        get = None

    known = {
        name: types.SimpleNamespace(shape=shape, dtype=dtype) for name, shape in features.items() if name != "label"
    }
    info = types.SimpleNamespace(
        features=Features(known | ({"label": label} if "label" in features else {})),
        splits={name: types.SimpleNamespace(num_examples=count) for name, count in counts.items()},
    )

    class Items(list):
        def __getitems__(self, places):
            return [self[i] for i in places]

    def items(split, decoders=None):
        return Items({"image": image(i, bool(decoders)), "label": label_of(i)} for i in range(counts[split]))

    made = types.SimpleNamespace(
        info=info, is_prepared=lambda: True, as_data_source=items, name="own", data_path=f"folder {id(features)}"
    )
    monkeypatch.setattr(sources, "tfds_builder", lambda _: made)
    sources._read.cache_clear()


def one(i, encoded, height=4):
    image = np.full((height, 4, 3), i, np.uint8)
    if not encoded:
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("test", ["test", "validation"])
@pytest.mark.parametrize("size", [0, 2])
def test_any_images_of_tfds_are_read(test, size, monkeypatch):
    shape = {"image": (4, 4, 3) if not size else (None, None, 3), "label": ()}
    builder(shape, {"train": 6, test: 4}, monkeypatch, one if not size else lambda i, _: one(i, True, 4 + i))
    pytest.importorskip("tensorflow_datasets")
    dataset = load("tfds:own", image_size=size)
    assert dataset.class_names == ("cat", "dog")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 4}
    np.testing.assert_array_equal(dataset.splits["train"].inputs[:, 0, 0, 0], np.arange(6))
    assert dataset.splits["test"].shape == ((size or 4), (size or 4), 3)
    np.testing.assert_array_equal(dataset.splits["test"].labels, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("features", "counts", "message"),
    [
        ({"image": (4, 4, 3), "objects": ()}, {"train": 1, "test": 1}, "has the features image, objects, not an image"),
        ({"text": (), "label": ()}, {"train": 1, "test": 1}, "has the features text, label, not an image"),
        ({"image": (4, 4, 3), "label": ()}, {"train": 1}, "has the splits train, not train and test or validation"),
        ({"image": (None, None, 3), "label": ()}, {"train": 1, "test": 1}, r"several sizes: give data\.image_size"),
    ],
)
def test_sets_of_tfds_that_are_no_classified_images_are_refused(features, counts, message, monkeypatch):
    builder(features, counts, monkeypatch)
    refused("tfds:own", message)


@pytest.mark.parametrize(
    ("dtype", "label", "size", "message"),
    [
        (np.float32, 0, 0, "has images of float32, not of 8 or 16 bits"),
        (np.uint8, -1, 0, "tfds:own, train: a sample has no label"),
        (np.uint8, -1, 4, "image 0 has the label -1, not one from 0 to 1"),
        (np.uint8, 0, -1, "image_size must be at least 1"),
    ],
)
def test_samples_of_tfds_that_cannot_be_learnt_from_are_refused(dtype, label, size, message, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    builder({"image": (4, 4, 3), "label": ()}, {"train": 2, "test": 2}, monkeypatch, one, dtype, lambda _: label)
    refused("tfds:own", message, image_size=size)


def test_images_of_tfds_in_16_bits_are_rounded_to_8(monkeypatch):
    pytest.importorskip("tensorflow_datasets")

    def sixteen(i, encoded):
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4), 257 * i, np.uint16)).save(buffer, "PNG")
        return buffer.getvalue() if encoded else np.full((4, 4, 1), 257 * i, np.uint16)

    builder({"image": (4, 4, 1), "label": ()}, {"train": 4, "test": 4}, monkeypatch, sixteen, np.uint16)
    assert load("tfds:own").splits["train"].inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_set_that_tfds_does_not_have_or_that_is_not_prepared_ends_the_run(tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    for name, message in (
        ("nosuchset", "tfds has no data set nosuchset to read"),
        ("mnist", f"run python -m train.prepare tfds:mnist --data_dir={tmp_path}"),
    ):
        assert main.main([f"--config.data.name=tfds:{name}", f"--config.data.data_dir={tmp_path}"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


# --- names


def test_a_run_is_called_by_the_last_part_of_its_data_s_name(tmp_path):
    names = {"digits": "digits", "/my/sets/p$ts/": "p-ts", "../x.npz": "x.npz", "mine:load": "mine-load"}
    assert {name: config.Data(name=name).title for name in names} == names
    assert config.Config(data=config.Data(name="/my/sets/pets")).title.startswith("pets, ")


def test_a_run_from_before_channels_and_own_sizes_is_still_the_same_run():
    """Its default of 224 is that of 0 now; another size stays."""
    old = dataclasses.asdict(config.Config())
    del old["data"]["channels"]
    for size, now in ((224, 0), (64, 64)):
        old["data"]["image_size"] = size
        assert config.from_tree(config.Config, old).data.image_size == now
    explicit = dataclasses.asdict(config.Data(name="pets/", image_size=224))
    assert config.from_tree(config.Data, explicit).image_size == 224


def test_an_unknown_name_says_what_else_there_is(tmp_path):
    refused("", "unknown data set '': take one of digits")
    refused("pets", "unknown data set pets: take one of digits, .*FOLDER/, FILE.npz, FILE.csv, MODULE:FUNCTION")


def test_what_is_of_no_use_to_data_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **arrays())
    refused(tmp_path / "x.npz", r"image_size=4 is for existing folders of images, not .*x\.npz", image_size=4)
    refused(tmp_path / "x.npz", r"channels=1 is for folders of images, not .*x\.npz", channels=1)
    refused("tfds:mnist", "channels=1 is for folders of images, not tfds:mnist", channels=1)


# --- what has changed under its name


def test_data_that_have_changed_are_not_gone_on_with_unless_asked_to(tmp_path, capsys):
    chosen, table = trained_on(tmp_path / "x.csv"), table_of_two()
    digests = [load(write(tmp_path / "x.csv", lines)).digest for lines in (table, table[::-1])]

    def claim(digest, **options):
        run_folder.claim(tmp_path / "run", chosen, digest=digest, **options).close()

    claim(digests[0])
    for _ in range(2):
        with pytest.raises(UsageError, match=r"run on other data, since .*x\.csv has changed: restore the data"):
            claim(digests[1])
    claim(digests[0])
    assert capsys.readouterr().out == ""
    claim(digests[1], allow_change=True)
    assert "continuing with changed data" in capsys.readouterr().out
    claim(digests[1])
    assert capsys.readouterr().out == ""


def test_runs_from_before_digests_and_of_no_own_data_go_on(tmp_path):
    for digest in ("", "some", "some"):
        run_folder.claim(tmp_path, config.Config(), digest=digest).close()


def table_of_two():
    return [f"{i % 7}.5,{i % 3},{i % 2}" for i in range(60)]


def test_a_comparison_does_not_keep_runs_of_other_data(tmp_path):
    base = trained_on(write(tmp_path / "x.csv", table_of_two()))
    mine = comparison.Comparison({"mine": base}, {"ERM": config.Mix("erm")}, (), 2, 1, ("accuracy",))
    comparison.check(mine)
    run = comparison.run(mine, "mine", "ERM", 1.0, 0)
    kept = run.folder(tmp_path / "runs")
    run_folder.claim(kept, run.config, digest=load(tmp_path / "x.csv").digest).close()
    kept.with_suffix(".log").write_text("")
    experiments._digests(mine, tmp_path / "runs")
    write(tmp_path / "x.csv", table_of_two()[::-1])
    with pytest.raises(UsageError, match=r"seed=0 is a run on other data, since .*x\.csv has changed"):
        experiments._digests(mine, tmp_path / "runs")


@pytest.mark.parametrize("stream", [False, True])
def test_a_digest_is_of_samples_and_of_a_stream_s_files(stream, tmp_path, monkeypatch):
    """Of these the names and sizes: to read them all would take too long."""
    given = {"mean": (0.5,), "std": (0.2,), "image_size": 4, "channels": 1}
    monkeypatch.setattr(streams, "MOST_HELD", 0 if stream else 2**31)

    def digest():
        return load(tmp_path / "set", **given).digest

    root = folder(tmp_path / "set")
    digests = [digest()]
    shutil.move(root, tmp_path / "away")
    shutil.copytree(tmp_path / "away", root)
    assert digest() == digests[0] != ""
    save(root / "train" / "b" / "0.png", pixels(1, 12, 11)[0])
    digests.append(digest())
    (root / "test" / "a" / "0.png").unlink()
    digests.append(digest())
    for split in ("train", "test"):
        (root / split / "b").rename(root / split / "c")
    digests.append(digest())
    assert len(set(digests)) == 4
    assert load("one_ring").digest == ""


# --- what a run is evaluated on


def test_the_first_samples_of_what_lies_class_by_class_are_of_all_classes():
    labels = np.repeat(np.arange(4, dtype=np.int32), 5)
    few = sections.Samples(np.arange(20), labels).first(8)
    np.testing.assert_array_equal(np.bincount(few.labels), [2] * 4)
    np.testing.assert_array_equal(few.inputs // 5, few.labels)
    assert len(sections.Samples(np.arange(20), labels).first(30).labels) == 20
    np.testing.assert_array_equal(sections.Samples(np.arange(20), labels[::-1]).first(8).inputs, np.arange(8))


def test_own_images_are_told_from_a_run_s_and_its_own_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(folder(tmp_path / "mine", n=10) / "test" / "b" / "9.png", pixels(1, 9, 7)[0])
    np.savez(tmp_path / "x.npz", **arrays())
    of_run = config.Data(name=str(tmp_path / "mine"))
    found = others.outside(("mine/", "x.npz", "noise"), (8, 7, 3), of_run, count=4)
    assert {name: images.shape for name, images in found.items()} == dict.fromkeys(("x.npz", "noise"), (4, 8, 7, 3))
    cut = others.outside(("./mine",), (8, 8, 1), config.Data(), count=10)["./mine"]
    whole = load(tmp_path / "mine", image_size=8, channels=1).splits["test"].inputs
    np.testing.assert_allclose(cut.astype(int), whole[::2].astype(int), atol=2)  # gray before or after
    write(tmp_path / "x.csv", table())
    for name, message in (
        ("x.csv", "--ood=x.csv: not a set of images"),
        ("none/", "none/ is not a folder here"),
        ("nois", "unknown data set nois: did you mean noise"),
    ):
        with pytest.raises(UsageError, match=message):
            others.outside((name,), (8, 8, 1), of_run, count=4)


@pytest.mark.parametrize("n", [2, 4])
def test_a_sheet_of_a_vae_has_pairs_of_few_images_too(n):
    images = np.linspace(0, 1, n * 64, dtype=np.float32).reshape(n, 8, 8, 1)
    same = mixing.Codec(lambda x: x.reshape(len(x), -1), lambda z: z.reshape(-1, 8, 8, 1))
    rows = vae_report.sheet(same, images, np.arange(n) // (n // 2))
    np.testing.assert_array_equal(rows["mixup, pair 1"][[0, -1]], images[[0, n // 2]])


def test_a_class_is_in_a_legend_whatever_its_name():
    """matplotlib leaves out what begins with an underscore, and reads mathematics between dollars."""
    drawn = figures.figure(2, 2)
    axes = drawn.subplots()
    for label in range(2):
        axes.scatter([0], [0], label=figures.class_name(("_other", "$$"), label, 16))
    assert [text.get_text() for text in axes.legend().get_texts()] == [" _other", r"\$\$"]
