"""Translates older configurations, with a field for each option of mixing, to policies."""

from collections.abc import Mapping
from typing import Any

# The fields that became part of the policy, with their defaults.
FIELDS: Mapping[str, Any] = {
    "method": "kmixup",
    "alpha": 1.0,
    "final_alpha": 0.0,
    "alpha_range": (),
    "num_mixed": 1000,
    "per_position": False,
    "interpolation": "linear",
    "real_fraction": 0.0,
    "area_ratio": 0.5,
    "pairing": "permutation",
    "k": 8,
    "solver": "sinkhorn",
    "probability": 1.0,
    "shared": False,
    "curvature": False,
}


def translated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a Mix in today's form, given in today's or the older form, as read from JSON."""
    if not set(tree) & set(FIELDS):
        return dict(tree)
    policy = _policy({**FIELDS, **tree})
    return {"policy": policy} | {name: value for name, value in tree.items() if name not in FIELDS}


def _policy(old: Mapping[str, Any]) -> str:
    method, ranged = old["method"], tuple(old["alpha_range"])
    transport = [f"k={old['k']}", *([f"solver={old['solver']!r}"] if old["solver"] != "sinkhorn" else [])]
    options = transport if method == "kmixup" else []
    if method in ("multimix", "dense_multimix"):
        options.append(f"num_mixed={old['num_mixed']}")
    if method == "hmix":
        options.append(f"area_ratio={old['area_ratio']}")
    for name in ("interpolation", "real_fraction", "per_position", "shared", "curvature"):
        if old[name] != FIELDS[name]:
            options.append(f"{name}={old[name]!r}")
    if old["pairing"] == "transport":
        options.append(f"pairing=transport({', '.join(transport)})")
    if ranged:
        options.append(f"alpha={ranged}")
    elif old["final_alpha"]:
        options.append(f"alpha=linear({old['alpha']}, {old['final_alpha']})")
    else:
        options.append(f"alpha={old['alpha']}")
    text = "erm" if method == "erm" else f"{method}({', '.join(options)})"
    if old.get("vae") and method != "varmixup":
        text = f"reconstructed({text})"
    return text if old["probability"] == 1 else f"sometimes({text}, probability={old['probability']})"
