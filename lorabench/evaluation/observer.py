"""What a face may want to see while a run goes on: stages, progress, times. Enters `evaluate()` as one object."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Observer:
    """Hears of stages and progress and keeps the time of each stage. Faces override the three hooks."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage_started(self, stage: str, total: int) -> None:
        """A stage begins; `total` is its number of steps, 0 if unknown."""

    def advanced(self, stage: str, n: int = 1) -> None:
        """`n` steps of a stage are done."""

    def note(self, message: str) -> None:
        """Something a person should read, which is neither an error nor a result."""

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[None]:
        """Report a stage and add its wall time to `seconds[name]`."""
        self.stage_started(name, total)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
