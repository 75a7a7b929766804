"""Calls functions of a user's own modules, named MODULE:FUNCTION, and reports their errors in one line."""

from collections.abc import Callable, Iterator
import contextlib
import importlib
import os
import pathlib
import sys
import traceback
from typing import Any

from train.config import known
from train.errors import UsageError, line


def call(name: str, *arguments: Any) -> Any:
    """Calls a function; its module may also lie in the folder that the program was started in.

    Args:
      name: MODULE:FUNCTION.
      *arguments: the function's arguments.

    Returns:
      The function's result.

    Raises:
      UsageError: if there is no such function, or it raises an error.
    """
    module_name, _, function_name = name.partition(":")
    with blamed(name):
        module = importlib.import_module(module_name)
    known(f"function of {module_name}", function_name, [key for key in vars(module) if callable(getattr(module, key))])
    function: Callable = getattr(module, function_name)
    with blamed(name):
        return function(*arguments)


@contextlib.contextmanager
def blamed(name: str) -> Iterator[None]:
    """Turns every error inside into a UsageError that begins with a name."""
    try:
        with current_folder():
            yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name}: there is no module {error.name} here or among the installed ones: name another"
        ) from None
    except UsageError:
        raise
    except Exception as error:  # of the user's own code
        what = f"{line(error, typed=True)}{_place(error)}"
        raise UsageError(f"{name}: {what}: fix it") from None


def _place(error: Exception) -> str:
    """The last line of the user's own code that an error went through, if that lies in the current folder."""
    here, program = pathlib.Path.cwd(), pathlib.Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = pathlib.Path(frame.filename)
        if path.is_relative_to(here) and not path.is_relative_to(program) and "site-packages" not in path.parts:
            return f" ({path.relative_to(here)}, line {frame.lineno})"
    return ""


@contextlib.contextmanager
def current_folder() -> Iterator[None]:
    """Modules of the folder that the program was started in are found, too."""
    before = sys.path.copy()
    sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
