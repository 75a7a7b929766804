"""Ends a run on SIGTERM and SIGINT after the current step, so that it can resume."""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import threading
from types import FrameType


@contextlib.contextmanager
def requested() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the first signal that asked for the end, 0 before; a second one ends at once.

    A signal that the process was started to ignore stays ignored; outside of the main thread, where Python lets
    nobody listen, nothing is ever requested.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        del frame
        if received:
            os._exit(128 + number)
        received.append(number)
        os.write(2, f"\n{signal.Signals(number).name}: saving after this step; once more ends at once\n".encode())

    listening = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in numbers if listening}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
