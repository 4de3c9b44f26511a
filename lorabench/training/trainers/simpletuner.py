"""A monitor inside SimpleTuner, without an edit.

    # train_with_lorabench.py
    from lorabench.callback import Monitor
    from lorabench.training.trainers.simpletuner import SimpleTunerMonitor

    SimpleTunerMonitor(Monitor.from_config("lorabench.toml")).launch()

The adapter is one of peft's, the pipelines are SimpleTuner's own. So the adapter is written at the monitor's cadence
and that file is judged on the base that `[model]` names, loaded a second time.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from lorabench.generation.live_backend import save_live_adapter
from lorabench.training.trainers.attachment import Attachment, TrainingMonitor
from lorabench.training.trainers.inside import (
    Losses,
    MissingHookError,
    NothingHeardError,
    SavedByTrainer,
    UnsuitedTrainingError,
    need,
)

TRAINER: Final = "SimpleTuner"
READ: Final = "bc8e6ab of August 2026"
_HOOKS: Final = ("train", "abort", "_exit_on_signal")


class SimpleTunerMonitor(Attachment):
    """A monitor on a `Trainer`.

    Every process asks `_exit_on_signal` at the top of each turn of the loop whether to go on; there the steps done are
    told, and there the trainer's own `abort` takes effect. It saves nothing more then.
    """

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False) -> None:
        """Hang up a monitor that was given neither pipeline nor adapter.

        Args:
            monitor: A `lorabench.callback.Monitor`.
            restart: Begin a new history where a stored state belongs to another suite or other metrics.
        """
        super().__init__(monitor, restart=restart)
        self._losses = Losses()
        self._last_step: int | None = None
        self._heard = False

    def launch(self) -> None:
        """Train as `python -m simpletuner.train` would, with the configuration that it would find.

        Raises:
            MissingHookError: This version is not as needed, or not installed.
            NothingHeardError: The training ended and no step was heard of.
        """
        try:
            module = import_module("simpletuner.train")
        except ModuleNotFoundError as error:
            raise MissingHookError(TRAINER, needed="simpletuner.train", found=str(error), read=READ) from error
        need(module, ["Trainer", "_run_training"], trainer=TRAINER, read=READ)
        self.train(module.Trainer, run=module._run_training, around=getattr(module, "dynamo_config_context", None))

    def train(self, trainer_class: type, *, run: Any, around: Any = None) -> None:
        """Train with a trainer of this class until its end, or until the monitor stops it.

        Args:
            trainer_class: SimpleTuner's `Trainer`.
            run: Prepares and trains a trainer.
            around: Context for it, made from its configuration.

        Raises:
            MissingHookError: The class has not the hooks that are needed.
            NothingHeardError: The training ended and no step was heard of.
        """
        trainer = self.watched(trainer_class)(exit_on_error=True)
        try:
            with around(trainer.config) if around is not None else nullcontext():
                run(trainer)
        except StopIteration:
            if not self.monitor.should_stop:
                raise
        finally:
            if hasattr(trainer, "cleanup"):
                trainer.cleanup()
        if not self._heard:
            raise NothingHeardError(TRAINER)
        self.finish()

    def watched(self, trainer_class: type) -> type:
        """A subclass that tells the monitor; everything else is the trainer's.

        Raises:
            MissingHookError: The class has not the hooks that are needed.
        """
        need(trainer_class, _HOOKS, trainer=TRAINER, read=READ)
        parent: Any = trainer_class
        hooks = self

        class Watched(parent):  # type: ignore[misc] # known when it runs
            def train(self, *given: Any, **named: Any) -> Any:
                hooks.before_training(self)
                return super().train(*given, **named)

            def _exit_on_signal(self) -> Any:
                hooks.before_turn(self)
                return super()._exit_on_signal()

            def _compute_model_prediction_loss(self, *given: Any, **named: Any) -> Any:
                answer = super()._compute_model_prediction_loss(*given, **named)
                hooks.after_loss(answer)
                return answer

        if not hasattr(trainer_class, "_compute_model_prediction_loss"):  # then the loss is not known
            del Watched._compute_model_prediction_loss
        return Watched

    def before_training(self, trainer: Any) -> None:
        """All is in place, and before the first step the weights are untouched.

        Raises:
            MissingHookError: The trainer is not as needed.
            UnsuitedTrainingError: It trains no LoRA of peft's.
        """
        need(trainer, ["config", "model", "state", "optimizer"], trainer=TRAINER, read=READ)
        need(trainer.model, ["get_trained_component", "MODEL_TYPE"], trainer=TRAINER, read=READ)
        _refuse(trainer.config)
        component = trainer.model.get_trained_component()
        parts = SimpleNamespace(**{str(trainer.model.MODEL_TYPE.value): component})
        name = self.monitor.adapter_name
        self.monitor.adapter = SavedByTrainer(lambda path: _write(parts, path, name))
        self.monitor.modules = tuple(
            part for layer in component.modules() for part in _matrices(layer, name)
        )  # nothing else is touched: the base beside them may be as large as it likes
        self._last_step = int(trainer.state["global_step"])
        self.begin(trainer.optimizer, stored=None)

    def before_turn(self, trainer: Any) -> None:
        """Top of a turn of the loop: tell of the step before it, if that was one of the optimiser."""
        if self._last_step is None or int(trainer.state["global_step"]) == self._last_step:
            return
        self._last_step = int(trainer.state["global_step"])
        self._heard = True
        self.monitor.on_step_end(self._last_step, loss=self._losses.mean())
        if self.monitor.should_stop:
            trainer.abort()

    def after_loss(self, answer: Any) -> None:
        """Loss of a micro-batch, alone or first of several answers."""
        loss = answer[0] if isinstance(answer, tuple) else answer
        if getattr(loss, "requires_grad", False):
            self._losses.note(loss)


def _refuse(config: Any) -> None:
    kind, method = str(config.model_type), str(getattr(config, "lora_type", "standard")).lower()
    if "lora" not in kind or method != "standard":
        raise UnsuitedTrainingError(TRAINER, found=f"model_type {kind}, lora_type {method}")
    for name in ("fsdp_enable", "use_deepspeed_optimizer"):
        if getattr(config, name, False):
            raise UnsuitedTrainingError(TRAINER, found=f"{name}, which spreads weights over processes")


def _matrices(layer: Any, adapter_name: str) -> list[Any]:
    """The adapter's own modules in a layer of peft's."""
    held = (getattr(layer, name, None) for name in ("lora_A", "lora_B"))
    return [one[adapter_name] for one in held if one is not None and adapter_name in one]


def _write(parts: Any, path: Path, adapter_name: str) -> None:
    save_live_adapter(parts, path, adapter_name=adapter_name)
