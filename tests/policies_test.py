"""Policies are read as they are written, and what is wrong in one is said in a line."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import pytest

import jaxmix
from jaxmix import policies
from tests import conftest

X = jnp.arange(8 * 6 * 5, dtype=jnp.float32).reshape(8, 6, 5, 1)
LABELS = jnp.eye(8)


def test_everything_public_has_its_name():
    for name in jaxmix.__all__:
        fn = getattr(jaxmix, name)
        if inspect.isfunction(fn) and [*inspect.signature(fn).parameters][1:3] == ["labels", "rng"]:
            if name not in ("varmixup", "multimix", "dense_multimix", "mix"):  # which need options
                assert jaxmix.policy(name) is fn
            else:
                assert policies.NAMES[name] is fn
    for module, parts in (("masks", conftest.MASKS), ("pairings", conftest.PAIRINGS)):
        for name in parts:
            assert policies.NAMES[name] is getattr(getattr(jaxmix, module), name)


def test_options_are_bound():
    fn = jaxmix.policy("cutmix(alpha=0.5, pairing=transport(k=4, solver='exact'), shared=True)")
    assert fn.func is jaxmix.cutmix
    pairing = fn.keywords.pop("pairing")
    assert fn.keywords == {"alpha": 0.5, "shared": True}
    assert pairing.func is jaxmix.pairings.transport
    assert pairing.keywords == {"k": 4, "solver": "exact"}
    assert jaxmix.policy("multimix(num_mixed=9, alpha=[0.5, 2])").keywords == {"num_mixed": 9, "alpha": (0.5, 2)}
    assert jaxmix.policy("mixup(pairing=roll(shift=-1))").keywords["pairing"].keywords == {"shift": -1}
    assert jaxmix.policy("kmixup(features=None)").keywords == {"features": None}
    solver = jaxmix.policy("kmixup(solver=sinkhorn(epsilon=0.1))").keywords["solver"]
    assert solver.func is jaxmix.assignment.sinkhorn
    attention = jaxmix.policy("dense_multimix(num_mixed=3, attention=uniform_attention)").keywords["attention"]
    assert attention is jaxmix.attention.uniform_attention


def test_combinators_are_called():
    text = "sometimes(one_of(mixup(alpha=0.8), cutmix(), probabilities=(0.3, 0.7)), probability=0.5)"
    by_hand = jaxmix.sometimes(
        jaxmix.one_of(functools.partial(jaxmix.mixup, alpha=0.8), jaxmix.cutmix, probabilities=(0.3, 0.7)),
        probability=0.5,
    )
    for seed in range(3):
        found, expected = (fn(X, LABELS, jax.random.key(seed)) for fn in (jaxmix.policy(text), by_hand))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, found, expected))


def test_a_method_may_be_put_together_of_parts():
    fn = jaxmix.policy("mix(pairing=roll, ratio=beta(alpha=0.3), mask=framed_box(area_ratio=0.25))")
    assert fn.func is jaxmix.mix
    assert fn.keywords["pairing"] is jaxmix.pairings.roll
    assert fn.keywords["mask"].keywords == {"area_ratio": 0.25}
    fn(X, LABELS, jax.random.key(0))


def test_alpha_follows_progress_and_every_value_shares_one_trace():
    text = "mixup(alpha=linear(1.0, 0.2))"
    assert jaxmix.policy(text, progress=0.25).keywords == {"alpha": pytest.approx(0.8)}
    traces = []

    @jax.jit
    def mixed(progress):
        traces.append(progress)
        return jaxmix.policy(text, progress=progress)(X, LABELS, jax.random.key(1))

    for progress in (0.25, 0.75):
        alpha = jnp.float32(1 - 0.8 * progress)
        expected = jax.jit(jaxmix.mixup)(X, LABELS, jax.random.key(1), alpha=alpha)[1]
        assert jnp.allclose(mixed(jnp.float32(progress))[1], expected, atol=1e-5)
    assert len(traces) == 1


def test_what_no_text_can_say_is_given():
    parts = {"encode": jnp.log1p, "decode": jnp.expm1}
    by_hand = jaxmix.sometimes(functools.partial(jaxmix.varmixup, alpha=0.4, **parts), probability=0.5)
    for text in ("sometimes(varmixup(alpha=0.4), probability=0.5)", "sometimes(reconstructed(erm), probability=0.0)"):
        fn = jaxmix.policy(text, **parts)
        expected = by_hand(X, LABELS, jax.random.key(0))[0] if "varmixup" in text else X
        assert jnp.array_equal(fn(X, LABELS, jax.random.key(0))[0], expected)
    assert jaxmix.policy("varmixup", **parts).keywords == parts
    assert jaxmix.policy("mixup(alpha=0.25)", alpha=0.75).keywords == {"alpha": 0.25}  # what the text says counts
    parts = {"encode": jnp.zeros_like, "decode": lambda latents: latents + 1}
    assert jnp.all(jaxmix.policy("reconstructed(mixup)", **parts)(X, LABELS, jax.random.key(0))[0] == 1)
    with pytest.raises(ValueError, match="policy 'mixup': no function in it has the option encode, decode, which was"):
        jaxmix.policy("mixup", **parts)
    with pytest.raises(ValueError, match="varmixup needs decode="):
        jaxmix.policy("varmixup", encode=jnp.log1p)


def test_options_of_all_functions():
    found = policies.options("sometimes(cutmix(pairing=transport(k=linear(1, 2))), probability=0.5)")
    assert found == {
        "alpha",
        "pairing",
        "shared",
        "k",
        "solver",
        "cost",
        "groups",
        "features",
        "probability",
    }
    assert policies.options("one_of(mixup, multimix(num_mixed=3))") >= {"num_mixed", "alpha", "probabilities"}


def test_other_names_and_any_kind():
    def objective(model, batch, labels, rng, *, alpha=1.0):
        return model, alpha

    names = {"objective": objective, "mixup": jaxmix.mixup}
    assert policies.read("objective(alpha=linear(0, 4))", names=names, progress=0.25)("model", 0, 0, 0) == (
        "model",
        1.0,
    )
    assert policies.read("box(side=1)", names={"box": lambda **sides: sides}) == {"side": 1}
    with pytest.raises(ValueError, match="no mixip: did you mean mixup"):
        policies.read("mixip", names=names)
    with pytest.raises(ValueError, match="the policy must be a method"):
        policies.read("objective", names=names, kind=jaxmix.MixFn)


def test_functions_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "own_mixes.py").write_text(
        """
