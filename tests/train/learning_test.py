"""How parameters follow gradients: averages, clipping, decay, parts of a batch; and which checkpoint is the best."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train import config, models
from train.data import Means
from train.errors import UsageError
from train.learning import accumulation, averages, optimizers, steps
from train.running import best, checkpoints, manifest, parallel


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_weighs_steps_by_powers_of_the_decay_and_the_start_not_at_all(decay):
    made = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    average = averages.init({"w": jnp.full(3, 1e6)}, {"mean": jnp.full(3, 1e6)})
    for taken, values in enumerate(made, start=1):
        average = averages.update(average, {"w": jnp.asarray(values)}, {"mean": jnp.asarray(-values)}, decay=decay)
        weights = decay ** np.arange(taken)[::-1].astype(np.float64)
        expected = weights @ made[:taken] / weights.sum()
        np.testing.assert_allclose(average.params["w"], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(average.batch_stats["mean"], -expected, rtol=1e-4, atol=1e-6)
    assert int(average.steps) == 40


@pytest.mark.parametrize(("decay", "total"), [(0.999, 440), (0.999, 999), (0.9, 6), (0.99, 3)])
def test_an_average_that_still_weighs_the_start_is_said_with_its_share_and_a_remedy(decay, total):
    found = re.search(
        r"first half of .* has (\d+)% .* lower decay, such as (\S+)$", averages.warning(decay, steps=total)
    )
    weights = decay ** np.arange(total)[::-1]
    share, odd = weights[: total // 2].sum() / weights.sum(), total % 2 / total  # which has no half of whole steps
    assert int(found[1]) == pytest.approx(100 * share, abs=0.5 + 50 * odd)
    lower = float(found[2])
    assert 0 < lower < decay
    assert not averages.warning(lower, steps=total)


def test_an_average_that_leaves_the_start_behind_or_is_none_is_not_spoken_of():
    for decay, total in ((0.999, 1001), (0.9, 440), (0.0, 440), (0.5, 1), (0.999, 1)):
        assert not averages.warning(decay, steps=total)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_parts_of_a_batch_are_averaged_in_order_each_with_a_key_of_its_own(platform, monkeypatch):
    """On CPUs unrolled, elsewhere by a loop."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    rng, batch = jax.random.key(0), {"x": jnp.arange(12.0).reshape(6, 2)}

    def function(carried, part, rng):
        return {"mean": part["x"].mean(0), "drawn": jax.random.uniform(rng)}, 0.5 * carried + part["x"].sum()

    outputs, carried = jax.jit(lambda: accumulation.mean(function, jnp.float32(1), batch, rng, count=3))()
    np.testing.assert_allclose(outputs["mean"], np.arange(12.0).reshape(6, 2).mean(0))
    assert float(carried) == ((0.5 + 6) * 0.5 + 22) * 0.5 + 38
    drawn = [float(jax.random.uniform(jax.random.fold_in(rng, i))) for i in range(3)]
    assert float(outputs["drawn"]) == pytest.approx(np.mean(drawn))
    alone, _ = accumulation.mean(function, jnp.float32(1), batch, rng, count=1)
    assert float(alone["drawn"]) == float(jax.random.uniform(rng))


