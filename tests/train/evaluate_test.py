"""The evaluation program: its numbers, what they do not depend on, and its mistakes."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from jaxmix.evaluation import attacks, calibration, corruptions
from tests.train.conftest import once, small_config
from train import config as config_lib
from train import data, evaluate, models, runs
from train.comparing import design as comparison
from train.data import sources
from train.errors import UsageError
from train.measuring import evaluation, measures, others, predictor, robustness, sections
from train.measuring import report as evaluation_report
from train.measuring.evaluation import Options
from train.tasks import classifier

pytestmark = pytest.mark.slow


def averaged_config():
    config = small_config(policy="mixup(alpha=0.4)")
    config.optimizer.ema = 0.9
    return config


@pytest.fixture(scope="module")
def run_folder(common, tmp_path_factory, programs):
    """A small network that has learnt a little."""

    def make(folder):
        classifier.train_and_evaluate(averaged_config(), folder)

    return once(common, "evaluated", make, tmp_path_factory.mktemp("evaluated") / "run")


@pytest.fixture
def few(monkeypatch):
    """Few corruptions and strengths of attack, which are the same programs."""
    kept = {name: corruptions.CORRUPTIONS[name] for name in ("gaussian_noise", "contrast", "jpeg_compression")}
    monkeypatch.setattr(corruptions, "CORRUPTIONS", kept)
    monkeypatch.setattr(robustness, "SEVERITIES", (1, 5))
    monkeypatch.setattr(robustness, "EPSILONS", (1, 8))


def probabilities_of(run_folder, images):
    """By the model alone."""
    config, dataset, asked = predictor.load(run_folder)
    model = models.build(config, (8, 8, 1), 10)
    variables, (statistics, _) = jax.tree.map(np.asarray, asked._placed)
    logits = model.apply(variables, (images.astype(np.float32) / 255 - statistics.mean) / statistics.std)
    return np.asarray(jax.nn.softmax(logits), np.float64), dataset


def test_clean_numbers_are_those_of_training_and_of_scikit_learn(run_folder):
    values = evaluation.evaluate(run_folder, Options(only=("calibration",)))["calibration"].values
    averaged = evaluation.evaluate(run_folder, Options(only=("calibration",), ema=True))["calibration"].values
    last = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])
    for key in ("accuracy", "nll", "ece"):
        assert values[key] == pytest.approx(last[f"test_{key}"], abs=1e-5)
        assert averaged[key] == pytest.approx(last[f"test_ema_{key}"], abs=1e-5)
    assert abs(averaged["nll"] - values["nll"]) > 1e-3
    test = data.load(config_lib.Data()).splits["test"]
    probabilities, _ = probabilities_of(run_folder, test.inputs)
    probabilities /= probabilities.sum(1, keepdims=True)
    brier = metrics.brier_score_loss(test.labels, probabilities, scale_by_half=False)
    assert values["brier"] == pytest.approx(brier, abs=1e-5)
    # The temperature of every fifth sample is the one that fits the others best.
    logits, fold = jnp.log(jnp.asarray(probabilities, jnp.float32)), np.arange(len(test)) % 5
    temperatures = [
        float(calibration.fit_temperature(logits[fold != f], jnp.asarray(test.labels[fold != f]))) for f in range(5)
    ]
    scaled = probabilities ** (1 / np.resize(temperatures, len(test)))[:, None]
    scaled /= scaled.sum(1, keepdims=True)
    assert np.ptp(temperatures) > 1e-3
    assert values["temperature"] == pytest.approx(np.mean(temperatures), rel=1e-3)
    assert values["nll_scaled"] == pytest.approx(metrics.log_loss(test.labels, scaled, labels=range(10)), abs=1e-4)


class Given:
    """A predictor whose logits are its samples."""

    def map(self, function, inputs):
        return inputs


def test_a_temperature_that_is_not_determined_scales_nothing_and_is_said(run_folder, tmp_path, capsys):
    """One sample of 20 is wrong: where it is held out, all others are right."""
    logits = np.full((20, 3), -2.0, np.float32)
    logits[np.arange(20), np.arange(20) % 3] = 2.0
    right = sections.Samples(logits, np.arange(20) % 3)
    wrong = right._replace(labels=np.where(np.arange(20) == 7, 0, right.labels))
    for held_out, expected in ((None, np.nan), (right, np.nan), (wrong, 4 / np.log(2 * 19))):
        section = sections.clean(Given(), wrong, held_out)
        values = [section.values[key] for key in ("temperature", "nll_scaled", "ece_scaled")]
        assert values[0] == pytest.approx(expected, rel=1e-4, nan_ok=True)
        assert np.isnan(values).tolist() == [np.isnan(expected)] * 3
        assert section.values["nll"] > 0
        measured = {"calibration": section}
        assert len(evaluation_report.warnings(measured)) == np.isnan(expected)
    evaluation_report.write(tmp_path, run_folder, {"calibration": sections.clean(Given(), wrong, None)}, "the command")
    assert (
        json.loads((tmp_path / "report.json").read_text())["sections"]["calibration"]["values"]["nll_scaled"]["value"]
        is None
    )
    assert "| NLL, scaled | not determined |" in (tmp_path / "report.md").read_text()
    output = capsys.readouterr()
    assert "no temperature is the best one for the held-out samples" in output.err
    assert re.search(r"NLL, scaled +not determined", output.out)
    assert comparison.counts([np.nan, 0.1, 0.2], "lower") == 0


def test_a_validation_split_fits_the_temperature(run_folder):
    _, dataset, asked = predictor.load(run_folder)
    train, test = (sections.Samples(*dataset.splits[name].read()) for name in ("train", "test"))
    held_out = train.first(300)
    scaled = sections.clean(asked, test, held_out)
    probabilities, _ = probabilities_of(run_folder, held_out.inputs)
    fitted = calibration.fit_temperature(jnp.log(jnp.asarray(probabilities, jnp.float32)), jnp.asarray(held_out.labels))
    assert scaled.values["temperature"] == pytest.approx(float(fitted), rel=1e-3)
    assert scaled.settings["temperature"] == "fitted on the validation split"


def test_corrupted_accuracy_is_of_the_images_that_the_corruption_leaves(run_folder, few):
    section = evaluation.evaluate(run_folder, Options(only=("corruptions",), limit=90, batch_size=16))["corruptions"]
    table = section.details["accuracy"]
    assert list(table) == ["gaussian_noise", "contrast", "jpeg_compression"]
    test = data.load(config_lib.Data()).splits["test"]
    images, labels = test.inputs[:90], test.labels[:90]
    for name, accuracies in table.items():
        for severity, accuracy in zip((1, 5), accuracies, strict=True):
            rng = corruptions.keys(jnp.arange(90), corruption=name, severity=severity)
            scaled = (np if name in corruptions.ON_HOST else jnp).asarray(images / 255, np.float32)
            corrupted = corruptions.CORRUPTIONS[name](scaled, rng, severity=severity)
            probabilities, _ = probabilities_of(run_folder, np.round(np.asarray(corrupted) * 255).astype(np.uint8))
            assert accuracy == pytest.approx(np.mean(probabilities.argmax(1) == labels), abs=0.012)
    assert section.values["corrupted_accuracy"] == pytest.approx(np.mean(list(table.values())))
    assert table["gaussian_noise"][1] != table["contrast"][1]


def test_corrupted_images_are_rounded_to_8_bits():
    levels = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(robustness.rounded((levels + 0.4) / 255)[:-1], levels[:-1])
    np.testing.assert_array_equal(robustness.rounded(levels / 255), levels)
    np.testing.assert_array_equal(robustness.rounded((levels - 0.4) / 255)[1:], levels[1:])


def test_numbers_depend_neither_on_the_batch_size_nor_on_the_devices(run_folder, monkeypatch):
    """Four devices, sixteen samples at a time, against one device and all at once."""
    only = ("calibration", "attacks", "linearity", "embeddings", "ood")
    measured = evaluation.evaluate(run_folder, Options(only=only, limit=50, batch_size=16))
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    alone = evaluation.evaluate(run_folder, Options(only=only, limit=50))
    for name in only:
        # The sign of a gradient near zero may turn with the order of a sum, and one sample of 50 with it.
        tolerance = {"abs": 0.021} if name == "attacks" else {"rel": 2e-3, "abs": 1e-5}
        assert alone[name].values == pytest.approx(measured[name].values, **tolerance)


def test_a_sample_that_was_wrong_before_an_attack_stays_wrong():
    class Predictor:
        """Right about every other sample, and about all that were attacked."""

        def map(self, function, inputs, labels=None, *_, **__):
            if function is sections.outputs:
                return np.eye(2)[np.arange(len(inputs)) % 2]
            if function is robustness._diagnose:
                return attacks.Diagnosis(np.zeros(len(inputs), bool), np.zeros(len(inputs), bool))
            return np.ones(len(inputs), bool)

    section = robustness.attacked(Predictor(), sections.Samples(np.zeros((8, 1)), np.zeros(8, np.int32)))
    assert set(section.details["accuracy"]["fgsm"] + section.details["accuracy"]["pgd"]) == {0.5}


def test_attacks_lower_accuracy_in_order(run_folder):
    section = evaluation.evaluate(run_folder, Options(only=("attacks",), limit=200))["attacks"]
    table = section.details["accuracy"]
    for name in ("fgsm", "pgd"):
        accuracies = [*table["clean"], *table[name]]
        assert accuracies == sorted(accuracies, reverse=True)
    assert all(pgd <= fgsm + 0.01 for pgd, fgsm in zip(table["pgd"], table["fgsm"], strict=True))
    assert table["clean"][0] - table["pgd"][-1] > 0.05
    for name in ("fgsm", "pgd"):
        keys = [f"{name}_accuracy{suffix}" for suffix in ("_1", "_2", "_4", "")]
        assert [section.values[key] for key in keys] == table[name]
    assert not evaluation_report.warnings({"attacks": section})
    few = evaluation.evaluate(run_folder, Options(only=("attacks",), limit=200, epsilons=(2,)))["attacks"].values
    assert few == {key: section.values[key] for key in ("fgsm_accuracy_2", "pgd_accuracy_2")}


def _without_gradient(predict, means):
    return lambda images: predict(jax.lax.stop_gradient(images))


def test_rescaling_is_the_library_s_and_each_half_is_measured(run_folder):
    """Against the transformation written out, on the means of the normalised training images."""
    measured = evaluation.evaluate(run_folder, Options(only=("calibration", "rescaling")))
    table = measured["rescaling"].details["rescaling"]
    _, dataset, asked = predictor.load(run_folder)
    train, test = (sections.Samples(*dataset.splits[name].read()) for name in ("train", "test"))
    variables, (statistics, _) = jax.tree.map(np.asarray, asked._placed)
    x, clean = ((s.inputs.astype(np.float32) / 255 - statistics.mean) / statistics.std for s in (test, train))
    frequencies = np.bincount(train.labels) / len(train.labels)
    model = models.build(small_config(), (8, 8, 1), 10)
    theta = 0.839758  # at alpha = .4
    for title, inputs, outputs in (
        ("plain", False, False),
        ("input only", True, False),
        ("output only", False, True),
        ("rescaled", True, True),
    ):
        seen = theta * x + (1 - theta) * clean.mean(0) if inputs else x
        logits = np.asarray(model.apply(variables, seen), np.float64)
        logits = logits / theta + (1 - 1 / theta) * frequencies if outputs else logits
        nll = metrics.log_loss(test.labels, special.softmax(logits, axis=-1), labels=range(10))
        assert table[title]["nll"] == pytest.approx(nll, abs=1e-4), title
        assert table[title]["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == test.labels), abs=1e-6)
    assert len({row["nll"] for row in table.values()}) == 4
    assert table["plain"]["ece"] == pytest.approx(measured["calibration"].values["ece"])
    assert measured["rescaling"].values["nll_rescaled"] == table["rescaled"]["nll"]
    both = evaluation.evaluate(run_folder, Options(only=("calibration",), rescale="both"))["calibration"].values
    assert (both["nll"], both["ece"]) == pytest.approx((table["rescaled"]["nll"], table["rescaled"]["ece"]))


def test_a_wrapper_is_inside_the_attacked_function_and_hidden_gradients_are_named(run_folder):
    _, dataset, asked = predictor.load(run_folder)
    samples = sections.Samples(*dataset.splits["test"].read()).first(50)
    measured = {"attacks": robustness.attacked(asked.wrapped(_without_gradient), samples)}
    table = measured["attacks"].details["accuracy"]
    assert table["fgsm"] == table["clean"] * len(sections.EPSILONS)
    [warning] = evaluation_report.warnings(measured)
    assert "100% of the samples have a zero gradient" in warning


def test_other_images_are_told_from_the_test_split(run_folder):
    measured = evaluation.evaluate(run_folder, Options(only=("ood",), ood=("digits", "noise")))
    details = measured["ood"].details
    assert list(details["detection"]) == ["noise"]  # the run's own data set is left out
    inside, outside = details["confidences"]["test"], details["confidences"]["noise"]
    truth = np.repeat([1, 0], [len(inside), len(outside)])
    expected = metrics.roc_auc_score(truth, np.concatenate([inside, outside]))
    assert measured["ood"].values["auroc"] == pytest.approx(expected, abs=1e-5)


def test_others_are_made_as_large_and_as_coloured():
    config = config_lib.Data(name="fashion_mnist")
    found = others.outside(("digits", "noise", "fashion_mnist"), (12, 10, 3), config, count=20)
    assert {name: (images.shape, images.dtype) for name, images in found.items()} == {
        "digits": ((20, 12, 10, 3), np.uint8),
        "noise": ((20, 12, 10, 3), np.uint8),
    }
    assert np.array_equal(found["digits"][..., 0], found["digits"][..., 2])
    gray = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    assert np.abs(others.resized(gray, (8, 8, 1)) - gray.mean(-1, keepdims=True)).max() <= 2
    with pytest.raises(UsageError, match="iris: not a set of images"):
        others.outside(("iris",), (8, 8, 1), config, count=2)
    with pytest.raises(UsageError, match="unknown data set digit: did you mean digits"):
        others.outside(("digit",), (8, 8, 1), config, count=2)


def test_released_sets_are_measured_by_corruption_and_severity(run_folder, tmp_path):
    """Five times the clean images, of which the first severity alone is blackened."""
    test = data.load(config_lib.Data()).splits["test"]
    stacked = np.tile(test.inputs, (5, 1, 1, 1))
    np.save(tmp_path / "labels.npy", np.tile(test.labels, 5))
    np.save(tmp_path / "fog.npy", stacked)
    np.save(tmp_path / "frost.npy", np.concatenate([0 * test.inputs, stacked[len(test) :]]))
    np.save(tmp_path / "speckle_noise.npy", 0 * stacked)
    for name in set(others.RELEASED) - {"fog", "frost"}:
        np.save(tmp_path / f"{name}.npy", stacked[:, ::-1])
    options = Options(only=("calibration", "released"), limit=0, corrupted_dir=tmp_path)
    measured = evaluation.evaluate(run_folder, options)
    accuracy, black = measured["calibration"].values["accuracy"], np.mean(test.labels == 0)
    table = measured["released"].details["accuracy"]
    assert table["fog"] == pytest.approx([accuracy] * 5)
    assert table["frost"][1:] == pytest.approx([accuracy] * 4)
    assert table["frost"][0] < 0.2
    assert len(table["speckle_noise"]) == 5
    assert len(table) == 16
    expected = 1 - np.mean([table[name] for name in others.RELEASED])  # extras stay out of the mean
    assert measured["released"].values["mean_corruption_error_unnormalised"] == pytest.approx(expected)
    assert black < 0.2
    np.save(tmp_path / "labels.npy", np.tile(test.labels[::-1], 5))
    with pytest.raises(UsageError, match=r"labels\.npy does not repeat the run's 360 test labels five times"):
        evaluation.evaluate(run_folder, options)


def test_released_sets_lack_no_corruption_in_a_mean_and_are_of_the_run_s_images(run_folder, tmp_path):
    test = data.load(config_lib.Data()).splits["test"]
    np.save(tmp_path / "labels.npy", np.tile(test.labels, 5))
    np.save(tmp_path / "fog.npy", np.zeros((5 * len(test), 9, 9, 1), np.uint8))
    options = Options(only=("released",), corrupted_dir=tmp_path)
    with pytest.raises(UsageError, match=r"fog\.npy has shape \(1800, 9, 9, 1\) of uint8, not \(1800, 8, 8, 1\)"):
        evaluation.evaluate(run_folder, options)
    np.save(tmp_path / "fog.npy", np.tile(test.inputs, (5, 1, 1, 1)))
    section = evaluation.evaluate(run_folder, options)["released"]
    assert section.values == {}
    assert len(section.settings["missing for the mean"]) == 14


def test_released_sets_of_tfds_have_their_published_names(monkeypatch):
    cifar = pytest.importorskip("tensorflow_datasets.image_classification.cifar10_corrupted")
    run = config_lib.Data(name="cifar10")
    monkeypatch.setattr(sources, "corrupted", lambda name, data_dir: (np.full((4, 1), name), np.zeros(4)))
    monkeypatch.setattr(sources, "is_prepared", lambda name, data_dir: True)
    sets = list(others.released_by_tfds(run, limit=2))
    assert len(sets) == 95
    assert [entry.images[0, 0] for entry in sets if entry.name == "glass_blur"] == [
        f"frosted_glass_blur_{severity}" for severity in range(1, 6)
    ]
    assert {len(entry.images) for entry in sets} == {2}
    assert set(others._TFDS_NAMES) == set(cifar._CORRUPTIONS)
    monkeypatch.setattr(sources, "is_prepared", lambda name, data_dir: name != "cifar10_corrupted/fog_3")
    with pytest.raises(UsageError, match=r"1 sets .* such as fog_3: run python -m train\.prepare cifar10_corrupted"):
        others.released_by_tfds(run, limit=2)
    with pytest.raises(UsageError, match="for runs on cifar10, not digits"):
        others.released_by_tfds(config_lib.Data(), limit=2)


def test_the_report_holds_every_number_with_its_definition_and_its_figures(run_folder, tmp_path, few, capsys):
    measured = evaluation.evaluate(run_folder, Options(limit=20))
    evaluation_report.write(tmp_path / "report", run_folder, measured, "the command")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    for name, section in measured.items():
        assert report["sections"][name]["settings"]
        for key, value in section.values.items():
            assert report["sections"][name]["values"][key]["value"] == value
            assert report["sections"][name]["values"][key]["definition"] == measures.MEASURES[key].definition
            assert measures.MEASURES[key].section == name
    text = (tmp_path / "report" / "report.md").read_text()
    figures = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert figures == {"calibration.png", "corruptions.png", "attacks.png", "ood.png", "embeddings.png"}
    assert all(f"]({name})" in text for name in figures)
    assert f"| accuracy | {measured['calibration'].values['accuracy']:.2%} |" in text
    assert "| accuracy | 0/255 | 1/255 | 8/255 |" in text
    [row] = [line for line in text.splitlines() if line.startswith("| pgd |")]
    accuracy = measured["attacks"].details["accuracy"]
    assert row == "| pgd | " + " | ".join(f"{a:.2%}" for a in (*accuracy["clean"], *accuracy["pgd"])) + " |"
    assert re.search(r"^\| output only \| \d+\.\d\d% \| \d\.\d{4} \| \d\.\d{4} \|$", text, re.MULTILINE)
    printed = capsys.readouterr()
    assert "AUROC" in printed.out
    assert re.findall(r"^(\w+)  \d+\.\d s$", printed.err, re.MULTILINE) == list(measured)


def test_tables_are_measured_where_measures_apply(tmp_path):
    config = config_lib.Config(
        data=config_lib.Data(name="iris", batch_size=32),
        model=config_lib.Model(name="mlp", width=8),
        mix=config_lib.Mix("erm"),
        num_epochs=1,
    )
    classifier.train_and_evaluate(config, tmp_path / "run")
    measured = evaluation.evaluate(tmp_path / "run", Options())
    assert list(measured) == ["calibration", "training", "embeddings"]
    inputs, labels = data.load(config.data).splits["train"].read()
    hits = runs.load(tmp_path / "run").logits(inputs).argmax(axis=1) == labels
    assert measured["training"].values == {"train_accuracy": pytest.approx(np.mean(hits))}
    with pytest.raises(UsageError, match="section attacks does not apply: it needs images"):
        evaluation.evaluate(tmp_path / "run", Options(only=("attacks",)))
    with pytest.raises(UsageError, match="--rescale=both does not apply: it needs a run of mixup"):
        evaluation.evaluate(tmp_path / "run", Options(rescale="both"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: --run (see --help)"),
        ("--run=nowhere", "nowhere contains no run: config.json is missing"),
        ("--run=nowhere --only=calibraton", "unknown section calibraton: did you mean calibration?"),
        ("--run=nowhere --rescale=input", "unknown part --rescale=input: did you mean --rescale=inputs?"),
        ("--run=nowhere --limit=-1", "--limit must be at least 0, got -1"),
        ("--run=nowhere --limit=x", "argument --limit: invalid int value: 'x'"),
        ("--run=nowhere --corupted-dir=x", "unrecognized arguments: --corupted-dir=x"),
    ],
)
def test_mistakes_end_with_one_line(arguments, message, capsys):
    assert evaluate.main(arguments.split()) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("train.evaluate: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_run_of_another_version_or_without_checkpoints_is_refused(run_folder, tmp_path):
    written = json.loads((run_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        predictor.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(written | {"colour": 1}))
    with pytest.raises(UsageError, match="not from this version of the program: unknown colour"):
        predictor.load(tmp_path)
    assert config_lib.read(run_folder / "config.json", config_lib.Config) == averaged_config()
    with pytest.raises(UsageError, match=r"keeps no best checkpoint: train with --config\.keep_best=accuracy"):
        predictor.load(run_folder, best=True)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config_lib.Config())))
    with pytest.raises(UsageError, match=r"has no averaged parameters: train with --config\.optimizer\.ema=0\.999"):
        predictor.load(tmp_path, ema=True)


def test_reports_of_different_parameters_lie_in_different_folders():
    _, out, options = evaluate.parse(["--run=x", "--best", "--ema", "--rescale=both"])
    assert (str(out), options.best, options.ema) == ("x/evaluation_best_ema_rescaled_both", True, True)
    assert str(evaluate.parse(["--run=x"])[1]) == "x/evaluation"
