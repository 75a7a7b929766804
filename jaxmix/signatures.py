"""What the functions that a policy names may be given, by their signatures; what is wrong is said in a line."""

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

# By what a part is annotated with: what it is called, and its positional arguments, of which the batch has any name for
# the first two.
KINDS = (
    (MixFn, "method", ("labels", "rng")),
    (FeatureFn, "guide", ()),
    (PairingFn, "pairing", ("batch", "rng")),
    (RatioFn, "ratio", ("n", "rng")),
    (MaskFn, "mask", ("space", "ratio", "rng")),
)


def positional(function: Any) -> list[str]:
    """Names of the arguments that a function needs by position."""
    return [p.name for p in _parameters(function).values() if p.kind in BY_POSITION and p.default is p.empty]


def name_of(function: Any) -> str:
    """What a function is called, bound or not."""
    function = getattr(function, "func", function)
    return getattr(function, "__name__", repr(function))


def options(function: Any) -> list[str]:
    """Names of what else it takes."""
    needed = positional(function)
    return [p.name for p in _parameters(function).values() if p.kind in BY_NAME and p.name not in needed]


def bound(function: Any, name: str, chosen: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The function with its options bound, still to be called by position.

    Args:
      function: any.
      name: what it is called in errors.
      chosen: its options.
      given: more of them, where it has them and they are not chosen.

    Raises:
      ValueError: if it does not have an option, lacks one that it needs, or a value is none that it takes.
    """
    filled = _filled(function, name, options(function), chosen, given)
    _check_values(function, name, (), filled)
    return functools.partial(function, **filled) if filled else function


def called(
    function: Any, name: str, arguments: Sequence[Any], chosen: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """What the function returns for arguments by position and options; see `bound`."""
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
    """Raises a ValueError where the annotation is a method or part, and the value is no such function."""
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
    """Advice that names the nearest of them, or all where they are few."""
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"take one of {', '.join(names)}" if 0 < len(names) < 10 else otherwise


def line(error: Exception) -> str:
    """What an error is, and says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _filled(
    function: Any, name: str, known: Collection[str], chosen: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """All options, once they are known to be the function's own and none is lacking."""
    parameters = _parameters(function).values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in chosen:
        if option not in known and not open_ended:
            raise ValueError(f"{name} has no option {option}: {nearest(option, known, 'it has none')}")
    filled = {option: value for option, value in given.items() if option in known} | dict(chosen)
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if lacking := [option for option in needed if option not in filled]:
        raise ValueError(f"{name} needs {', '.join(f'{option}=' for option in lacking)}")
    return filled


def _check_values(function: Any, name: str, arguments: Sequence[Any], filled: Mapping[str, Any]) -> None:
    """Text is one of those that an annotation lists, and a part of the kind that it names."""
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
                raise ValueError(f"{what} cannot be {one!r}: {nearest(one, choices, 'it is no text')}")
            check_kind(what, annotation, one)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """What a union is of, or the annotation alone."""
    unions = (typing.Union, types.UnionType)
    return typing.get_args(annotation) if typing.get_origin(annotation) in unions else (annotation,)


def _choices(annotation: Any) -> tuple[str, ...]:
    """What a Literal lists, alone or in a union."""
    literals = [part for part in _parts(annotation) if typing.get_origin(part) is typing.Literal]
    return tuple(choice for literal in literals for choice in typing.get_args(literal))