import jaxmix
import jax.numpy as jnp

def checkered(space, ratio, rng, *, cells):
    return jnp.broadcast_to(ratio[:, None, None], (len(ratio), *space))

def halves(batch, labels, rng, *, scale=1.0):
    return batch * scale, labels

def free(batch, labels, rng, *, mode: str | None = None, other: "str" = ""):
    return batch, labels

def crowded(batch, labels, rng, *, a=0, b=0, c=0, d=0, e=0, f=0, g=0, h=0, i=0, j=0):
    return batch, labels

def attention(images):
    return images[..., 0]

def failing(fn):
    raise KeyError("two\\nlines")

def other_names(x, y, key):
    return x, y

def doubled(fn):
    return lambda batch, labels, rng: fn(*fn(batch, labels, rng), rng)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    fn = jaxmix.policy("mix(pairing=roll, ratio=beta, mask=own_mixes:checkered(cells=4))")
    assert fn.keywords["mask"].keywords == {"cells": 4}
    assert float(jaxmix.policy("own_mixes:halves(scale=0.5)")(X, LABELS, jax.random.key(0))[0].max()) == 119.5
    assert jaxmix.policy("own_mixes:doubled(own_mixes:halves(scale=2))")(X, LABELS, None)[0].max() == 4 * 239
    assert jaxmix.policy("saliencymix(guide=own_mixes:attention)").keywords["guide"](X).shape == (8, 6, 5)
    assert jaxmix.policy("own_mixes:free(mode='a', other='b:c')").keywords == {"mode": "a", "other": "b:c"}
    (tmp_path / "broken_mixes.py").write_text("def f(:")
    for wrong, words in (
        ("broken_mixes:f", "broken_mixes:f: SyntaxError: invalid syntax"),
        ("own_mixes:failing(mixup)", "own_mixes:failing: KeyError: "),
        ("own_mixes:other_names", "a function of (batch, labels, rng), by these names"),
        ("own_mixes:halfs()", "own_mixes has no function halfs: did you mean halves?"),
        ("own_mixes:halves(scales=2)", "own_mixes:halves has no option scales: did you mean scale?"),
        ("own_mixes:crowded(zz=2)", "own_mixes:crowded has no option zz: it has a, b, c, d, e, f, g, h, i, j"),
        ("mix(pairing=roll, ratio=beta, mask=own_mixes:checkered())", "own_mixes:checkered needs cells="),
        ("own_mixis:halves", "own_mixis:halves: ModuleNotFoundError: No module named 'own_mixis'"),
        ("cutmix(pairing=pairings.transport(k=4))", "pairings:transport: write transport"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            jaxmix.policy(wrong)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" mixup ", "mixup"),
        ('kmixup( solver = "exact",k=4,)', "kmixup(solver='exact', k=4)"),
        ("multimix(num_mixed=10,\n alpha=[.5,2.])", "multimix(num_mixed=10, alpha=(0.5, 2.0))"),
        ("one_of(mixup, probabilities=[1.0])", "one_of(mixup, probabilities=(1.0,))"),
        ("a:f(x='it\\'s a:b', y=\"'c:d\")", 'a:f(x="it\'s a:b", y="\'c:d")'),
        ("cutmix(alpha = linear(1, -2))", "cutmix(alpha=linear(1, -2))"),
    ],
)
def test_the_normal_form(text, normal):
    assert policies.normal_form(text) == normal == policies.normal_form(normal)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mixp", "jaxmix has no mixp: did you mean mixup?"),
        ("frobnicate", "jaxmix has no frobnicate: write a function of your own as module:function"),
        ("cutmix(alfa=1)", "cutmix has no option alfa: did you mean alpha?"),
        ("cutmix(batch=1)", "cutmix has no option batch: take one of alpha, pairing, shared"),
        ("cutmix(pairing=box)", "pairing of cutmix must be a pairing, a function of (batch, rng)"),
        ("saliencymix(guide=beta)", "guide of saliencymix must be a guide, a function of (batch)"),
        ("attentivemix(guide=3)", "guide of attentivemix must be a guide, a function of (batch)"),
        ("cutmix(pairing='transport')", "pairing of cutmix cannot be 'transport': write it without quotes"),
        ("mixup(alpha='0.4')", "alpha of mixup cannot be '0.4': write it without quotes"),
        ("kmixup(solver='exactly')", "solver of kmixup cannot be 'exactly': did you mean exact?"),
        ("kmixup(cost='l1')", "cost of kmixup cannot be 'l1': take one of sqeuclidean, euclidean"),
        ("box", "the policy must be a method, a function of (batch, labels, rng)"),
        ("sometimes(box, probability=0.5)", "fn of sometimes must be a method"),
        ("one_of(mixup, 3)", "fns of one_of must be a method"),
        ("mixup(alpha=0.3, alpha=0.4)", "mixup has alpha twice"),
        ("3", "the policy must be a method"),
        ("mixup(0.3)", "mixup takes options by name, such as mixup(alpha=...)"),
        ("multimix()", "multimix needs num_mixed="),
        ("multimix", "multimix needs num_mixed="),
        ("varmixup()", "varmixup needs encode=, decode="),
        ("sometimes", "sometimes needs probability="),
        ("sometimes(probability=0.5)", "the policy must be a method, a function of (batch, labels, rng)"),
        ("sometimes(mixup)", "sometimes needs probability="),
        ("sometimes(mixup, probability=3)", "probability must lie in [0, 1], got 3"),
        ("mixup(alpha=linear(1, 2))", "linear needs progress=, the fraction of training that is done"),
        ("mixup(alpha=linear('a', 2))", "linear takes two numbers, such as linear(1.0, 0.2), got ['a', 2]"),
        ("mixup(alpha=linear(1))", "linear takes two numbers, such as linear(1.0, 0.2), got [1]"),
        ("mixup(**mixup)", "mixup(**mixup) is not a name, call, number, string or tuple"),
        ("json:quantum()", "json has no function quantum: take one of "),
        ("mixup(alpha=1 + 1)", "1 + 1 is not a name, call, number, string or tuple"),
        ("mixup(alpha=b'x')", "b'x' is not a name, call, number, string or tuple"),
        ("mixup(**{})", "mixup(**{}) is not a name, call, number, string or tuple"),
        ("__import__('os').system('ls')", "__import__('os') is not the name of a module"),
        ("mixup()()", "mixup() is not the name of a function"),
        ("lambda: 1", "is not a name, call, number, string or tuple"),
        ("mixup(", "'(' was never closed: write it as cutmix(alpha=0.5)"),
        ("", "invalid syntax: write it as cutmix(alpha=0.5)"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        jaxmix.policy(text)
    message = str(raised.value)
    assert message.startswith(f"policy {text!r}: ")
    assert "\n" not in message
