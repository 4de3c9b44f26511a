"""A monitor on `transformers.Trainer`.

    trainer = Trainer(model=pipe.transformer, ..., callbacks=[MonitorCallback(monitor)])

The monitor's state lies beside the trainer's own, as `lorabench.json` in each checkpoint's folder.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorabench.errors import SpecError
from lorabench.storage.atomic import write_json
from lorabench.training.trainers.attachment import Attachment, TrainingMonitor

STATE_FILE: Final = "lorabench.json"


class SeveralTrialsError(SpecError):
    """One monitor was given to the many trainings of a hyper-parameter search."""

    def __init__(self) -> None:
        super().__init__(
            "a monitor judges one training; found a hyper-parameter search, which runs many with one callback. "
            "Judge each trial's folder with `lorabench watch`, or train with the chosen values and the monitor."
        )


class Hooks(Attachment):
    """The trainer's hooks, without its base class.

    The trainer tells callbacks no loss per step, only the mean since the last log; it is handed on with the next step.
    """

    _logged: Mapping[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, _control: Any, **more: Any) -> None:
        """Open the course; go on from the checkpoint's state when training is resumed.

        Raises:
            SeveralTrialsError: This is a hyper-parameter search.
            OtherCourseError: The stored state belongs to another suite or other metrics.
        """
        if state.is_hyper_param_search:
            raise SeveralTrialsError
        self.begin(more.get("optimizer"), stored=_stored(args, state))

    def on_log(self, *_: Any, logs: Mapping[str, Any] | None = None, **__: Any) -> None:
        """Remember loss and gradient norm for the next step; other logs are none of our business."""
        if logs is not None and "loss" in logs:
            self._logged = logs

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell of an optimiser step; stop the training when the monitor says so."""
        logged, self._logged = self._logged, {}
        self.monitor.on_step_end(state.global_step, loss=logged.get("loss"), grad_norm=logged.get("grad_norm"))
        self._obey(control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Judge what was saved, and lay the monitor's state beside it."""
        folder = _checkpoint(args, state)
        self.monitor.on_checkpoint(folder, state.global_step)
        if stored := self.state():
            write_json(folder / STATE_FILE, stored)
        self._obey(control)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the course."""
        self.finish()

    def _obey(self, control: Any) -> None:
        if self.monitor.should_stop:
            control.should_training_stop = True


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _stored(args: Any, state: Any) -> dict[str, Any] | None:
    """The state in the checkpoint that training is resumed from; None at the first step, or where it holds none."""
    if state.global_step == 0:
        return None
    named = args.resume_from_checkpoint
    file = (Path(named) if isinstance(named, str) and Path(named).is_dir() else _checkpoint(args, state)) / STATE_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


@functools.cache
def _callback_class() -> Any:
    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    from transformers import TrainerCallback

    return type("MonitorCallback", (Hooks, TrainerCallback), {"__doc__": Hooks.__doc__, "__module__": __name__})


def MonitorCallback(monitor: TrainingMonitor, *, restart: bool = False) -> Any:  # noqa: N802 - named as callbacks are
    """Make the callback.

    Args:
        monitor: A `lorabench.callback.Monitor`. It gets the trainer's optimiser unless it was given one.
        restart: Begin a new history where a resumed checkpoint's state belongs to another suite or other metrics.

    Returns:
        A `transformers.TrainerCallback`.
    """
    return _callback_class()(monitor, restart=restart)
