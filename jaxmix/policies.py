"""Policies, which name a MixFn by text, for configurations, logs and titles.

A policy is one call in Python's syntax. Names are the library's methods, combinators and parts,
or `module:function` for your own. Reading a policy imports that module and may call the function,
so read policies only from people you trust. No other expression is evaluated.
"""

import ast
from collections.abc import Callable, Mapping
import importlib
import inspect
import re
import types
from typing import Any, NamedTuple

from jaxmix import (
    assignment,
    attention,
    blending,
    combinators,
    core,
    cutting,
    embedding,
    guided,
    latent,
    masks,
    pairings,
    ratios,
    resizing,
    saliency,
    signatures,
)
from jaxmix.types import MixFn, Scalar

NAMES: Mapping[str, Any] = {"mix": core.mix} | {
    name: value
    for module in (
        blending,
        cutting,
        guided,
        resizing,
        latent,
        embedding,
        combinators,
        pairings,
        ratios,
        masks,
        saliency,
        attention,
        assignment,
    )
    for name, value in vars(module).items()
    if inspect.isroutine(value) and not name.startswith("_")
    if inspect.unwrap(value).__module__.startswith(module.__name__)
}
"""All public functions of these modules, by name."""

NOTHING: Mapping[str, Any] = types.MappingProxyType({})


def policy(text: str, *, progress: Scalar | None = None, **given: Any) -> MixFn:
    """Returns the MixFn that a text describes.

    A call without positional arguments, such as a method's batch, binds the options to the
    function, like `functools.partial`. A call with positional arguments, such as a combinator's
    methods, calls the function. `linear(first, last)` is a number that changes linearly with
    progress.

    Args:
      text: a call or a name, such as "cutmix(pairing=transport(k=16))" or "mixup". Values of
        options are numbers, strings, booleans, None, tuples of these, names, and further calls.
      progress: the fraction of training that is done, from 0 to 1, for `linear`; may be traced.
      **given: options that text cannot express, such as a VAE's encode and decode. They go to
        every function in the text that has such an option, unless the text sets it.

    Returns:
      A MixFn.

    Raises:
      ValueError: for a wrong name, option or value, naming the text and the nearest right one;
        or if no function in the text has a given option. The MixFn itself checks ranges of
        numbers when it is called.

    Example:
      >>> fn = jaxmix.policy("sometimes(one_of(mixup(alpha=0.8), cutmix()), probability=0.5)")
      >>> fn(jnp.ones((4, 8, 8, 3)), jnp.eye(4), jax.random.key(0))[1].shape
      (4, 4)
    """
    return read(text, kind=MixFn, progress=progress, given=given)


def read(
    text: str,
    *,
    names: Mapping[str, Callable] = NAMES,
    kind: Any = None,
    progress: Scalar | None = None,
    given: Mapping[str, Any] = NOTHING,
) -> Any:
    """Reads a text as `policy` does, but with other names or for other kinds of functions.

    Args:
      text: a call or a name.
      names: functions that the text may name, beside module:function.
      kind: `MixFn`, `PairingFn`, `RatioFn`, `MaskFn` or `FeatureFn` to check that the text
        describes one; None does not check.
      progress: the fraction of training that is done, from 0 to 1, for `linear`.
      given: options that text cannot express, as in `policy`.

    Returns:
      The value that the text describes.

    Raises:
      ValueError: as `policy` does.

    Example:
      >>> policies.read("box", kind=jaxmix.MaskFn) is jaxmix.masks.box
      True
    """
    scope = _Scope(names, progress, given)
    try:
        value = _value(_parsed(text), scope)
        signatures.check_kind("the policy", kind, value)
        if unused := [name for name in given if name not in options(text, names=names)]:
            raise ValueError(f"no function in it has the option {', '.join(unused)}, which was given")
    except ValueError as error:
        raise ValueError(f"policy {text!r}: {error}") from None
    return value


def options(text: str, *, names: Mapping[str, Callable] = NAMES) -> frozenset[str]:
    """Returns the names of all options that the functions in a policy have, set or not.

    Args:
      text: a policy.
      names: functions that the text may name, beside module:function.

    Returns:
      The names, such as {"encode", "decode", ...} for "varmixup".

    Raises:
      ValueError: for a wrong name.

    Example:
      >>> "encode" in policies.options("sometimes(varmixup(alpha=0.4), probability=0.5)")
      True
    """
    functions = [_named(node, names) for node in _functions(_parsed(text))]
    return frozenset(name for function in functions for name in signatures.options(function))


