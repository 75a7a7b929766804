"""What a configuration says of mixing: as text, as an objective, and as it was once said."""

import contextlib
import functools
import re
import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from jaxmix.combinators import erm
from tests.api_test import PUBLIC
from tests.conftest import function, options
from tests.train.conftest import ROOT, setup, small_config
from train import config, flat_mix, main
from train.config import Mix
from train.data import splits
from train.errors import UsageError
from train.learning import mixing, steps
from train.running import parallel
from train.tasks import classifier


@pytest.mark.parametrize("method", [method for method in PUBLIC if method != "dense_multimix"])
def test_every_method_of_the_library_may_be_configured(method):
    codec = mixing.Codec(jnp.asarray, jnp.asarray)
    needed = "num_mixed=3, " if method == "multimix" else ""
    known = options(getattr(jaxmix, method))
    amounts = {"alpha": 0.3, "ratio": 0.3, "scale": (0.2, 0.5)}
    option, value = next((name, amounts[name]) for name in amounts if name in known)
    mix = Mix(f"{method}({needed}{option}={value})")
    fn = mixing.read(mix, codec=codec if mixing.takes_codec(mix) else None)
    assert function(fn) is getattr(jaxmix, method)
    assert fn.keywords[option] == value
    assert mixing.normal_form(mix) == mix.policy


@pytest.mark.parametrize(
    ("mix", "alpha"),
    [
        (Mix("mixup"), 1.0),
        (Mix("mixup(alpha=0.3, shared=True, pairing=permutation)"), 0.3),
        (Mix("approximate_mixup(alpha=0.4, curvature=True)"), 0.4),
        (Mix("linearized_mixup(alpha=0.4)"), 0.4),
        (Mix("mixup(pairing=transport(k=4))"), None),
        (Mix("mixup(pairing=same_class)"), None),
        (Mix("sometimes(mixup, probability=0.5)"), None),
        (Mix("mixup(alpha=linear(1.0, 0.5))"), None),
        (Mix("mixup", clean_epochs=1), None),
        (Mix("mixup", label_smoothing=0.1), None),
        (Mix("mixup", clean_weight=1.0), None),
        (Mix("no_such_module_here:mixup"), None),
        (Mix("mixup", "embeddings"), None),
        (Mix("reconstructed(mixup)", vae="gone"), None),
        (Mix("cutmix"), None),
        (Mix("erm"), None),
    ],
)
def test_a_run_is_rescaled_where_one_contraction_was_seen_throughout(mix, alpha):
    assert mixing.contraction(mix) == alpha


def test_nothing_is_mixed_however_that_is_written():
    for policy in ("erm", "erm()", " erm( )"):
        assert mixing.of_inputs(Mix(policy)) is erm
    assert mixing.clean(Mix("cutmix", clean_epochs=3, label_smoothing=0.1)) == Mix("erm", label_smoothing=0.1)


