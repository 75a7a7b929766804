"""Why programs end before their work is done: each reason has an exit code of its own, and one line."""


class ProgramError(Exception):
    """A program cannot go on; its message says why, and what helps."""

    exit_code = 1


class UsageError(ProgramError):
    """A mistake in the arguments, the configuration, the data, or what a folder is said to hold."""

    exit_code = 2


class CheckpointError(ProgramError):
    """A run has checkpoints, and none of them is whole."""

    exit_code = 3


class DivergedError(ProgramError):
    """The loss or its gradient is no longer finite."""

    exit_code = 4


class UnwritableError(ProgramError):
    """A folder or disk does not take what is written."""

    exit_code = 5


class InUseError(ProgramError):
    """Another program is writing the same run folder."""

    exit_code = 6


class LostError(ProgramError):
    """Another process of the same run has ended."""

    exit_code = 7


class StoppedError(ProgramError):
    """A signal asked for the end; everything is saved."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


def line(error: Exception, *, typed: bool = False) -> str:
    """What an error of others says, in one line: where it says nothing or that is asked for, with its type."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if not text:
        return kind
    return f"{kind}: {text}" if typed else text
