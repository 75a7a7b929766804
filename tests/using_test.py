"""The examples of the library's pages run as they stand."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix import cutting
from jaxmix.masks import shapes
from tests.api_test import ROOT

PAGE = (ROOT / "jaxmix" / "USING.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in SECTIONS.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the frameworks, at their import
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_section_runs(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    [example] = EXAMPLES[name]
    assert len(example.splitlines()) <= 20
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(example, name, "exec"), {"__name__": "example"})


def test_a_method_is_added_as_the_library_s_page_says():
    """Its two examples, put where the page says, give a method whose labels get the share that is seen."""
    page = (ROOT / "jaxmix" / "README.md").read_text()
    section = page[page.index("\n## Adding a method") :]
    mask, method = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len((mask + method).splitlines()) <= 15
    names = {"jax": jax} | vars(shapes)
    exec(mask, names)
    more = vars(cutting) | {"masks": types.SimpleNamespace(stripes=names["stripes"])}
    exec(method, more)
    probe = jnp.broadcast_to(jnp.eye(8)[:, None, None, :], (8, 6, 5, 8))
    mixed, labels = more["stripemix"](probe, jnp.eye(8), jax.random.key(0))
    np.testing.assert_allclose(labels, mixed.mean((1, 2)), atol=1e-6)
    assert np.all(mixed == mixed[:, :1])
    assert np.ptp(np.asarray(labels)) > 0.1
