"""Policies: what is mixed, written as text, for configurations, logs and titles.

A policy is one call in Python's syntax. Names are the library's methods, combinators and
parts, or `module:function` of one's own, which is imported, and may be called: read policies
only of people you trust. No other expression is evaluated.
"""

import ast
from collections.abc import Collection, Mapping
import difflib
import functools
import importlib
import inspect
import re
import types
import typing
from typing import Any

from jaxmix import assignment, attention, combinators, core, embedding, latent, masks, pairings, pairwise, ratios
from jaxmix.types import MaskFn, MixFn, PairingFn, RatioFn, Scalar

NAMES: Mapping[str, Any] = {"mix": core.mix} | {
    name: value
    for module in (pairwise, latent, embedding, combinators, pairings, ratios, masks, attention, assignment)
    for name, value in vars(module).items()
    if inspect.isroutine(value) and inspect.unwrap(value).__module__ == module.__name__ and not name.startswith("_")
}
"""Everything public of these modules."""

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

# By what a part is annotated with: what it is called, and its positional arguments; the first of a MixFn has any name.
KINDS = (
    (MixFn, "method", ("labels", "rng")),
    (PairingFn, "pairing", ("batch", "rng")),
    (RatioFn, "ratio", ("n", "rng")),
    (MaskFn, "mask", ("space", "ratio", "rng")),
)


def policy(text: str, *, progress: Scalar | None = None) -> MixFn:
    """Makes the MixFn that a text describes.

    Where a call lacks the positional arguments of its function, such as the batch of a method,
    the function is bound to the options of the call, as by `functools.partial`; with them, such
    as the methods of a combinator, it is called. `linear(first, last)` is a number that changes
    with progress.

    Args:
      text: one call, or a name alone, such as "mixup" or "cutmix(pairing=transport(k=16))".
        Options are numbers, strings, booleans, None, tuples of them, names, and calls again.
      progress: how far training is, from 0 to 1, for `linear`; may be traced.

    Returns:
      A MixFn.

    Raises:
      ValueError: for a wrong name, option or value, with the text and the nearest right one;
        ranges of numbers are checked by the MixFn when it is called.

    Example:
      >>> fn = jaxmix.policy("sometimes(one_of(mixup(alpha=0.8), cutmix()), probability=0.5)")
      >>> fn(jnp.ones((4, 8, 8, 3)), jnp.eye(4), jax.random.key(0))[1].shape
      (4, 4)
    """
    try:
        value = _value(_parsed(text), progress)
        _check_kind("the policy", MixFn, value)
    except _PolicyError as error:
        raise ValueError(f"policy {text!r}: {error}") from None
    return value


def normal_form(text: str) -> str:
    """Writes a policy in one way, whatever its spaces, quotes and line breaks.

    Args:
      text: a policy.

    Returns:
      The same policy.

    Raises:
      ValueError: if the text is none.

    Example:
      >>> policies.normal_form('cutmix( pairing = transport(k=16,solver="exact") )')
      "cutmix(pairing=transport(k=16, solver='exact'))"
    """
    policy(text, progress=0.0)
    return _written(_parsed(text))


class _PolicyError(ValueError):
    """What is wrong, without the text of the policy."""


