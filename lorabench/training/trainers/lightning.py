"""A monitor on Lightning's `Trainer`.

    trainer = Trainer(..., callbacks=[MonitorCallback(monitor)])

The monitor's state travels in Lightning's checkpoints, among those of the other callbacks. Saving one does not judge;
the cadence is the monitor's own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lorabench.training.trainers.attachment import Attachment, TrainingMonitor


class Hooks(Attachment):
    """The trainer's hooks, without its base class. Steps are optimiser steps, whatever the accumulation."""

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False) -> None:
        super().__init__(monitor, restart=restart)
        self._stored: Mapping[str, Any] = {}
        self._training = False
        self._step = 0
        self._losses: list[Any] = []

    def on_train_start(self, trainer: Any, _module: Any) -> None:
        """Open the course; go on from the checkpoint's state when training is resumed.

        Raises:
            OtherCourseError: The stored state belongs to another suite or other metrics.
        """
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self.begin(optimizer, stored=self._stored)
        self._training, self._step, self._losses = True, trainer.global_step, []

    def on_train_batch_end(self, trainer: Any, _module: Any, outputs: Any, *_: Any) -> None:
        """At the last batch of an optimiser step tell of it; stop the training when the monitor says so."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._losses.append(loss)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        # Lightning divides what it hands to callbacks by the number of batches it accumulates.
        mean = sum(self._losses) / len(self._losses) * trainer.accumulate_grad_batches if self._losses else None
        self._losses = []
        self.monitor.on_step_end(self._step, loss=mean)
        if self.monitor.should_stop:
            trainer.should_stop = True

    def on_train_end(self, *_: Any) -> None:
        """Close the course."""
        self.finish()

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoint."""
        return self.state() if self._training else dict(self._stored)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Remember a checkpoint's state until training begins; the weights are not in their place before."""
        self._stored = state_dict


@functools.cache
def _callback_class(package: str) -> Any:
    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    base = import_module(package).Callback
    return type("MonitorCallback", (Hooks, base), {"__doc__": Hooks.__doc__, "__module__": __name__})


def _package() -> str:
    """Of the two packages that hold a Lightning trainer, the one in use, or the one that is installed."""
    used = [name for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    return used[0] if used else "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"


def MonitorCallback(monitor: TrainingMonitor, *, restart: bool = False) -> Any:  # noqa: N802 - named as callbacks are
    """Make the callback.

    Args:
        monitor: A `lorabench.callback.Monitor`. It gets the trainer's optimiser unless it was given one.
        restart: Begin a new history where a resumed checkpoint's state belongs to another suite or other metrics.

    Returns:
        A `Callback` of `lightning.pytorch`, or of `pytorch_lightning` where only that is in use.
    """
    return _callback_class(_package())(monitor, restart=restart)
