"""What the adapters inside trainers share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lorabench.training.trainers.inside import (
    Losses,
    MissingHookError,
    SavedByTrainer,
    called_with,
    need,
    need_parameters,
)

NAMES = {"trainer": "a trainer", "read": "1 of May"}


class Trainer:
    def step(self, number: int, *, loss: float = 0.0) -> None: ...


def test_what_is_there_is_accepted() -> None:
    need(Trainer, ["step"], **NAMES)
    need(Trainer(), ["step"], **NAMES)
    need_parameters(Trainer, "step", ["loss"], **NAMES)


def test_missing_attribute_is_named_with_its_owner_and_the_advice() -> None:
    wanted = (
        r"a trainer needs Trainer\.stop, Trainer\.go; found .* in .*test_inside.py\. .* 1 of May\..*lorabench watch"
    )
    with pytest.raises(MissingHookError, match=wanted):
        need(Trainer, ["stop", "step", "go"], **NAMES)


def test_missing_function_of_a_module_is_named_with_the_module() -> None:
    with pytest.raises(MissingHookError, match=r"needs scripts\.main; found no such attribute in scripts"):
        need(ModuleType("scripts"), ["main"], **NAMES)


def test_missing_parameter_is_named_with_those_that_are_there() -> None:
    with pytest.raises(MissingHookError, match=r"with the parameters network; found step\(self, number, loss\)"):
        need_parameters(Trainer, "step", ["network"], **NAMES)


def test_a_call_is_read_by_the_names_of_the_method() -> None:
    trainer = Trainer()

    assert called_with(Trainer.step, trainer, 3) == {"self": trainer, "number": 3, "loss": 0.0}


def test_losses_are_averaged_and_forgotten() -> None:
    losses = Losses()

    losses.note(torch.tensor(1.0, requires_grad=True))
    losses.note(3.0)

    assert losses.mean() == 2.0
    assert losses.mean() is None


def test_file_that_fails_to_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    def fail(path: Path) -> Any:
        path.write_text("half")
        raise OSError

    place = tmp_path / "new" / "a.safetensors"
    SavedByTrainer(lambda path: path.write_text("whole")).save(place)

    with pytest.raises(OSError):
        SavedByTrainer(fail).save(place)

    assert place.read_text() == "whole"
    with SavedByTrainer(fail).room():
        pass
