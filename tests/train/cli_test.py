"""Flags, configuration files and mistakes in them."""

import pathlib
import re

import jax
import jaxtyping
import pytest

from tests.train.conftest import ROOT
from train import cli, config, main
from train.errors import UsageError
from train.learning import checks
from train.running import run_folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--confg=x", "unknown flag --confg: did you mean --config?"),
        ("mix.polciy=erm", "unknown flag --config.mix.polciy: did you mean --config.mix.policy?"),
        ("--epochs=3", "unknown flag --epochs: did you mean --config.num_epochs[?]$"),
        ("--batch-size=64", "unknown flag --batch-size: did you mean --config.data.batch_size[?]$"),
        ("--lr=0.1", "unknown flag --lr: did you mean --config.optimizer.learning_rate[?]$"),
        ("optimizer.lr=0.1", "unknown flag --config.optimizer.lr: did you mean --config.optimizer.learning_rate[?]$"),
        ("--config.modle.name=cnn", "unknown flag --config.modle.name: did you mean --config.model.name[?]$"),
        ("--model=cnn", "--model has fields of its own: give one of --config.model.name, "),
        ("--nothing=like", "unknown flag --nothing: see --help$"),
        ("mix.method=cutmix", "--config.mix.method is part of the policy, such as --config.mix.policy='cutmix"),
        ("--config=train/configs/digts.py", "unknown config .*did you mean train/configs/digits.py?"),
        ("--config=LICENSE", "config LICENSE is not a Python file"),
        ("--config=train/main.py", r"needs a function get_config\(\)"),
        ("--coordinator=localhost:1", "give all three or none"),
        ("--distributed", "cannot join the other processes: "),
        ("seed=1.5", "--config.seed=1.5: give a whole number$"),
        ("optimizer.learning_rate=1,5", "--config.optimizer.learning_rate=1,5: give a number$"),
        ("model.final_norm=maybe", "--config.model.final_norm=maybe: give true or false$"),
        ("--process_id=one", "--process_id=one: give a whole number$"),
        ("digits", "cannot read 'digits': write flags as --name=value"),
        ("data.name=digit", "unknown data set digit: did you mean digits?"),
        ("data.name=coco", "unknown data set coco: take one of digits, iris"),
        ("data.batch_size=2000", "=2000 does not fit 4 devices and 1437 .* multiple of 4 from 4 to 1436$"),
        ("data.batch_size=30", "=30 does not fit 4 devices.*multiple of 4 from 4 to 1436$"),
        ("data.batch_size=64 mix.policy=kmixup(k=16)", "kmixup.k=16.', of inputs .16, 8, 8, 1. on each device: k=16"),
        ("mix.policy=kmixup(k=0)", "k must be"),
        ("mix.policy=cutmix(pairing=transport(k=32))", "of inputs .32, 8, 8, 1. on each device: k=32"),
        ("mix.policy=cutmix(pairing=transprt)", "config.mix.policy .*jaxmix has no transprt: did you mean transport?"),
        ("mix.policy=hmix(area_ratio=2)", r"area_ratio must lie in \[0, 1\], got 2"),
        (
            "mix.policy=approximate_mixup(shared=True)",
            "approximate_mixup has no option shared: take one of alpha, curvature",
        ),
        ("mix.policy=mixup(k=4)", "mixup has no option k: take one of alpha, pairing, shared"),
        ("mix.policy=erm mix.clean_epochs=2", "mix.policy=erm mixes nothing: do not set mix.clean_epochs"),
        ("mix.policy=multimix(num_mixed=9)", "on each device: embeddings must have shape .m, d. without a 0"),
        (
            "mix.policy=multimix(num_mixed=9) data.name=iris model.name=mlp data.batch_size=32",
            "of inputs .8, 4. on each device, returns 9 samples: take mix.space=logits, or embeddings",
        ),
        ("mix.policy=multimix mix.space=logits", "multimix needs num_mixed="),
        ("mix.policy=multimix(num_mixed=0) mix.space=logits", "num_mixed must be at least 1, got 0"),
        ("mix.policy=dense_multimix(alpha=0)", "alpha must be positive and finite, got 0"),
        ("mix.policy=dense_multimix(alpha=(2,1))", "is an empty range: give the lower end first"),
        ("mix.policy=dense_multimix(alpha=linear(1,0))", "alpha must be positive and finite, got 0"),
        ("mix.policy=dense_multimix mix.space=logits", "is an objective of its own: do not set mix.space=logits"),
        ("mix.policy=dense_multimix model.name=vit model.patch_size=2", "class token.*take mix.clean_weight=1"),
        (
            "mix.policy=transmix",
            "needs the attention of a class token, which model cnn does not have: take model.name=vit",
        ),
        ("mix.policy=transmix(attended=2) model.name=vit model.patch_size=2", r"attended must lie in \[0, 1\], got 2"),
        ("mix.policy=approximate_mixup mix.clean_weight=1", "no function in it has the option clean_weight"),
        ("mix.policy=cutmix mix.space=logits", "this mask needs an axis longer than 1"),
        (
            "mix.policy=one_of(mixup,cutmix,probabilities=(linear(.9,.1),linear(.1,.9)))",
            "linear is for numbers such as alpha: one_of: Tracer",
        ),
        ("mix.policy=varmixup(alfa=1)", "varmixup has no option alfa: did you mean alpha?"),
        ("mix.policy=3", "the policy must be a method"),
        (
            "mix.policy=dense_multimix(clean_weight=0.5) mix.clean_weight=1",
            "clean_weight is given twice, there and by mix.clean_weight",
        ),
        ("mix.policy=mixup(", "policy 'mixup.': .* write it as cutmix.alpha=0.5."),
        ("mix.policy=train.learning.steps:pixels", "the policy must be a method, a function of"),
        ("mix.space=logit", "unknown space logit: did you mean logits?"),
        ("mix.label_smoothing=1", "mix.label_smoothing=1.0: take from 0 to less than 1"),
        ("mix.clean_weight=-1", "mix.clean_weight=-1.0: it must not be negative"),
        ("mix.clean_weight=1 mix.space=layers", "mix.clean_weight=1.0: it must be 0 where layers are mixed, since the"),
        ("data.num_train=20", "=128 does not fit 4 devices and 20 .* multiple of 4 from 4 to 20$"),
        ("data.num_train=1437", "num_train=1437: take from 10 to 1390"),
        ("data.num_validation=3", "num_validation=3: take from 10 to 1427"),
        ("data.augmentation=flop", "unknown augmentation flop: did you mean flip?"),
        ("data.mean=(0.5,)", "give 1 numbers each"),
        ("data.mean=x", "data.mean=.'x',.: give numbers, such as"),
        ("--config.mix=cutmix", "--config.mix has fields of its own: give one of --config.mix.policy, "),
        ("data.name=iris data.batch_size=64", "model cnn takes images, not samples of shape .4,.: take mlp"),
        (
            "data.name=wine model.name=mlp mix.policy=cutmix data.batch_size=64",
            "config.mix.policy .*this mask needs an axis",
        ),
        ("data.name=wine model.name=mlp data.batch_size=64 data.augmentation=flip", "is for images"),
        ("model.name=cn", "unknown model cn: did you mean cnn?"),
        ("model.width=-1", "width and depth must be at least 1"),
        ("model.depth=3", "model.depth=3: cnn has a fixed depth, so leave it 0"),
        ("model.name=vit model.patch_size=3", r"patch_size=3 does not divide images of \(8, 8\)"),
        ("model.name=vit model.width=200", "take a multiple of 64"),
        ("model.name=wrn model.depth=12", "n = 6 m . 4"),
        ("model.dtype=float16", "unknown model.dtype float16: did you mean bfloat16"),
        ("mix.policy=cutmx", "config.mix.policy .*jaxmix has no cutmx: did you mean cutmix?"),
        ("mix.policy=mixup(alpha=0)", "alpha must be positive and finite, got 0"),
        ("mix.policy=mixup(alpha=linear(1,-1))", "alpha must be positive and finite, got -1"),
        ("mix.clean_epochs=40", "clean_epochs=40: take from 0 to 39, or mix.policy=erm"),
        ("mix.policy=kmixup(solver='greedy')", "solver of kmixup cannot be 'greedy': take one of sinkhorn, exact"),
        ("mix.policy=sometimes(mixup,probability=2)", r"probability must lie in \[0, 1\], got 2"),
        ("optimizer.name=sdg", "unknown optimizer sdg: did you mean sgd?"),
        ("optimizer.schedule=step", "unknown schedule step: did you mean steps?"),
        ("optimizer.milestones=(3,)", "milestones=.3,. with schedule=cosine"),
        ("optimizer.schedule=steps optimizer.milestones=(50,)", "between the warm-up and num_epochs=40"),
        ("optimizer.momentum=1", r"momentum must lie in \[0, 1\)"),
        ("optimizer.learning_rate=-1", "learning_rate must be > 0"),
        ("optimizer.learning_rate=inf", "both finite"),
        ("optimizer.clip_norm=-1", "optimizer.clip_norm must be finite and at least 0, got -1.0"),
        ("optimizer.ema=1", r"optimizer.ema must lie in \[0, 1\), got 1.0: take 0.999"),
        ("optimizer.accumulate=0", "optimizer.accumulate must be at least 1, got 0"),
        (
            "optimizer.accumulate=3",
            "=128 does not fit 4 devices and 1437 training samples, in optimizer.accumulate=3 parts each: "
            "take a multiple of 12 from 12 to 1428$",
        ),
        ("optimizer.accumulate=2 mix.policy=kmixup(k=16)", "of inputs .16, 8, 8, 1. on each device: k=16"),
        ("optimizer.accumulate=2 mix.policy=erm data.batch_size=20", "parts each: take a multiple of 8 from 8 to 1432"),
        ("keep_best=accuracy", "hold samples out by --config.data.num_validation, since the test split must not"),
        ("keep_best=acuracy", "unknown measure --config.keep_best=acuracy: did you mean --config.keep_best=accuracy?"),
        (
            "keep_best=ema_nll data.num_validation=100",
            "needs averaged parameters: set --config.optimizer.ema=0.999, too",
        ),
        ("--profile_steps=20:10", "=20:10: give two numbers, such as 10:20 for the ten steps after the tenth"),
        ("--profile_steps=3:441", "--profile_steps=3:441: the run has 440 steps$"),
        ("seed=-1", "seed must be from 0 to 4294967295, got -1"),
        ("seed=4294967296", "seed must be from 0 to 4294967295"),
        ("num_epochs=0", "num_epochs must be at least 1, got 0"),
        ("checkpoint_steps=0", "checkpoint_steps must be at least 1"),
        ("eval_epochs=0", "eval_epochs must be at least 1, got 0"),
        ("--workdir=LICENSE", "LICENSE is not a folder: name one by --workdir"),
        ("--workdir=gs://bucket/run", "mount that storage"),
        ("--workdir=tests", "tests contains something other than a run"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(arguments, message, capsys, monkeypatch):
    """A word such as mix.k=0 is the flag --config.mix.k=0."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a user's run
    monkeypatch.setattr(run_folder, "claim", lambda *_, **__: pytest.fail("the mistake was not seen"))
    if "workdir" in arguments:
        monkeypatch.undo()
        monkeypatch.chdir(ROOT)
    fields = re.compile(r"^(data|model|mix|optimizer|seed|num_epochs|checkpoint_steps|eval_epochs|keep_best)\b.*=")
    words = [f"--config.{word}" if fields.match(word) else word for word in arguments.split()]
    assert main.main(words) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("devices", "parts", "message"),
    [
        (1, 1, "=2000 does not fit 1437 training samples: take from 1 to 1437"),
        (
            1,
            3,
            "=2000 does not fit 1437 training samples, in optimizer.accumulate=3 parts each: take a multiple of 3 fr",
        ),
        (1, 1500, "parts each: take fewer parts"),
        (8, 1500, "=2000 does not fit 8 devices and 1437 .* parts each: take fewer devices or parts"),
    ],
)
def test_a_batch_that_does_not_fit_is_said_of_several_devices_where_there_are_some(devices, parts, message, digits):
    chosen = config.Config(data=config.Data(batch_size=2000), optimizer=config.Optimizer(accumulate=parts))
    with pytest.raises(UsageError, match=message):
        checks.check_run(chosen, digits, devices=devices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("from train.config import *\ndef get_config(): return Config(mix=Mix(alhpa=1))", "TypeError: .*alhpa"),
    ],
)
def test_mistakes_in_a_config_file_end_alike(text, message, capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main.main([f"--config={path}"]) == 2
    captured = capsys.readouterr()
    assert re.search(f"config {path}: {message}", captured.err)
    assert captured.err.count("\n") == 1


def test_help_names_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for flag in (
        "--config.mix.policy='kmixup(k=8, alpha=1.0)'",
        "--config.data.batch_size=128",
        "--config.num_epochs=40",
        "--workdir",
    ):
        assert flag in printed


def test_a_dry_run_checks_all_prints_what_would_be_done_and_leaves_nothing(tmp_path, capsys, caplog):
    folder = tmp_path / "run"
    flags = ["--config.model.width=4", "--config.mix.policy=mixup(alpha=0.3)", "--config.num_epochs=2", "--dry_run"]
    flags.append("--config.optimizer.ema=0.99")
    with jax.log_compiles():
        assert main.main([*flags, f"--workdir={folder}"]) == 0
    assert not {"init", "train_step", "eval_step", "_normal"} & set(re.findall(r"Compiling jit\((\w+)\)", caplog.text))
    printed = capsys.readouterr().out
    assert not folder.exists()
    for line in (
        r"optimizer.ema=0.99: the first half of 22 steps has 47% of the average: take a lower decay, such as 0.5",
        r"--config.mix.policy +mixup\(alpha=0\.3\)",
        r"backbone/Conv_1 +Conv +float32\[1,8,8,4\] +float32\[1,4,4,8\] .*bias: float32\[8\]",
        r"parameters +4,082",
        r"samples +train 1,437, test 360",
        r"an epoch +11 steps of 128, 29 samples left out",
        r"epochs +2, 22 steps",
        rf"to come +22 steps, from step 0 on, in {folder}",
    ):
        assert re.search(f"^{line}$", printed, re.MULTILINE), line
    assert max(map(len, printed.splitlines())) <= 120
    assert "function" not in printed
    assert "data.channels" not in printed
    assert main.main([*flags, "--workdir=tests"]) == 2
    assert "tests contains something other than a run" in capsys.readouterr().err
    run_folder.claim(folder, config.Config()).close()
    assert main.main([*flags, f"--workdir={folder}"]) == 2
    assert "mix.policy=kmixup(k=8, alpha=1.0) there and mixup(alpha=0.3) here" in capsys.readouterr().err


def test_flags_override_the_config_file():
    flags = ["--config.mix.policy=cutmix( alpha=.4)", "--config.model.final_norm=false", "--workdir=x"]
    parsed, workdir, *cluster, dry_run, profiled = cli.parse(flags, "")
    assert parsed == config.Config(mix=config.Mix("cutmix( alpha=.4)"), model=config.Model(final_norm=False))
    assert workdir == pathlib.Path("x")
    assert cluster == [False, False, None, None, None]
    assert not dry_run
    assert not profiled
    assert cli.parse(["--profile_steps=10:20"], "").profile_steps == range(10, 20)


def test_every_config_says_how_it_is_run_and_what_came_out():
    for path in cli.CONFIGS.glob("*.py"):
        text = path.read_text()
        assert re.search(r"Command: python -m train\.(main|compare|vae)", text), path
        assert re.search(r"Hardware: \S", text), path
        assert re.search(r"Result: (not yet run|.*\d|in the results)", text), path
