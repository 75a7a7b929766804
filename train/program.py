"""How every program ends."""

from collections.abc import Callable, Sequence
import functools
import sys

from train.errors import ProgramError, UnwritableError

Main = Callable[[Sequence[str]], int]


def program(name: str) -> Callable[[Callable[[Sequence[str]], None]], Main]:
    """Makes a main function of what a program does with its arguments; what ends it early is said in one line.

    The function returns 0, or the exit code of a train.errors.ProgramError, 2 where a package is
    missing, 5 where the operating system refuses a file, 130 after Ctrl-C.

    Args:
      name: as it is called, such as train.main.
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
