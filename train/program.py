"""A decorator for main functions, which turns errors into exit codes and messages of one line."""

from collections.abc import Callable, Sequence
import functools
import sys

from train.errors import ProgramError, UnwritableError

Main = Callable[[Sequence[str]], int]


def program(name: str) -> Callable[[Callable[[Sequence[str]], None]], Main]:
    """Makes a main function from the body of a program, and prints errors in one line.

    The main function returns 0, the exit code of a train.errors.ProgramError, 2 if a package is
    missing, 5 if the operating system refuses a file, or 130 after Ctrl-C.

    Args:
      name: the program's name, such as train.main.

    Returns:
      A decorator.
    """

    def decorate(body: Callable[[Sequence[str]], None]) -> Main:
        @functools.wraps(body)
        def main(argv: Sequence[str]) -> int:
            try:
                body(argv)
            except ProgramError as error:
                message, code = str(error), error.exit_code
            except ModuleNotFoundError as error:
                message, code = f"{error.name} is missing: pip install -e '.[train]' -c constraints.txt", 2
            except OSError as error:
                message, code = f"{error.filename or 'a file'}: {error.strerror}", UnwritableError.exit_code
            except KeyboardInterrupt:
                message, code = "interrupted", 130
            else:
                return 0
            print(f"{name}: {message}", file=sys.stderr, flush=True)
            return code

        return main

    return decorate
