"""Data sets, their splits, streams and augmentation."""

import io
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from train import config, data, main, prepare
from train.data import augmentation, sources, splits, streams
from train.errors import UsageError


def load(name, **fields):
    return data.load(config.Data(name=name, **fields))


# --- data sets


@pytest.mark.parametrize(
    ("name", "classes", "samples", "shape"),
    [
        ("digits", 10, 1797, (8, 8, 1)),
        ("iris", 3, 150, (4,)),
        ("wine", 3, 178, (13,)),
        ("breast_cancer", 2, 569, (30,)),
        ("one_ring", 2, 5120, (2,)),
        ("four_bars", 2, 5120, (2,)),
        ("swiss_roll", 2, 5120, (2,)),
    ],
)
def test_embedded_data_are_whole_and_balanced(name, classes, samples, shape):
    dataset = load(name)
    train, test = dataset.splits["train"], dataset.splits["test"]
    assert dataset.num_classes == classes
    assert len(train) + len(test) == samples
    assert train.shape == test.shape == shape
    shares = [np.bincount(split.labels, minlength=classes) / len(split) for split in (train, test)]
    np.testing.assert_allclose(*shares, atol=0.02)
    if name != "iris":  # which holds a sample twice
        assert not {row.tobytes() for row in train.inputs} & {row.tobytes() for row in test.inputs}


