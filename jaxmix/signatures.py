"""Checks of the arguments that a policy passes to functions, by their signatures, with errors of one line."""

from collections.abc import Collection, Mapping, Sequence
import difflib
import functools
import inspect
import types
import typing
from typing import Any

from jaxmix.types import FeatureFn, MaskFn, MixFn, PairingFn, RatioFn

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

# For each annotation of a part: what the part is called, and its positional arguments. The first two also take a batch,
# under any name, before those.
KINDS = (
    (MixFn, "method", ("labels", "rng")),
    (FeatureFn, "guide", ()),
    (PairingFn, "pairing", ("batch", "rng")),
    (RatioFn, "ratio", ("n", "rng")),
    (MaskFn, "mask", ("space", "ratio", "rng")),
)


def positional(function: Any) -> list[str]:
    """Returns the names of the arguments that a function requires by position."""
    return [p.name for p in _parameters(function).values() if p.kind in BY_POSITION and p.default is p.empty]


def name_of(function: Any) -> str:
    """Returns the name of a function, also of a bound one."""
    function = getattr(function, "func", function)
    return getattr(function, "__name__", repr(function))


def options(function: Any) -> list[str]:
    """Returns the names of a function's other arguments, which can be passed by name."""
    needed = positional(function)
    return [p.name for p in _parameters(function).values() if p.kind in BY_NAME and p.name not in needed]


def bound(function: Any, name: str, chosen: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Binds options to a function.

    Args:
      function: any function.
      name: its name in error messages.
      chosen: options to bind.
      given: further options, bound if the function has them and they are not chosen.

    Returns:
      The function, to be called by position.

    Raises:
      ValueError: if the function has no such option or needs another one, or does not take a value.
    """
    filled = _filled(function, name, options(function), chosen, given)
    _check_values(function, name, (), filled)
    return functools.partial(function, **filled) if filled else function


def called(
    function: Any, name: str, arguments: Sequence[Any], chosen: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """Calls the function with arguments by position and with options, checked as in `bound`."""
    known = [p.name for p in _parameters(function).values() if p.kind in BY_NAME]
    if "rng" in known:
        first = next(iter(options(function)), "option")
        raise ValueError(f"{name} takes options by name, such as {name}({first}=...)")
    filled = _filled(function, name, known, chosen, given)
    _check_values(function, name, arguments, filled)
    try:
        return function(*arguments, **filled)
    except ValueError:
        raise
    except Exception as error:  # of anyone's function
        raise ValueError(f"{name}: {line(error)}") from None


def check_kind(what: str, annotation: Any, value: Any) -> None:
    """Raises a ValueError if the annotation is a kind of method or part and the value is not such a function."""
    for kind, name, arguments in KINDS:
        if annotation == kind:
            found = tuple(inspect.signature(value).parameters) if callable(value) else ()
            start = 1 if kind in (MixFn, FeatureFn) else 0
            needed = positional(value) if found else []
            if found[start : start + len(arguments)] != arguments or not start <= len(needed) <= start + len(arguments):
                signature = ", ".join(("batch",)[:start] + arguments)
                by_names = ", by these names" if arguments else ""
                raise ValueError(f"{what} must be a {name}, a function of ({signature}){by_names}")


def nearest(name: str, names: Collection[str], otherwise: str) -> str:
    """Returns advice that names the nearest name, or all names if there are few."""
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"take one of {', '.join(names)}" if 0 < len(names) < 10 else otherwise


def line(error: Exception) -> str:
    """Returns the type and message of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _filled(
    function: Any, name: str, known: Collection[str], chosen: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns all options, after checking that the function has them and needs no others."""
    parameters = _parameters(function).values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in chosen:
        if option not in known and not open_ended:
            options = f"it has {', '.join(known) or 'none'}"
            raise ValueError(f"{name} has no option {option}: {nearest(option, known, options)}")
    filled = {option: value for option, value in given.items() if option in known} | dict(chosen)
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if lacking := [option for option in needed if option not in filled]:
        raise ValueError(f"{name} needs {', '.join(f'{option}=' for option in lacking)}")
    return filled


def _check_values(function: Any, name: str, arguments: Sequence[Any], filled: Mapping[str, Any]) -> None:
    """Checks strings against the choices of an annotation, and functions against its kind."""
    try:
        values = inspect.signature(function).bind_partial(*arguments, **filled).arguments
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    for option, value in values.items():
        parameter = _parameters(function)[option]
        for one in value if parameter.kind is parameter.VAR_POSITIONAL else (value,):
            what, annotation = f"{option} of {name}", parameter.annotation
            choices = _choices(annotation)
            free = isinstance(annotation, str) or any(
                kind in (str, Any, parameter.empty) for kind in _parts(annotation)
            )
            if isinstance(one, str) and not free and one not in choices:
                raise ValueError(f"{what} cannot be {one!r}: {nearest(one, choices, 'write it without quotes')}")
            check_kind(what, annotation, one)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation itself."""
    unions = (typing.Union, types.UnionType)
    return typing.get_args(annotation) if typing.get_origin(annotation) in unions else (annotation,)


def _choices(annotation: Any) -> tuple[str, ...]:
    """Returns the values of a Literal, alone or in a union."""
    literals = [part for part in _parts(annotation) if typing.get_origin(part) is typing.Literal]
    return tuple(choice for literal in literals for choice in typing.get_args(literal))
