"""A monitor inside OneTrainer, around its own command line, without an edit.

    # scripts/train_with_lorabench.py, in the folder of OneTrainer
    from lorabench.callback import Monitor
    from lorabench.training.trainers.onetrainer import OneTrainerMonitor

    OneTrainerMonitor(Monitor.from_config("lorabench.toml")).launch()

The adapter is written by OneTrainer's own saver at the monitor's cadence, while the model in training makes room as at
each of its own saves, and that file is judged on the base that `[model]` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lorabench.training.trainers.attachment import Attachment, TrainingMonitor
from lorabench.training.trainers.inside import (
    Losses,
    MissingHookError,
    NothingHeardError,
    SavedByTrainer,
    UnsuitedTrainingError,
    need,
)

TRAINER: Final = "OneTrainer"
READ: Final = "23df383 of August 2026"


class OneTrainerMonitor(Attachment):
    """A monitor on a `GenericTrainer`; it stops through the trainer's own commands, which then saves and ends."""

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False) -> None:
        """Hang up a monitor that was given neither pipeline nor adapter.

        Args:
            monitor: A `lorabench.callback.Monitor`.
            restart: Begin a new history where a stored state belongs to another suite or other metrics.
        """
        super().__init__(monitor, restart=restart)
        self._losses = Losses()
        self._last_step = -1
        self._failure: Exception | None = None

    def launch(self, script: str = "train") -> None:
        """Train as `python scripts/train.py` would, with the command line that this process was given.

        Args:
            script: Name of that script; it must lie beside the one that runs.

        Raises:
            MissingHookError: This version, or this folder, is not as needed.
            NothingHeardError: The training ended and no step was heard of.
        """
        try:
            module, create = import_module(script), import_module("modules.util.create")
        except ModuleNotFoundError as error:
            needed = f"{script}.py and modules.util.create; lay your script beside OneTrainer's scripts/{script}.py"
            raise MissingHookError(TRAINER, needed=needed, found=str(error), read=READ) from error
        need(module, ["main", "create"], trainer=TRAINER, read=READ)
        need(create, ["create_trainer"], trainer=TRAINER, read=READ)
        original: Any = create
        made = original.create_trainer
        original.create_trainer = lambda config, callbacks, commands, **more: self.watch(
            made(config, callbacks, commands, **more), callbacks=callbacks, commands=commands
        )
        try:
            module.main()
        finally:
            original.create_trainer = made

    def watch(self, trainer: Any, *, callbacks: Any, commands: Any) -> Any:
        """Hang the monitor on a trainer that was made and not yet started.

        Args:
            trainer: A `GenericTrainer`; its `start`, `train` and `end` are wrapped on this object alone.
            callbacks: Its `TrainCallbacks`.
            commands: Its `TrainCommands`.

        Returns:
            The trainer.

        Raises:
            MissingHookError: They have not the hooks that are needed.
            UnsuitedTrainingError: Several GPUs, or a machine elsewhere: the steps are not made in this process.
        """
        need(trainer, ["start", "train", "end", "config"], trainer=TRAINER, read=READ)
        need(callbacks, ["set_on_update_train_progress"], trainer=TRAINER, read=READ)
        need(commands, ["stop"], trainer=TRAINER, read=READ)
        config = trainer.config
        if getattr(config, "multi_gpu", False) or getattr(getattr(config, "cloud", None), "enabled", False):
            raise UnsuitedTrainingError(TRAINER, found="a training in other processes (multi_gpu or cloud)")
        start, train, end = trainer.start, trainer.train, trainer.end

        def started() -> None:
            start()
            self._attach(trainer)

        def trained() -> None:
            train()
            if self._failure is not None:
                raise self._failure
            if self._last_step < 0:
                raise NothingHeardError(TRAINER)

        def ended() -> None:
            end()
            self.finish()

        trainer.start, trainer.train, trainer.end = started, trained, ended
        callbacks.set_on_update_train_progress(
            lambda progress, *_: self._progressed(progress, trainer=trainer, commands=commands)
        )
        return trainer

    def _progressed(self, progress: Any, *, trainer: Any, commands: Any) -> None:
        """OneTrainer swallows what a callback raises: it is kept, the training is stopped, and it is raised then."""
        try:
            self._stepped(int(progress.global_step), trainer)
        except Exception as error:  # raised again by the wrapped `train`
            self._failure = error
        if self._failure is not None or self.monitor.should_stop:
            commands.stop()

    def _stepped(self, training_step: int, trainer: Any) -> None:
        if self._failure is not None or training_step == self._last_step:
            return  # told at the end of an epoch, too
        if any(one.grad is not None for one in trainer.parameters):
            return  # gradients are being gathered: no optimiser step was made
        self._last_step = training_step
        self.monitor.on_step_end(training_step, loss=self._losses.mean())

    def _attach(self, trainer: Any) -> None:
        need(trainer, ["model", "model_saver", "model_setup", "parameters"], trainer=TRAINER, read=READ)
        model, setup = trainer.model, trainer.model_setup
        need(model, ["adapters", "evict", "optimizer"], trainer=TRAINER, read=READ)
        need(setup, ["calculate_loss", "setup_train_device"], trainer=TRAINER, read=READ)
        need(trainer.model_saver, ["save"], trainer=TRAINER, read=READ)
        adapters = model.adapters()
        if not adapters:
            raise UnsuitedTrainingError(TRAINER, found="no LoRA")
        self._hear_losses(setup)
        self.monitor.adapter = SavedByTrainer(lambda path: _write(trainer, path), room=lambda: _out_of_the_way(trainer))
        held = (one for adapter in adapters for one in adapter.lora_modules.values())
        self.monitor.modules = tuple(one for one in held if hasattr(one, "named_modules"))
        self.begin(model.optimizer, stored=None)

    def _hear_losses(self, setup: Any) -> None:
        calculate = setup.calculate_loss

        def heard(*given: Any, **named: Any) -> Any:
            loss = calculate(*given, **named)
            if getattr(loss, "requires_grad", False):  # that of a validation is not the training's
                self._losses.note(loss)
            return loss

        setup.calculate_loss = heard


def _write(trainer: Any, path: Path) -> None:
    """As OneTrainer saves; a schedule-free optimiser is in its evaluation mode already."""
    config = trainer.config
    with _averaged(trainer):
        trainer.model_saver.save(
            model=trainer.model,
            model_type=config.model_type,
            output_model_format=config.output_model_format,
            output_model_destination=str(path),
            dtype=config.output_dtype.torch_dtype(),
        )


@contextmanager
def _averaged(trainer: Any) -> Iterator[None]:
    """Averaged weights in place, where they are what is saved; the live ones come back to the bit."""
    ema = getattr(trainer.model, "ema", None)
    if ema is None:
        yield
        return
    held = [(one, one.detach().clone()) for one in trainer.parameters]
    try:
        ema.copy_ema_to(trainer.parameters, store_temp=False)
        yield
    finally:
        for one, value in held:
            one.data.copy_(value)


@contextmanager
def _out_of_the_way(trainer: Any) -> Iterator[None]:
    """As around each of its own saves: the model leaves the GPU, and comes back."""
    trainer.model.evict()
    try:
        yield
    finally:
        trainer.model_setup.setup_train_device(trainer.model, trainer.config)
