"""What a person sees while a run goes on: a bar where stderr is a terminal, a few lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lorabench.cli import output
from lorabench.evaluation.observer import Observer

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def observing(*, quiet: bool) -> Iterator[Observer]:
    """An observer that suits stderr; the bar is taken away however the block ends."""
    if quiet:
        yield Observer()
    elif not sys.stderr.isatty():
        yield LineObserver()
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=output.terminal(), transient=True) as progress:
            yield BarObserver(progress)


class BarObserver(Observer):
    """One bar per stage that is going on."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def stage_started(self, stage: str, total: int) -> None:
        """Show a bar."""
        self._tasks[stage] = self._progress.add_task(stage, total=total or None)

    def advanced(self, stage: str, n: int = 1) -> None:
        """Move the bar."""
        if stage in self._tasks:
            self._progress.advance(self._tasks[stage], n)

    def note(self, message: str) -> None:
        """Print above the bars."""
        from rich.text import Text

        self._progress.console.print(Text(message))

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[None]:
        """Take the bar away when the stage is over."""
        try:
            with super().stage(name, total):
                yield
        finally:
            self._progress.remove_task(self._tasks.pop(name))


class LineObserver(Observer):
    """A line when a stage with work begins, and another every quarter of a minute."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, say: Callable[[str], None] = output.message
    ) -> None:
        super().__init__()
        self._clock, self._say = clock, say
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._last = clock()

    def stage_started(self, stage: str, total: int) -> None:
        """Say what begins."""
        self._total[stage], self._done[stage] = total, 0
        self._last = self._clock()
        if total:
            self._say(f"{stage}: {total} to do")

    def advanced(self, stage: str, n: int = 1) -> None:
        """Say how far it is, if the last line is old enough."""
        self._done[stage] = self._done.get(stage, 0) + n
        if self._clock() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._clock()
            self._say(f"{stage}: {self._done[stage]} of {self._total.get(stage) or '?'} done")

    def note(self, message: str) -> None:
        """Print."""
        self._say(message)
