"""When to look at a training: every so many steps, later where looking would cost more than its share of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lorabench.records.config import CourseConfig

_SMOOTHING: Final = 0.1
"""Weight of the newest step time in their moving average."""
_SIGNALS_SHARE: Final = 0.5
"""Of the budget, for signals read between screens."""


class Look(IntEnum):
    """What is due at a step."""

    NOTHING = 0
    SIGNALS = 1
    """Loss and drift: a few forwards."""
    SCREEN = 2
    """Pictures."""


class Cadence:
    """Counts optimiser steps, times them, and says when the next look is due.

    With `budget` b, a look that took s seconds is followed by at least s / b seconds of training.
    """

    def __init__(self, settings: CourseConfig, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start before the first step.

        Args:
            settings: `every_n_steps`, `signals_every_n_steps`, `budget`.
            clock: Seconds.
        """
        self._settings, self._clock = settings, clock
        self.next_screen = settings.every_n_steps
        self._next_signals = settings.signals_every_n_steps or math.inf
        self._affordable = 0
        self._last: tuple[float, int] | None = None
        self._step_seconds = 0.0
        self._signals_seconds = 0.0
        self.training_seconds = 0.0
        self.judging_seconds = 0.0

    @property
    def share(self) -> float | None:
        """Time of looks as a share of the time of training so far; None before a step was timed."""
        return self.judging_seconds / self.training_seconds if self.training_seconds > 0 else None

    def step(self, training_step: int) -> float | None:
        """An optimiser step was done. Returns seconds per step since the last one; None after a pause."""
        now, seconds = self._clock(), None
        if self._last is not None and training_step > self._last[1]:
            passed = now - self._last[0]
            self.training_seconds += passed
            seconds = passed / (training_step - self._last[1])
            kept = 1.0 - _SMOOTHING if self._step_seconds else 0.0
            self._step_seconds = kept * self._step_seconds + (1.0 - kept) * seconds
        self._last = (now, training_step)
        return seconds

    def due(self, training_step: int) -> Look:
        """What to look at after this step."""
        if training_step >= self.next_screen:
            return Look.SCREEN
        return Look.SIGNALS if training_step >= self._next_signals else Look.NOTHING

    def affordable(self, training_step: int) -> bool:
        """Whether pictures may be made at a step that somebody else chose."""
        return training_step >= self._affordable

    def screened(self, training_step: int, *, seconds: float) -> None:
        """Pictures were made and judged."""
        settings = self._settings
        self._affordable = training_step + self._steps(seconds + self._signals_seconds, share=settings.budget)
        self.next_screen = max(training_step + settings.every_n_steps, self._affordable)
        self._signals_seconds = 0.0
        self._looked(training_step, seconds=seconds, again_after=0)

    def read(self, training_step: int, *, seconds: float) -> None:
        """Signals were read between two screens."""
        self._signals_seconds += seconds
        after = self._steps(seconds, share=_SIGNALS_SHARE * self._settings.budget)
        self._looked(training_step, seconds=seconds, again_after=after)

    def pause(self) -> None:
        """Time that passes until the next step is not the training's."""
        self._last = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"next_step": self.next_screen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.next_screen = int(state["next_step"])

    def _looked(self, training_step: int, *, seconds: float, again_after: int) -> None:
        self.judging_seconds += seconds
        if every := self._settings.signals_every_n_steps:
            self._next_signals = training_step + max(every, again_after)
        self.pause()

    def _steps(self, seconds: float, *, share: float) -> int:
        """Optimiser steps whose time makes these seconds no more than a share of it."""
        return math.ceil(seconds / share / self._step_seconds) if self._step_seconds > 0 else 0
