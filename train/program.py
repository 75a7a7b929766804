"""How every program ends."""

from collections.abc import Callable, Sequence
import functools
import sys

from train.config import UsageError

Main = Callable[[Sequence[str]], int]


def program(name: str) -> Callable[[Callable[[Sequence[str]], None]], Main]:
    """Makes a main function of what a program does with its arguments: it returns 0, or 2 and one line for a mistake.

    Args:
      name: as it is called, such as train.main.
    """

    def decorate(body: Callable[[Sequence[str]], None]) -> Main:
        @functools.wraps(body)
        def main(argv: Sequence[str]) -> int:
            try:
                body(argv)
            except UsageError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
            except ModuleNotFoundError as error:
                print(f"{name}: {error.name} is missing: pip install -e '.[train]' -c constraints.txt", file=sys.stderr)
                return 2
            return 0

        return main

    return decorate
