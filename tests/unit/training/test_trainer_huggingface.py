"""The real `transformers.Trainer` on a model of one weight, and a monitor that only takes notes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorabench.errors import SpecError
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.training.trainers.huggingface import STATE_FILE, MonitorCallback, SeveralTrialsError
from tests.unit.training.noting_monitor import NotingMonitor


class OneWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * x).square().mean()}


def trainer(monitor: NotingMonitor, folder: Path, **settings: Any) -> Any:
    declare_missing_operators()
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        max_steps=6,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"logging_steps": 1, "save_strategy": "no", **settings},
    )
    rows = [{"x": torch.tensor([float(n)])} for n in range(1, 33)]
    return Trainer(
        model=OneWeight(), args=arguments, train_dataset=rows, callbacks=[MonitorCallback(monitor, restart=True)]
    )


def test_monitor_is_told_of_every_optimiser_step_whatever_the_accumulation(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    trainer(monitor, tmp_path, gradient_accumulation_steps=2).train()

    assert monitor.heard == ["begin", "step 1", "step 2", "step 3", "step 4", "step 5", "step 6", "finish"]


def test_logged_loss_and_gradient_norm_come_with_the_next_step(tmp_path: Path) -> None:
    monitor = NotingMonitor()

    training = trainer(monitor, tmp_path, logging_steps=2)
    training.train()

    logged = {row["step"]: (row["loss"], row["grad_norm"]) for row in training.state.log_history if "loss" in row}
    assert sorted(logged) == [2, 4, 6]
    assert monitor.losses == {3: logged[2], 5: logged[4]}


def test_stop_ends_the_training_at_that_step(tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at=3)

    training = trainer(monitor, tmp_path)
    training.train()

    assert training.state.global_step == 3
    assert monitor.heard[-2:] == ["step 3", "finish"]


def test_stop_after_a_saved_checkpoint_ends_the_training(tmp_path: Path) -> None:
    monitor = NotingMonitor(stop_at_checkpoint=4)

    training = trainer(monitor, tmp_path, save_strategy="steps", save_steps=2)
    training.train()

    assert training.state.global_step == 4
    assert [line for line in monitor.heard if line.startswith("checkpoint")] == ["checkpoint-2 2", "checkpoint-4 4"]


def test_resumed_training_goes_on_from_the_state_beside_the_checkpoint(tmp_path: Path) -> None:
    first = NotingMonitor(stop_at=4)
    trainer(first, tmp_path, save_strategy="steps", save_steps=2).train()
    second = NotingMonitor()

    trainer(second, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    assert json.loads((tmp_path / "checkpoint-2" / STATE_FILE).read_text()) == {"last_step": 2}
    assert second.heard == ["begin", "loaded step 2, restart True", "step 3", "step 4", "step 5", "step 6", "finish"]


def test_checkpoint_that_lies_elsewhere_is_found_when_the_arguments_name_it(tmp_path: Path) -> None:
    trainer(NotingMonitor(), tmp_path / "old", save_strategy="steps", save_steps=3).train()
    monitor = NotingMonitor()
    checkpoint = str(tmp_path / "old" / "checkpoint-3")

    trainer(monitor, tmp_path / "new", resume_from_checkpoint=checkpoint).train(resume_from_checkpoint=checkpoint)

    assert monitor.heard[:3] == ["begin", "loaded step 3, restart True", "step 4"]


def test_resumed_training_without_a_state_goes_on_with_the_course_alone(tmp_path: Path) -> None:
    trainer(NotingMonitor(), tmp_path, save_strategy="steps", save_steps=2).train()
    (tmp_path / "checkpoint-4" / STATE_FILE).unlink()
    monitor = NotingMonitor()

    trainer(monitor, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))

    assert monitor.heard == ["begin", "step 5", "step 6", "finish"]


def test_monitor_gets_the_optimiser_of_the_trainer_unless_it_has_one(tmp_path: Path) -> None:
    without, own = NotingMonitor(), NotingMonitor(optimizer="its own")

    training = trainer(without, tmp_path)
    training.train()
    trainer(own, tmp_path).train()

    assert without.optimizer is training.optimizer
    assert own.optimizer == "its own"


def test_hyper_parameter_search_is_refused() -> None:
    callback = MonitorCallback(NotingMonitor())

    with pytest.raises(SeveralTrialsError, match="a monitor judges one training; found a hyper-parameter search") as e:
        callback.on_train_begin(None, SimpleNamespace(is_hyper_param_search=True), None)
    assert isinstance(e.value, SpecError)