def _parsed(text: str) -> ast.expr:
    """The tree of a policy, in which module:function is an attribute."""
    strings_or_colons = r"""('[^']*'|"[^"]*")|(?<=\w):(?=[A-Za-z_])"""
    try:
        return ast.parse(re.sub(strings_or_colons, lambda match: match[1] or ".", text.strip()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise _PolicyError(f"{getattr(error, 'msg', error)}: write it as cutmix(alpha=0.5)") from None


def _value(node: ast.expr, progress: Scalar | None) -> Any:
    """What a part of the tree stands for."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, progress) for part in parts)
        case ast.Name() | ast.Attribute():
            return _named(node)
        case ast.Call(func=ast.Name(id="linear"), args=ends, keywords=[]):
            return _linear([_value(end, progress) for end in ends], progress)
        case ast.Call(keywords=keywords) if all(keyword.arg for keyword in keywords):
            return _called(node, progress)
    raise _PolicyError(f"{ast.unparse(node)} is no name, call, number, string or tuple")


def _named(node: ast.expr) -> Any:
    """The function of the library, or of a module, of this name."""
    match node:
        case ast.Name(id=name):
            if name not in NAMES:
                advice = _nearest(name, NAMES, "write a function of your own as module:function")
                raise _PolicyError(f"jaxmix has no {name}: {advice}")
            return NAMES[name]
        case ast.Attribute(value=module, attr=name):
            path = ast.unparse(module)
            if not re.fullmatch(r"[\w.]+", path):
                raise _PolicyError(f"{path} is no name of a module")
            try:
                found = importlib.import_module(path)
            except ImportError as error:
                raise _PolicyError(f"{_written(node)}: {error}") from None
            if not callable(getattr(found, name, None)):
                names = [other for other, value in vars(found).items() if callable(value) and other[0] != "_"]
                raise _PolicyError(f"{path} has no function {name}: {_nearest(name, names, 'is it defined there?')}")
            return getattr(found, name)
    raise _PolicyError(f"{ast.unparse(node)} is no name of a function")


def _called(node: ast.Call, progress: Scalar | None) -> Any:
    """A function with its options bound, or what it returns where the call has its positional arguments."""
    function, name = _named(node.func), _written(node.func)
    arguments = [_value(argument, progress) for argument in node.args]
    options = {str(keyword.arg): _value(keyword.value, progress) for keyword in node.keywords}
    parameters = inspect.signature(function).parameters
    by_position = [p.name for p in parameters.values() if p.kind in BY_POSITION and p.default is p.empty]
    if "rng" in by_position and arguments:
        raise _PolicyError(f"{name} takes options by name, such as {name}({_first_option(parameters)}=...)")
    binds = bool(by_position) and not arguments
    known = [p.name for p in parameters.values() if p.kind in BY_NAME and not (binds and p.name in by_position)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in known and not open_ended:
            raise _PolicyError(f"{name} has no option {option}: {_nearest(option, known, 'it has none')}")
    needed = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if lacking := [option for option in needed if option not in options]:
        raise _PolicyError(f"{name} needs {', '.join(f'{option}=' for option in lacking)}")
    try:
        bound = inspect.signature(function).bind_partial(*arguments, **options).arguments
    except TypeError as error:
        raise _PolicyError(f"{name}: {error}") from None
    for parameter, value in bound.items():
        several = parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL
        for one in value if several else (value,):
            _check(f"{parameter} of {name}", parameters[parameter].annotation, one)
    if binds:
        return functools.partial(function, **options)
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise _PolicyError(str(error)) from None


def _linear(ends: list[Any], progress: Scalar | None) -> Any:
    """From the first to the last of two numbers as training goes on."""
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise _PolicyError(f"linear takes two numbers, such as linear(1.0, 0.2), got {ends}")
    first, last = ends
    if progress is None:
        raise _PolicyError("linear needs progress=, which says how far training is")
    return first + (last - first) * progress


def _check(what: str, annotation: Any, value: Any) -> None:
    """Text is one of those that the annotation lists, and a part of the kind that it names."""
    choices = _choices(annotation)
    if isinstance(value, str) and annotation not in (inspect.Parameter.empty, str, Any) and value not in choices:
        raise _PolicyError(f"{what} cannot be {value!r}: {_nearest(value, choices, 'it is no text')}")
    _check_kind(what, annotation, value)


def _check_kind(what: str, annotation: Any, value: Any) -> None:
    for kind, name, arguments in KINDS:
        if annotation == kind:
            found = tuple(inspect.signature(value).parameters) if callable(value) else ()
            start = 1 if kind == MixFn else 0
            if found[start : start + len(arguments)] != arguments:
                signature = ", ".join(("batch",)[:start] + arguments)
                raise _PolicyError(f"{what} must be a {name}, a function of ({signature})")


def _choices(annotation: Any) -> tuple[str, ...]:
    """What a Literal lists, alone or in a union."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    unions = (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in unions else ()
    return tuple(choice for part in parts for choice in _choices(part))


def _first_option(parameters: Mapping[str, inspect.Parameter]) -> str:
    return next((name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY), "option")


def _nearest(name: str, names: Collection[str], otherwise: str) -> str:
    """Advice that names the nearest of them, or all where they are few."""
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"take one of {', '.join(names)}" if 0 < len(names) < 10 else otherwise


def _written(node: ast.expr) -> str:
    """A part of the tree as text."""
    match node:
        case ast.Attribute(value=module, attr=name):
            return f"{ast.unparse(module)}:{name}"
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return f"({', '.join(map(_written, parts))}{',' * (len(parts) == 1)})"
        case ast.Call(func=function, args=arguments, keywords=keywords):
            options = [f"{keyword.arg}={_written(keyword.value)}" for keyword in keywords]
            return f"{_written(function)}({', '.join([*map(_written, arguments), *options])})"
    return ast.unparse(node)
