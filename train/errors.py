"""Errors that end a program early, each with its own exit code and a message of one line."""


class ProgramError(Exception):
    """A program cannot continue; the message names the reason and the remedy."""

    exit_code = 1


class UsageError(ProgramError):
    """A mistake in the arguments, the configuration or the data, or a folder with unexpected contents."""

    exit_code = 2


class CheckpointError(ProgramError):
    """A run has checkpoints, but none of them is whole."""

    exit_code = 3


class DivergedError(ProgramError):
    """The loss or its gradient is no longer finite."""

    exit_code = 4


class UnwritableError(ProgramError):
    """A program cannot write to a folder or disk."""

    exit_code = 5


class InUseError(ProgramError):
    """Another program is writing the same run folder."""

    exit_code = 6


class LostError(ProgramError):
    """Another process of the same run has ended."""

    exit_code = 7


class StoppedError(ProgramError):
    """A signal stopped the program; everything is saved."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


def line(error: Exception, *, typed: bool = False) -> str:
    """Returns an error's message in one line, with its type if it has no message or typed is True."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if not text:
        return kind
    return f"{kind}: {text}" if typed else text
