"""Writes a profile of some steps of a run, without changing anything else."""

import contextlib
import pathlib
from typing import Any

import jax


class Profile:
    """Traces the device and the host during some steps, into files that XProf and Perfetto read.

    Args:
      folder: where they are written.
      steps: by the number of steps taken before; those that a resumed run has behind it are left out.
    """

    def __init__(self, folder: pathlib.Path, steps: range):
        self._folder, self._steps, self._running = folder, steps, False

    def step(self, before: int, state: Any) -> contextlib.AbstractContextManager[Any]:
        """What the next step is dispatched in.

        Args:
          before: the number of steps taken before.
          state: what they have made, waited for where the trace begins or ends.
        """
        if self._running != (before in self._steps):
            jax.block_until_ready(state)
            self.close() if self._running else self._open()
        return jax.profiler.StepTraceAnnotation("train", step_num=before) if self._running else contextlib.nullcontext()

    def close(self) -> None:
        """Writes the files, if that is not done yet."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            print(f"profile of steps {self._steps.start} to {self._steps.stop} in {self._folder}", flush=True)

    def _open(self) -> None:
        self._running = True
        jax.profiler.start_trace(str(self._folder))