def test_an_objective_of_one_s_own_is_told_from_a_method(tmp_path, monkeypatch):
    """And is found in the current folder."""
    (tmp_path / "own_objectives.py").write_text("""
def scaled(model, batch, labels, rng, *, by=1.0, clean_weight=0.0):
    return by * batch.sum() + clean_weight, {}
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setitem(sys.modules, "own_objectives", None)
    del sys.modules["own_objectives"]
    mix = Mix("own_objectives:scaled(by=linear(2.0, 4.0))", clean_weight=7.0)
    objective = mixing.build(mix, num_steps=10)
    assert [float(objective(None, jnp.ones(2), None, None, step)[0]) for step in (0, 5, 10, 20)] == [
        11.0,
        13.0,
        15.0,
        15.0,
    ]
    assert objective(None, jnp.ones(2), None, None, 5)[1] == {"loss": 13.0}  # which every log has
    assert not mixing.is_objective(mixing.read(Mix("mixup")))


def test_what_is_shown_of_alpha_that_follows_the_run_is_what_a_traced_step_draws():
    batch, labels, rng = jax.random.normal(jax.random.key(1), (16, 4)), jnp.eye(16), jax.random.key(2)
    shown = mixing.of_inputs(Mix("mixup(alpha=linear(1.0, 0.2))"))(batch, labels, rng)[1]
    np.testing.assert_allclose(shown, jax.jit(jaxmix.mixup)(batch, labels, rng, alpha=jnp.float32(1))[1], atol=1e-6)
    assert not np.allclose(shown, jaxmix.mixup(batch, labels, rng)[1], atol=0.1)
    for name in ("approximate_mixup", "linearized_mixup"):
        contracted = mixing.of_inputs(Mix(f"{name}(alpha=0.4)"))(batch, labels, rng)[0]
        expected = jaxmix.regularization.contract(batch, batch.mean(0), alpha=0.4)
        np.testing.assert_allclose(contracted, expected, atol=1e-6)


RETURNED = {
    "batch.sum(), {'more': 1.0}": "",
    "batch.sum(), {}": "",
    "batch.sum()": "must return a loss of shape",
    "batch.sum((1, 2, 3)), {}": "must return a loss of shape",
    "batch.sum(), {'each': batch}": "must return a loss of shape",
    "{}['x']": "config.mix.policy 'own_objective:f': 'x'",
}


@pytest.mark.parametrize("returned", RETURNED)
def test_what_an_objective_of_one_s_own_returns_is_looked_at_before_it_is_compiled(
    returned, digits, tmp_path, monkeypatch
):
    (tmp_path / "own_objective.py").write_text(f"def f(model, batch, labels, rng):\n    return {returned}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_objective", raising=False)
    chosen = small_config(policy="own_objective:f")
    expected = pytest.raises(UsageError, match=RETURNED[returned]) if RETURNED[returned] else contextlib.nullcontext()
    with expected:
        classifier.build(chosen, digits)
    monkeypatch.delitem(sys.modules, "own_objective", raising=False)


@pytest.mark.parametrize(
    ("space", "returned", "message"),
    [
        ("inputs", "batch, labels[:, :3]", "with labels float32.32, 3."),
        ("inputs", "batch, {}['x']", "'x'"),
        ("inputs", "batch, next(iter(()))", "on each device: StopIteration$"),
        ("embeddings", "batch[:, :5], labels", r"of embeddings \[32, 16\] on each device, returns float32\[32, 5\]"),
        ("embeddings", "batch[:, None], labels", r"returns float32\[32, 1, 16\]"),
        ("logits", "batch[:, :5], labels", r"of logits \[32, 10\] on each device, returns float32\[32, 5\]"),
    ],
)
def test_what_a_method_of_one_s_own_returns_is_looked_at_too(space, returned, message, digits, tmp_path, monkeypatch):
    (tmp_path / "own_method.py").write_text(f"def f(batch, labels, rng):\n    return {returned}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_method", raising=False)
    with pytest.raises(UsageError, match=message):
        classifier.build(small_config(policy="own_method:f", space=space), digits)
    monkeypatch.delitem(sys.modules, "own_method", raising=False)


def test_labels_are_smoothed_before_they_are_mixed(digits):
    def labels_as_metric(model, batch, labels, rng, step):
        return 0 * model.classify(jnp.zeros((1, 4))).sum(), {"labels": labels}

    _, state, samples, step = setup(digits, labels_as_metric, name="mlp")
    smoothed = functools.partial(step, label_smoothing=0.2)
    batch = splits.Batch(np.arange(4, dtype=np.int32))
    mapped = jax.vmap(smoothed, (None, None, 0, None), axis_name=parallel.AXIS, out_axes=None)
    trained = jax.jit(mapped)(state, samples, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(0))[1]
    expected = 0.8 * jax.nn.one_hot(samples.labels[:4], 10) + 0.02
    np.testing.assert_allclose(trained["labels"], expected, atol=1e-6)
    augment = step.keywords["augment"]
    _, shown = steps.first_inputs(
        samples, batch, jax.random.key(0), augment=augment, mix=erm, num_classes=10, label_smoothing=0.2
    )
    np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "policy"),
    [
        ({"method": "erm"}, "erm"),
        ({"alpha": 0.2}, "kmixup(k=8, alpha=0.2)"),
        (
            {"method": "kmixup", "k": 4, "solver": "exact", "shared": True},
            "kmixup(k=4, solver='exact', shared=True, alpha=1.0)",
        ),
        ({"method": "mixup", "final_alpha": 0.2, "alpha": 2.0}, "mixup(alpha=linear(2.0, 0.2))"),
        ({"method": "hmix", "area_ratio": 0.25}, "hmix(area_ratio=0.25, alpha=1.0)"),
        ({"method": "cutmix", "pairing": "transport", "k": 4}, "cutmix(pairing=transport(k=4), alpha=1.0)"),
        ({"method": "gmix", "probability": 0.5}, "sometimes(gmix(alpha=1.0), probability=0.5)"),
        ({"method": "mixup", "vae": "runs/v"}, "reconstructed(mixup(alpha=1.0))"),
        ({"method": "erm", "vae": "runs/v"}, "reconstructed(erm)"),
        (
            {"method": "varmixup", "vae": "runs/v", "interpolation": "slerp", "real_fraction": 0.5},
            "varmixup(interpolation='slerp', real_fraction=0.5, alpha=1.0)",
        ),
        (
            {"method": "multimix", "space": "logits", "alpha_range": [0.5, 2.0]},
            "multimix(num_mixed=1000, alpha=(0.5, 2.0))",
        ),
        (
            {"method": "dense_multimix", "per_position": True},
            "dense_multimix(num_mixed=1000, per_position=True, alpha=1.0)",
        ),
        ({"method": "approximate_mixup", "curvature": True}, "approximate_mixup(curvature=True, alpha=1.0)"),
    ],
)
def test_configurations_of_before_are_read_as_policies(old, policy):
    """And each is one that is taken today."""
    chosen = config.from_tree(config.Config, {"mix": old | {"clean_epochs": 2}}).mix
    assert (chosen.policy, chosen.clean_epochs) == (policy, 2)
    assert (chosen.space, chosen.vae) == (old.get("space", "inputs"), old.get("vae", ""))
    assert mixing.normal_form(chosen) == policy
    mixing.ends_of(chosen, mixing.Codec(jnp.asarray, jnp.asarray) if chosen.vae else None)
    assert flat_mix.translated({"policy": "mixup"}) == {"policy": "mixup"}


def test_the_default_is_that_of_before():
    assert config.from_tree(config.Config, {"mix": {"method": "kmixup"}}) == config.Config()


@pytest.mark.slow
def test_the_policies_of_the_page_train(tmp_path, capsys):
    page = (ROOT / "train" / "README.md").read_text()
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "policy='cutmix" in block]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) > 3
    for i, command in enumerate(commands):
        assert command[:3] == ["python", "-m", "train.main"]
        small = ["--config.num_epochs=6", "--config.model.width=4", f"--workdir={tmp_path / str(i)}"]
        assert main.main([*command[3:], *small]) == 0
        written = config.read(tmp_path / str(i) / "config.json", config.Config).mix
        assert mixing.normal_form(written) == written.policy
