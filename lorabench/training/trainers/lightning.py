"""A monitor on Lightning's `Trainer`.

    trainer = Trainer(..., callbacks=[MonitorCallback(monitor)])

The monitor's state travels in Lightning's checkpoints, among those of the other callbacks. Saving one does not judge;
the cadence is the monitor's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
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

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the course; go on from the checkpoint's state when training is resumed.

        Raises:
            OtherCourseError: The stored state belongs to another suite or other metrics.
        """
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self.begin(optimizer, stored=self._stored)
        self._training, self._step, self._losses = True, trainer.global_step, []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
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

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the course."""
        self.finish()

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoint."""
        return self.state() if self._training else dict(self._stored)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Remember a checkpoint's state until training begins; the weights are not in their place before."""
        self._stored = state_dict


@functools.cache
def _callback_class() -> type:
    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        from pytorch_lightning import Callback

    return type("MonitorCallback", (Hooks, Callback), {"__doc__": Hooks.__doc__, "__module__": __name__})


def __getattr__(name: str) -> Any:
    """`MonitorCallback(monitor, *, restart=False)`, a Lightning `Callback`; Lightning is imported by asking for it."""
    if name == "MonitorCallback":
        return _callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
