"""A monitor that judges nothing and notes what it hears; its state is the last step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class NotingMonitor:
    """Has the hooks of `lorabench.callback.Monitor`, with their signatures."""

    def __init__(
        self, *, stop_at: int | None = None, stop_at_checkpoint: int | None = None, optimizer: Any = None
    ) -> None:
        self.config: Any = None
        self.pipeline: Any = None
        self.adapter: Any = None
        self.adapter_name = "default"
        self.optimizer, self.ema, self.modules = optimizer, None, ()
        self.should_stop = False
        self.heard: list[str] = []
        self.losses: dict[int, tuple[float, float | None]] = {}
        self._stop_at, self._stop_at_checkpoint, self._last_step = stop_at, stop_at_checkpoint, 0

    def on_train_begin(self) -> None:
        self.heard.append("begin")

    def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> None:
        self.heard.append(f"step {training_step}")
        self._last_step = training_step
        if loss is not None:
            self.losses[training_step] = (float(loss), None if grad_norm is None else float(grad_norm))
        self.should_stop = self.should_stop or training_step == self._stop_at

    def on_checkpoint(self, path: Path | str, training_step: int) -> None:
        assert Path(path).is_dir()
        self.heard.append(f"{Path(path).name} {training_step}")
        self.should_stop = self.should_stop or training_step == self._stop_at_checkpoint

    def finish(self, *, settle: bool = True) -> None:
        del settle
        self.heard.append("finish")

    def state_dict(self) -> dict[str, Any]:
        return {"last_step": self._last_step}

    def load_state_dict(self, state: Mapping[str, Any], *, restart: bool = False) -> None:
        self.heard.append(f"loaded step {state['last_step']}, restart {restart}")