@pytest.mark.parametrize("name", ["digits", "wine", "swiss_roll"])
def test_statistics_normalise_every_channel(name):
    dataset = load(name)
    inputs = dataset.splits["train"].inputs
    values = inputs.reshape(-1, inputs.shape[-1]) / (255 if inputs.dtype == np.uint8 else 1)
    normed = (values - dataset.mean) / dataset.std
    np.testing.assert_allclose(normed.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(normed.std(0), 1, atol=1e-3)


def test_the_toy_sets_have_the_shapes_of_their_names():
    ring = load("one_ring").splits["test"]
    radius = np.linalg.norm(ring.inputs, axis=1)
    assert radius[ring.labels == 0].max() <= 1 + 1e-6
    assert np.abs(radius[ring.labels == 1] - 2).max() < 0.6
    bars = load("four_bars").splits["test"]
    nearest = np.round(bars.inputs[:, 0])
    assert np.abs(bars.inputs[:, 0] - nearest).max() <= 0.2 + 1e-6
    np.testing.assert_array_equal(nearest % 2, bars.labels)
    assert set(nearest) == {0, 1, 2, 3}
    roll = load("swiss_roll").splits["test"]
    radius, angle = np.linalg.norm(roll.inputs, axis=1), np.arctan2(roll.inputs[:, 1], roll.inputs[:, 0])
    # A spiral's radius is its angle / 2 pi, up to whole turns; the other class lies half a turn on.
    phase = (radius - (angle - np.pi * roll.labels) / (2 * np.pi)) % 1
    assert np.minimum(phase, 1 - phase).mean() < 0.05


def test_given_statistics_are_taken_as_they_are():
    dataset = load("digits", mean=(0.25,), std=(0.5,))
    assert (dataset.mean, dataset.std) == (np.float32([0.25]), np.float32([0.5]))


def test_a_subset_is_balanced_fixed_and_leaves_the_test_split_alone():
    whole, subset = load("digits"), load("digits", num_train=100)
    assert np.bincount(subset.splits["train"].labels).tolist() == [10] * 10
    np.testing.assert_array_equal(subset.splits["train"].inputs, load("digits", num_train=100).splits["train"].inputs)
    other = load("digits", num_train=100, split_seed=1)
    assert not np.array_equal(subset.splits["train"].inputs, other.splits["train"].inputs)
    np.testing.assert_array_equal(subset.splits["test"].inputs, whole.splits["test"].inputs)
    assert sorted(np.bincount(load("digits", num_train=103).splits["train"].labels)) == [10] * 7 + [11] * 3


def test_a_split_seed_draws_other_points_and_other_validation_samples_but_never_other_test_rows():
    """Otherwise alpha would be chosen on what other seeds are tested on."""
    for name in ("digits", "wine"):
        one, other = (load(name, split_seed=seed, num_validation=30).splits for seed in (3, 4))
        np.testing.assert_array_equal(one["test"].inputs, other["test"].inputs)
        assert not np.array_equal(one["validation"].inputs, other["validation"].inputs)
    one, again, other = (load("four_bars", split_seed=seed).splits for seed in (3, 3, 4))
    for split in ("train", "test"):
        np.testing.assert_array_equal(one[split].inputs, again[split].inputs)
        ours, theirs = ({row.tobytes() for row in points[split].inputs} for points in (one, other))
        assert not ours & theirs


def test_a_validation_split_is_held_out_of_training_in_proportion():
    whole, held = load("breast_cancer"), load("breast_cancer", num_validation=100, num_train=50)
    train, validation = held.splits["train"], held.splits["validation"]
    assert (len(train), len(validation)) == (50, 100)
    known = {row.tobytes() for row in whole.splits["train"].inputs}
    ours, theirs = ({row.tobytes() for row in split.inputs} for split in (train, validation))
    assert ours <= known
    assert theirs <= known
    assert not ours & theirs
    share = np.mean(whole.splits["train"].labels)
    assert np.mean(validation.labels) == pytest.approx(share, abs=0.01)
    np.testing.assert_array_equal(held.mean, data.statistics(train)[0])


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, np.int32), "inputs .* of float32"),
        (np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int32), "of uint8"),
        (np.full((4, 2), np.nan, np.float32), np.zeros(4, np.int32), "of float32"),
        (np.zeros((4, 2), np.float32), np.zeros(3, np.int32), "3 labels"),
        (np.zeros((4, 2), np.float32), np.full(4, 3, np.int32), "not int32 from 0 to 2"),
        (np.zeros((4, 2), np.float32), np.full(4, -1, np.int32), "not int32 from 0 to 2"),
        (np.zeros((4, 2), np.float32), np.zeros(4, np.int64), "of int64"),
        (np.zeros((0, 2), np.float32), np.zeros(0, np.int32), "0 labels"),
    ],
)
def test_what_the_step_does_not_expect_is_refused(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        data.check("name", splits.InMemory(inputs, labels), 3)


def test_an_epoch_is_a_permutation_of_the_data():
    orders = [data.epoch_order(103, 10, seed=3, epoch=epoch) for epoch in (0, 1)]
    for order in orders:
        assert order.shape == (10, 10)
        assert len(set(order.ravel())) == 100
    assert not np.array_equal(*orders)
    np.testing.assert_array_equal(orders[0], data.epoch_order(103, 10, seed=3, epoch=0))


def test_padding_counts_every_sample_once():
    order, weights = splits.padded_order(10, 4)
    assert order.shape == weights.shape == (3, 4)
    assert np.bincount(order.ravel(), weights.ravel()).tolist() == [1] * 10


# --- tfds


@pytest.mark.slow
def test_the_real_builder_gives_fashion_mnist(fashion_mnist):
    dataset = load("fashion_mnist", data_dir=str(fashion_mnist))
    train, test = dataset.splits["train"], dataset.splits["test"]
    assert (len(train), len(test), dataset.num_classes, train.shape) == (60_000, 10_000, 10, (28, 28, 1))
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert dataset.mean == pytest.approx([0.2860], abs=1e-4)
    assert dataset.std == pytest.approx([0.3530], abs=1e-4)


@pytest.mark.slow
def test_prepared_files_that_are_broken_end_the_run_with_the_remedy(fashion_mnist, tmp_path, capsys):
    shutil.copytree(fashion_mnist / "fashion_mnist", tmp_path / "fashion_mnist")
    [records] = tmp_path.rglob("*train.array_record*")
    os.truncate(records, 100_000)
    assert main.main(["--config.data.name=fashion_mnist", f"--config.data.data_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "cannot read the train split of fashion_mnist in" in error
    assert "delete that folder and prepare the data again" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_original_files_that_are_broken_are_refused(fashion_mnist, tmp_path, capsys):
    for path in pathlib.Path(os.environ["JAXMIX_FASHION_MNIST"]).iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    os.truncate(tmp_path / "t10k-images-idx3-ubyte.gz", 100_000)
    assert prepare.main(["fashion_mnist", f"--data_dir={tmp_path / 'tfds'}", f"--manual_dir={tmp_path}"]) == 2
    assert "t10k-images-idx3-ubyte.gz, downloaded to" in capsys.readouterr().err


def test_data_that_are_not_prepared_end_the_run_at_once_with_the_command_to_prepare_them(tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    assert main.main(["--config.data.name=cifar10", f"--config.data.data_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"run python -m train.prepare cifar10 --data_dir={tmp_path}" in error
    assert error.count("\n") == 1


def test_a_folder_of_data_is_one_of_the_file_system(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("HOME", str(tmp_path))
    builder = sources.tfds_builder(config.Data(name="cifar10", data_dir="~/sets"))
    assert pathlib.Path(builder.data_dir).is_relative_to(tmp_path / "sets")
    assert main.main(["--config.data.name=cifar10", "--config.data.data_dir=gs://bucket"]) == 2
    assert "data_dir=gs://bucket: mount that storage" in capsys.readouterr().err


def test_original_files_that_are_missing_are_named(tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    folders = [f"--config.data.data_dir={tmp_path}", f"--config.data.manual_dir={tmp_path}"]
    assert main.main(["--config.data.name=fashion_mnist", *folders]) == 2
    assert "has no t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cifar"], "unknown data set cifar: did you mean cifar10?"),
        (["--data=x", "cifar10"], "unknown flag --data: did you mean --data_dir?"),
        (["cifar10", "cifar100"], "name one data set, not 2"),
    ],
)
def test_mistakes_in_preparing_end_with_code_2_and_one_line(arguments, message, capsys):
    assert prepare.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_a_network_preparing_fails_at_once(capsys, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setenv("https_proxy", "http://localhost:9")
    assert prepare.main(["cifar10", f"--data_dir={tmp_path}"]) == 2
    assert "cannot reach https://www.cs.toronto.edu" in capsys.readouterr().err


def test_what_cannot_be_downloaded_says_which_files_it_wants(capsys, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    assert prepare.main(["imagenet2012", f"--data_dir={tmp_path}"]) == 2
    assert "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar by --manual_dir" in capsys.readouterr().err


# --- streams


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "data.mean and data.std: imagenet2012 is not measured: give them"),
        ({"num_train": 10}, "are for data sets held in memory, not imagenet2012"),
        ({"mean": (0.5,), "std": (0.5,), "image_size": -1}, "image_size must be at least 1, or 0 for 224, got -1"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load("imagenet2012", **fields)


PADDED_ORDER = splits.padded_order


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def ramps():
    """Twelve images of several sizes; the red channel is the column, the green the row, the blue the image."""
    items = []
    for i in range(12):
        h, w = 40 + 5 * i, 100 - 4 * i
        y, x = np.mgrid[:h, :w]
        items.append({"image": encoded(np.stack([x, y, np.full_like(x, i)], -1).astype(np.uint8)), "label": i % 3})
    return items


def test_streamed_batches_have_the_order_that_is_asked_for(ramps):
    images = streams.Images(ramps, 3, 16, random_crop=True, seed=0)
    split = splits.Streamed(images, num_threads=4)
    order = np.arange(12, dtype=np.int32)[::-1].reshape(3, 4)
    batches = list(split.batches(order, epoch=0))
    assert len(split) == 12
    assert split.shape == (16, 16, 3)
    for batch, indices in zip(batches, order, strict=True):
        np.testing.assert_array_equal(batch.indices, indices)
        np.testing.assert_array_equal(batch.labels, indices % 3)
        assert batch.inputs.dtype == np.uint8
        np.testing.assert_array_equal(batch.inputs[:, 0, 0, 2], indices)


def test_a_stream_is_read_whole_and_in_order(ramps, monkeypatch):
    monkeypatch.setattr(splits, "padded_order", lambda n, size: PADDED_ORDER(n, min(size, 5)))
    inputs, labels = splits.Streamed(streams.Images(ramps, 3, 16, random_crop=False, seed=0), num_threads=4).read()
    np.testing.assert_array_equal(inputs[:, 0, 0, 2], np.arange(12))
    np.testing.assert_array_equal(labels, np.arange(12) % 3)


def test_a_stream_is_averaged_over_central_squares(ramps, monkeypatch):
    """However it is cropped to train on; of many images over some, drawn from all."""
    split = splits.Streamed(streams.Images(ramps, 3, 16, random_crop=True, seed=0), num_threads=4)
    central = splits.Streamed(streams.Images(ramps, 3, 16, random_crop=False, seed=0), num_threads=4)
    inputs, labels = central.read()
    mean, std = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.4])
    means = data.means(data.Dataset({"train": split}, 3, mean, std))
    np.testing.assert_allclose(means.inputs, ((inputs / 255 - mean) / std).mean(0), atol=1e-5)
    np.testing.assert_allclose(means.labels, np.bincount(labels, minlength=3) / len(labels))
    monkeypatch.setattr(splits, "NUM_AVERAGED", 5)
    some, _ = split.sample()
    places = [next(i for i, image in enumerate(inputs) if np.array_equal(image, one)) for one in some]
    assert len(set(places)) == 5
    assert places != list(range(5))


def test_a_stream_that_goes_on_gives_what_the_whole_would_have_given(ramps):
    """From the middle of an epoch, across its edge, to the end of the next."""
    split = splits.Streamed(streams.Images(ramps, 3, 16, random_crop=True, seed=0), num_threads=4)
    orders = {epoch: data.epoch_order(12, 3, seed=0, epoch=epoch) for epoch in (1, 2)}
    whole = [batch.inputs for epoch in (1, 2) for batch in split.batches(orders[epoch], epoch=epoch)]
    rest = [batch.inputs for batch in split.batches(orders[1][2:], epoch=1)]
    rest += [batch.inputs for batch in split.batches(orders[2], epoch=2)]
    np.testing.assert_array_equal(whole[2:], rest)
    again = [batch.inputs for batch in split.batches(orders[1], epoch=2)]
    assert not np.array_equal(whole[:4], again)


def test_central_crops_are_the_middle_of_the_image(ramps):
    """Bilinear resizing keeps a ramp a ramp: the pixel's value is its place in the original."""
    square, _, _ = streams.Images(ramps, 3, 14, random_crop=False, seed=0).read(0, epoch=0)
    side, (height, width) = 40 * 7 / 8, (40, 100)
    centres = (np.arange(14) + 0.5) * side / 14 - 0.5
    np.testing.assert_allclose(square[7, 1:-1, 0], ((width - side) / 2 + centres)[1:-1], atol=1)
    np.testing.assert_allclose(square[1:-1, 7, 1], ((height - side) / 2 + centres)[1:-1], atol=1)


def test_random_boxes_have_the_law_of_their_definition():
    rng = np.random.default_rng(0)
    boxes = np.array([streams.random_box(300, 200, rng) for _ in range(2000)])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 300).all()
    assert (boxes[:, 3] <= 200).all()
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share, aspect = w * h / 60_000, w / h
    assert share.min() >= 0.08 - 1e-9
    assert share.max() <= 1
    small = share < 0.5  # of which all shapes fit: the draw's own law
    assert share[small].mean() == pytest.approx(0.29, abs=0.02)
    assert np.log(aspect[small]).mean() == pytest.approx(0, abs=0.02)
    assert np.abs(np.log(aspect)).max() <= np.log(4 / 3) + 1e-9


def test_labels_of_a_stream_are_checked(ramps):
    with pytest.raises(UsageError, match="image 2 has the label 2, not one from 0 to 1"):
        streams.Images(ramps, 2, 16, random_crop=False, seed=0).read(2, epoch=0)


# --- augmentation


def keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def test_every_other_image_is_flipped():
    images = jax.random.uniform(jax.random.key(1), (400, 4, 3, 2))
    result = augmentation.build("flip", (4, 3, 2))(images, keys(400))
    kept, flipped = ((result == other).all(axis=(1, 2, 3)) for other in (images, images[:, :, ::-1]))
    assert bool((kept ^ flipped).all())
    assert float(flipped.mean()) == pytest.approx(0.5, abs=0.1)


def test_pad_crop_moves_by_up_to_four_pixels_each_way():
    image = np.zeros((12, 12, 1), np.float32)
    image[6, 6] = 1
    images = jnp.broadcast_to(jnp.asarray(image), (3000, 12, 12, 1))
    result = np.asarray(augmentation.build("pad_crop", (12, 12, 1))(images, keys(3000)))
    counts = result.sum((0, 3))
    assert counts.sum() == 3000
    assert (counts[2:11, 2:11] > 0).all()
    assert counts[2:11, 2:11].sum() == 3000
    assert counts[2:11, 2:11].std() < 3 * np.sqrt(3000 / 81)


def test_random_resized_crop_is_pillow_s_of_the_same_box():
    image = np.random.default_rng(0).random((16, 20, 1)).astype(np.float32)
    rng = jax.random.key(4)
    ours = np.asarray(augmentation.random_resized_crop(jnp.asarray(image), rng))[..., 0]
    # The image of two ramps tells which box was taken.
    y, x = np.mgrid[:16, :20].astype(np.float32)
    ramps = np.asarray(augmentation.random_resized_crop(jnp.asarray(np.stack([x, y], -1)), rng))
    inside = (slice(3, -3), slice(3, -3))
    column, row = ramps[8, :, 0], ramps[:, 10, 1]
    dx, dy = np.diff(column[3:-3]).mean(), np.diff(row[3:-3]).mean()
    box_w, box_h = dx * 20, dy * 16
    assert 0.25 - 1e-3 <= box_w * box_h / 320 <= 1 + 1e-3
    left, top = column[10] - 10 * dx + 0.5 - dx / 2, row[8] - 8 * dy + 0.5 - dy / 2
    box = (max(left, 0), max(top, 0), min(left + box_w, 20), min(top + box_h, 16))
    theirs = Image.fromarray(image[..., 0]).resize((20, 16), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_allclose(ours[inside], np.asarray(theirs)[inside], atol=0.02)


def test_random_resized_crops_lie_anywhere_inside_the_image():
    y, x = np.mgrid[:16, :20].astype(np.float32)
    images = jnp.broadcast_to(jnp.asarray(np.stack([x, y], -1) + 1), (500, 16, 20, 2))
    result = np.asarray(augmentation.build("random_resized_crop", (16, 20, 2))(images, keys(500)))
    assert result.min() >= 1 - 1e-3
    assert result[..., 0].max() <= 20 + 1e-3
    assert result[..., 1].max() <= 16 + 1e-3
    step = (result[:, 8, 15, 0] - result[:, 8, 5, 0]) / 10
    assert step.min() < 0.6
    assert step.max() > 0.95
    left, room = result[:, 8, 5, 0] - 0.5 - 5.5 * step, 20 * (1 - step)
    place = left[room > 3] / room[room > 3]
    assert place.mean() == pytest.approx(0.5, abs=0.05)
    assert place.std() == pytest.approx(np.sqrt(1 / 12), abs=0.03)


def test_augmentations_apply_in_their_order_with_keys_of_their_own():
    images = jax.random.uniform(jax.random.key(1), (64, 10, 10, 1))
    both = augmentation.build("pad_crop,flip", (10, 10, 1))(images, keys(64))
    own = [jax.vmap(jax.random.fold_in, (0, None))(keys(64), place) for place in range(2)]
    step = jax.vmap(augmentation.flip)(jax.vmap(augmentation.pad_crop)(images, own[0]), own[1])
    np.testing.assert_array_equal(both, step)
    untouched = augmentation.build("random_resized_crop", (10, 10, 1), cropped=True)(images, keys(64))
    np.testing.assert_array_equal(untouched, images)
