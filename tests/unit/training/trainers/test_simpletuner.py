"""A stand-in for SimpleTuner's trainer and a monitor that takes notes."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lorabench.generation.adapter import read_adapter
from lorabench.generation.adapter_errors import NeverTrainedError
from lorabench.training.trainers.inside import MissingHookError, NothingHeardError, UnsuitedTrainingError
from lorabench.training.trainers.simpletuner import SimpleTunerMonitor
from tests.stand_ins import simpletuner
from tests.stand_ins.tiny_linear import TinyLinear
from tests.unit.training.noting_monitor import NotingMonitor


class Plain(simpletuner.Trainer):
    """With two layers and no adapter of peft's."""

    subject_class = TinyLinear

    def init_model(self) -> None:
        self.subject = self.subject_class()
        self.model = simpletuner.Model(self.subject)
        self.weights = list(self.subject.pipeline.transformer.requires_grad_(True).parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=0.1)

    def save_final(self) -> None:
        pass


def run(monitor: NotingMonitor, folder: Path, **more: Any) -> Any:
    trainer_class = type("Trainer", (Plain,), {"settings": simpletuner.settings(folder, **more)})
    SimpleTunerMonitor(monitor).train(trainer_class, run=simpletuner.run_training)
    return simpletuner.Trainer.made


def test_steps_of_the_optimiser_are_told_at_the_next_turn(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    trainer = run(monitor, tmp_path, max_train_steps=4, gradient_accumulation_steps=2)

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "finish"]
    assert set(monitor.losses) == {1, 2, 3}
    assert monitor.optimizer is trainer.optimizer
    assert trainer.cleaned


def test_stop_goes_through_the_trainers_own_abort(tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at=2)

    trainer = run(monitor, tmp_path)

    assert monitor.heard == ["begin", "step 1", "step 2", "finish"]
    assert trainer.should_abort
    assert trainer.state["global_step"] == 2


def test_abort_by_somebody_else_is_not_taken_for_ours(tmp_path: Path) -> None:
    class Aborted(NotingMonitor):
        def on_step_end(self, training_step: int, *, loss: Any = None, grad_norm: Any = None) -> None:
            super().on_step_end(training_step)
            simpletuner.Trainer.made.abort()

    monitor = Aborted()

    with pytest.raises(StopIteration):
        run(monitor, tmp_path)
    assert monitor.heard == ["begin", "step 1"]
    assert simpletuner.Trainer.made.cleaned


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"model_type": "full"}, "model_type full, lora_type standard"),
        ({"lora_type": "lycoris"}, "model_type lora, lora_type lycoris"),
        ({"fsdp_enable": True}, "fsdp_enable, which spreads weights"),
    ],
)
def test_training_of_another_kind_is_refused(more: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(UnsuitedTrainingError, match=found):
        run(NotingMonitor(), tmp_path, **more)


def test_trainer_without_the_hooks_is_refused() -> None:
    with pytest.raises(MissingHookError, match=r"SimpleTuner needs Other\.abort, Other\._exit_on_signal"):
        SimpleTunerMonitor(NotingMonitor()).watched(type("Other", (), {"train": None}))


def test_version_that_computes_its_loss_elsewhere_is_watched_without_it(tmp_path: Path) -> None:
    class Least:
        def train(self) -> None: ...
        def abort(self) -> None: ...
        def _exit_on_signal(self) -> None: ...

    watched = SimpleTunerMonitor(NotingMonitor()).watched(Least)

    assert not hasattr(watched, "_compute_model_prediction_loss")


def test_training_of_which_no_step_is_heard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NothingHeardError, match="inside SimpleTuner must hear of every step"):
        run(NotingMonitor(), tmp_path, max_train_steps=0)


def test_launch_runs_the_installed_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("simpletuner.train")
    module.Trainer = type("Trainer", (Plain,), {"settings": simpletuner.settings(tmp_path, max_train_steps=2)})
    module._run_training = simpletuner.run_training
    module.dynamo_config_context = lambda config: nullcontext()
    monkeypatch.setitem(sys.modules, "simpletuner", ModuleType("simpletuner"))
    monkeypatch.setitem(sys.modules, "simpletuner.train", module)
    monitor = NotingMonitor()

    SimpleTunerMonitor(monitor).launch()

    assert monitor.heard == ["begin", "step 1", "finish"]


def test_launch_without_the_trainer_says_so() -> None:
    with pytest.raises(MissingHookError, match=r"needs simpletuner\.train; found No module named 'simpletuner'"):
        SimpleTunerMonitor(NotingMonitor()).launch()


def test_file_is_that_of_the_live_adapter(tmp_path: Path) -> None:
    monitor = NotingMonitor()
    trainer_class = type("Trainer", (simpletuner.Trainer,), {"settings": simpletuner.settings(tmp_path)})
    trainer = SimpleTunerMonitor(monitor).watched(trainer_class)()
    trainer.init_model()
    trainer.config.max_train_steps = 0
    trainer.train()

    file = monitor.adapter.save(tmp_path / "live" / "pytorch_lora_weights.safetensors")

    with pytest.raises(NeverTrainedError):
        read_adapter(file)
    torch.nn.init.ones_(trainer.weights[1])
    adapter = read_adapter(monitor.adapter.save(file))
    assert adapter.info.layout == "diffusers"
    assert adapter.info.alphas == (4.0,)
