"""A stand-in for OneTrainer and a monitor that takes notes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorabench.training.trainers.inside import MissingHookError, NothingHeardError, UnsuitedTrainingError
from lorabench.training.trainers.onetrainer import OneTrainerMonitor
from tests.stand_ins import onetrainer
from tests.stand_ins.tiny_linear import TinyLinear
from tests.unit.training.noting_monitor import NotingMonitor


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onetrainer.Model, "subject_class", TinyLinear)


def watched(monitor: NotingMonitor, **more: Any) -> Any:
    callbacks, commands = onetrainer.TrainCallbacks(), onetrainer.TrainCommands()
    trainer = onetrainer.GenericTrainer(onetrainer.configuration(**more), callbacks, commands)
    return OneTrainerMonitor(monitor).watch(trainer, callbacks=callbacks, commands=commands)


def run(monitor: NotingMonitor, **more: Any) -> Any:
    trainer = watched(monitor, **more)
    trainer.start()
    trainer.train()
    trainer.end()
    return trainer


def test_every_step_is_told_once_and_the_course_is_closed_after_the_last_save() -> None:
    monitor = NotingMonitor()

    trainer = run(monitor, batches=2)

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "step 4", "finish"]
    assert trainer.ended
    assert monitor.optimizer is trainer.model.optimizer
    assert list(monitor.modules) == list(trainer.model.transformer_lora.lora_modules.values())


def test_micro_batches_that_only_gather_gradients_are_not_told() -> None:
    monitor = NotingMonitor()

    run(monitor, batches=4, epochs=1, gradient_accumulation_steps=2)

    assert monitor.heard == ["begin", "step 2", "step 4", "finish"]


def test_losses_are_those_of_the_training_and_not_of_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = NotingMonitor()
    trained: list[float] = []

    def loss(self: Any, model: Any, batch: Any, data: Any, config: Any) -> torch.Tensor:
        made = model.subject.loss()
        if made.requires_grad:
            trained.append(made.item())
        return made

    monkeypatch.setattr(onetrainer.Setup, "calculate_loss", loss)
    run(monitor, batches=2, epochs=1, gradient_accumulation_steps=1)

    assert [monitor.losses[step][0] for step in (1, 2)] == pytest.approx(trained)


def test_stop_goes_through_the_commands_and_the_trainer_ends_by_itself() -> None:
    monitor = NotingMonitor(stop_at=2)

    trainer = run(monitor)

    assert monitor.heard == ["begin", "step 1", "step 2", "finish"]
    assert trainer.commands.get_stop_command()
    assert trainer.ended


def test_error_that_a_callback_would_swallow_stops_the_training_and_is_raised() -> None:
    class Broken(NotingMonitor):
        def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> None:
            super().on_step_end(training_step)
            raise ZeroDivisionError

    monitor = Broken()

    with pytest.raises(ZeroDivisionError):
        run(monitor)
    assert monitor.heard == ["begin", "step 1"]


def test_file_holds_the_averaged_weights_and_the_live_ones_stay(tmp_path: Path) -> None:
    monitor = NotingMonitor()
    trainer = run(monitor, ema=True, learning_rate=0.1)
    live = [one.detach().clone() for one in trainer.parameters]

    file = monitor.adapter.save(tmp_path / "a.safetensors")

    averaged = trainer.model.ema.ema_parameters
    saved = load_file(file)
    written = [value for key, value in saved.items() if not key.endswith("alpha")]
    assert all(torch.equal(one, other) for one, other in zip(written, averaged, strict=True))
    assert not torch.equal(averaged[1], live[1])
    assert all(torch.equal(one, other) for one, other in zip(live, trainer.parameters, strict=True))


def test_model_leaves_the_device_around_an_evaluation() -> None:
    monitor = NotingMonitor()
    trainer = run(monitor)
    trainer.model.moves.clear()

    def judge() -> None:
        with monitor.adapter.room():
            trainer.model.moves.append("judged")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        judge()
    assert trainer.model.moves == ["evicted", "judged", "on the device"]


@pytest.mark.parametrize("more", [{"multi_gpu": True}, {"cloud": SimpleNamespace(enabled=True)}])
def test_training_in_other_processes_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UnsuitedTrainingError, match=r"a training in other processes .*lorabench watch"):
        watched(NotingMonitor(), **more)


def test_training_without_a_lora_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onetrainer.Model, "adapters", lambda self: [])

    with pytest.raises(
        UnsuitedTrainingError,
        match="a monitor inside OneTrainer judges a LoRA that one process can write; found no LoRA",
    ):
        watched(NotingMonitor()).start()


def test_trainer_without_the_hooks_is_refused() -> None:
    with pytest.raises(MissingHookError, match=r"OneTrainer needs object\.start, object\.train, object\.end"):
        OneTrainerMonitor(NotingMonitor()).watch(object(), callbacks=None, commands=None)


def test_training_of_which_no_step_is_heard_is_an_error() -> None:
    trainer = watched(NotingMonitor(), epochs=0)
    trainer.start()

    with pytest.raises(NothingHeardError, match="inside OneTrainer must hear of every step"):
        trainer.train()


def test_launch_watches_what_the_script_makes_and_leaves_its_modules_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create: Any = ModuleType("modules.util.create")
    create.create_trainer = onetrainer.GenericTrainer
    script: Any = ModuleType("train")
    script.create = create

    def main() -> None:
        made = script.create.create_trainer(
            onetrainer.configuration(epochs=1), onetrainer.TrainCallbacks(), onetrainer.TrainCommands()
        )
        made.start()
        made.train()
        made.end()

    script.main = main
    for name, module in {"train": script, "modules": ModuleType("modules"), "modules.util.create": create}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "modules.util", ModuleType("modules.util"))
    monitor = NotingMonitor()

    OneTrainerMonitor(monitor).launch()

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "finish"]
    assert create.create_trainer is onetrainer.GenericTrainer


def test_launch_elsewhere_says_where_it_must_lie() -> None:
    with pytest.raises(
        MissingHookError, match=r"lay your script beside OneTrainer's scripts/none_such\.py; found No mod"
    ):
        OneTrainerMonitor(NotingMonitor()).launch("none_such")