def made_by(gradient, params, **options):
    """What a step of an optimizer of learning rate 1 makes of parameters."""
    optimizer = optimizers.build(config.Optimizer(**options), optax.constant_schedule(1.0))
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_long_gradients_are_cut_to_the_norm_and_short_ones_left():
    params = {"a": jnp.zeros(2), "b": jnp.zeros((1, 1))}
    gradient = {"a": jnp.asarray([2.0, 3.0]), "b": jnp.full((1, 1), 6.0)}  # of norm 7
    options = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    for clip_norm, factor in ((0.0, 1), (14.0, 1), (3.5, 0.5)):
        after = made_by(gradient, params, **options, clip_norm=clip_norm)
        jax.tree.map(lambda a, g, f=factor: np.testing.assert_allclose(a, -f * g, rtol=1e-6), after, gradient)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_do_not_decay_where_asked(name):
    """Of all that Flax' layers have, those of attention included, and before any gradient."""
    params = {
        "Dense_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
        "LayerNorm_0": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
        "MultiHeadDotProductAttention_0": {"query": {"kernel": jnp.ones((2, 1, 2)), "bias": jnp.ones((1, 2))}},
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    for decay_vectors in (True, False):
        after = made_by(zero, params, name=name, weight_decay=0.1, decay_vectors=decay_vectors)
        for path, leaf in jax.tree.leaves_with_path(after):
            decays = decay_vectors or path[-1].key == "kernel"
            np.testing.assert_allclose(leaf, 0.9 if decays else 1.0, rtol=1e-6)
    vit = models.build(config.Config(model=config.Model(name="vit", width=64, depth=1)), (8, 8, 1), 10)
    shapes = jax.eval_shape(vit.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    mask = jax.tree.leaves_with_path(optimizers.decayed(shapes))
    assert {path[-1].key for path, decays in mask if not decays} == {"bias", "scale"}
    assert {path[-1].key for path, decays in mask if decays} == {"kernel", "class_token", "places"}


# --- the best checkpoint


def tiny(step):
    """A state whose step can be told."""
    state = steps.TrainState(jnp.int32(step), {"w": jnp.full(2, float(step))}, {}, optax.EmptyState())
    return parallel.place(state)


MEANS = parallel.place(Means(np.zeros(1, np.float32), np.zeros(1, np.float32)))


def there(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


@pytest.mark.parametrize(("measure", "sign"), [("accuracy", 1), ("ema_nll", -1)])
def test_the_first_of_the_best_is_kept_beside_the_newest_two(measure, sign, tmp_path, capsys):
    def measured(value):
        return {measure: sign * value, "ece": 0.5}

    saved = checkpoints.Checkpoints(tmp_path, writes=True, keep_best=measure)
    for step, value in ((1, 0.2), (2, 0.7), (3, 0.7)):
        assert saved.improves(measured(value)) == (step < 3)
        saved.save(tiny(step), [], MEANS, measured(value))
    saved.save(tiny(4), [{"loss": 1.0}], MEANS, {})  # in the middle of an epoch
    assert not saved.improves({})
    assert (there(tmp_path), saved.best, saved.step) == ([2, 3, 4], 2, 4)

    resumed = checkpoints.Checkpoints(tmp_path, writes=True, keep_best=measure)
    assert (resumed.best, resumed.step) == (2, 4)
    assert not resumed.improves(measured(0.7))
    reader = checkpoints.Checkpoints(tmp_path, keep_best=measure)
    assert float(reader.restore(tiny(0)).params["w"][0]) == reader.step == 2
    assert checkpoints.Checkpoints(tmp_path).step == 4
    resumed.save(tiny(5), [], MEANS, measured(0.8))
    assert (there(tmp_path), resumed.best) == ([4, 5], 5)

    (tmp_path / "5" / manifest.NAME).unlink()  # what was measured of 4 is not known
    assert checkpoints.Checkpoints(tmp_path, writes=True, keep_best=measure).best == 0
    assert "passing over" in capsys.readouterr().out
    with pytest.raises(UsageError, match=f"no checkpoint whose {measure} was measured on a validation split"):
        checkpoints.Checkpoints(tmp_path, keep_best=measure).restore(tiny(0))


def test_a_broken_best_checkpoint_is_set_aside_as_the_newest_is(tmp_path, capsys):
    saved = checkpoints.Checkpoints(tmp_path, writes=True, keep_best="accuracy")
    for step, accuracy in ((1, 0.9), (2, 0.3), (3, 0.4)):
        saved.save(tiny(step), [], MEANS, {"accuracy": accuracy})
    (tmp_path / "1" / "metrics" / "metadata").write_text("[1]")
    assert checkpoints.Checkpoints(tmp_path, keep_best="accuracy").step == 3
    assert there(tmp_path) == [1, 2, 3]
    assert checkpoints.Checkpoints(tmp_path, writes=True, keep_best="accuracy").best == 3
    assert (tmp_path / "broken-1").is_dir()
    assert capsys.readouterr().out.count("passing over") == 2


def test_scores_rise_with_accuracy_and_fall_with_nll():
    assert best.score("accuracy", {"accuracy": 0.5, "nll": 3.0}) == 0.5
    assert best.score("ema_nll", {"nll": 3.0, "ema_nll": 2.0}) == -2.0
    assert best.score("nll", {}) is None