def normal_form(text: str) -> str:
    """Normalises a policy's spaces, quotes and line breaks.

    Args:
      text: a policy. Its names and options are not checked.

    Returns:
      The same policy in normal form.

    Raises:
      ValueError: if the text is not a Python expression.

    Example:
      >>> policies.normal_form('cutmix( pairing = transport(k=16,solver="exact") )')
      "cutmix(pairing=transport(k=16, solver='exact'))"
    """
    try:
        return _written(_parsed(text))
    except ValueError as error:
        raise ValueError(f"policy {text!r}: {error}") from None


class _Scope(NamedTuple):
    """The arguments of `read` that apply to all parts of a policy."""

    names: Mapping[str, Callable]
    progress: Scalar | None
    given: Mapping[str, Any]


def _parsed(text: str) -> ast.expr:
    """Parses a policy to a tree, in which module:function is an attribute."""
    strings_or_colons = r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(?<=\w):(?=[^\W\d])"""
    try:
        tree = ast.parse(re.sub(strings_or_colons, lambda match: match[1] or ".", text.strip()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{getattr(error, 'msg', error)}: write it as cutmix(alpha=0.5)") from None
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = [keyword.arg for keyword in call.keywords if keyword.arg]
        if repeated := [name for name in given if given.count(name) > 1]:
            raise ValueError(f"{_written(call.func)} has {repeated[0]} twice")
    return tree


def _value(node: ast.expr, scope: _Scope) -> Any:
    """Returns the value that a part of the tree describes."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, scope) for part in parts)
        case ast.Name() | ast.Attribute():
            function = _named(node, scope.names)
            return signatures.bound(function, _written(node), {}, scope.given)
        case ast.Call(func=ast.Name(id="linear"), args=ends, keywords=[]):
            return _linear([_value(end, scope) for end in ends], scope.progress)
        case ast.Call(keywords=keywords) if all(keyword.arg for keyword in keywords):
            function, name = _named(node.func, scope.names), _written(node.func)
            arguments = [_value(argument, scope) for argument in node.args]
            options = {str(keyword.arg): _value(keyword.value, scope) for keyword in keywords}
            if arguments or not signatures.positional(function):
                return signatures.called(function, name, arguments, options, scope.given)
            return signatures.bound(function, name, options, scope.given)
    raise ValueError(f"{ast.unparse(node)} is not a name, call, number, string or tuple")


def _named(node: ast.expr, names: Mapping[str, Callable]) -> Any:
    """Returns the function with this name, or that of a module."""
    match node:
        case ast.Name(id=name):
            if name not in names:
                advice = signatures.nearest(name, names, "write a function of your own as module:function")
                raise ValueError(f"jaxmix has no {name}: {advice}")
            return names[name]
        case ast.Attribute(value=module, attr=name):
            path = ast.unparse(module)
            if not re.fullmatch(r"[\w.]+", path):
                raise ValueError(f"{path} is not the name of a module")
            try:
                found = importlib.import_module(path)
            except ModuleNotFoundError as error:
                advice = f"write {name}" if name in names else signatures.line(error)
                raise ValueError(f"{_written(node)}: {advice}") from None
            except Exception as error:  # of that module's own code
                raise ValueError(f"{_written(node)}: {signatures.line(error)}") from None
            if not callable(getattr(found, name, None)):
                others = [other for other, value in vars(found).items() if callable(value) and other[0] != "_"]
                advice = signatures.nearest(name, others, "is it defined there?")
                raise ValueError(f"{path} has no function {name}: {advice}")
            return getattr(found, name)
    raise ValueError(f"{ast.unparse(node)} is not the name of a function")


def _functions(node: ast.expr) -> list[ast.expr]:
    """Lists the names of functions in a part of the tree."""
    match node:
        case ast.Call(func=ast.Name(id="linear")):
            return []
        case ast.Call(func=function, args=arguments, keywords=keywords):
            parts = [*arguments, *(keyword.value for keyword in keywords)]
            return [function, *(name for part in parts for name in _functions(part))]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _functions(part)]
        case ast.Name() | ast.Attribute():
            return [node]
    return []


def _linear(ends: list[Any], progress: Scalar | None) -> Any:
    """Interpolates from the first to the last of two numbers by progress."""
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError(f"linear takes two numbers, such as linear(1.0, 0.2), got {ends}")
    first, last = ends
    if progress is None:
        raise ValueError("linear needs progress=, the fraction of training that is done")
    return first + (last - first) * progress


def _written(node: ast.expr) -> str:
    """Writes a part of the tree as text."""
    match node:
        case ast.Attribute(value=module, attr=name):
            return f"{ast.unparse(module)}:{name}"
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return f"({', '.join(map(_written, parts))}{',' * (len(parts) == 1)})"
        case ast.Call(func=function, args=arguments, keywords=keywords):
            options = [f"{keyword.arg}={_written(keyword.value)}" for keyword in keywords]
            return f"{_written(function)}({', '.join([*map(_written, arguments), *options])})"
    return ast.unparse(node)
