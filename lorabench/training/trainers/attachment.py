"""What every adapter does alike: begin, keep the state, finish, with several processes on the leading one alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lorabench.training.ranks import Ranks


class TrainingMonitor(Protocol):
    """What an adapter asks of a `lorabench.callback.Monitor`."""

    config: Any
    pipeline: Any
    adapter: Any
    adapter_name: str
    optimizer: Any
    ema: Any
    modules: Any

    @property
    def should_stop(self) -> bool:
        """Whether the last decision was to stop."""

    def on_train_begin(self) -> object:
        """Before the first step."""

    def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> object:
        """After an optimiser step."""

    def on_checkpoint(self, path: Path | str, training_step: int) -> object:
        """After a checkpoint was written."""

    def finish(self) -> object:
        """After the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""

    def load_state_dict(self, state: Mapping[str, Any], *, restart: bool = False) -> None:
        """Go on from a stored state."""


class Attachment:
    """A monitor on a training. The adapters add the hooks of their trainer.

    Attributes:
        monitor: The monitor.
        restart: Begin a new history where a stored state belongs to another suite or other metrics.
    """

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False) -> None:
        self.monitor, self.restart = monitor, restart

    def begin(self, optimizer: Any, *, stored: Mapping[str, Any] | None) -> None:
        """Open the course, and go on from the state that lay in the trainer's checkpoint, if there is one.

        Args:
            optimizer: The trainer's; the monitor gets it unless it was given one.
            stored: From `state`.

        Raises:
            OtherCourseError: The state belongs to another suite or other metrics, and `restart` is not set.
        """
        if self.monitor.optimizer is None:
            self.monitor.optimizer = optimizer
        if Ranks.here().leads:
            self.monitor.on_train_begin()
            if stored:
                self.monitor.load_state_dict(stored, restart=self.restart)

    def state(self) -> dict[str, Any]:
        """For the trainer's checkpoint; empty on the processes that do not judge."""
        return self.monitor.state_dict() if Ranks.here().leads else {}

    def finish(self) -> None:
        """Close the course."""
        if Ranks.here().leads:
            self.monitor.finish()
