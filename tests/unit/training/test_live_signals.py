"""Loss and drift of a live training, on the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.evaluation.demonstration import world_config
from lorabench.records.config import Config
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining
from lorabench.training.live_signals import LiveSignals


@pytest.fixture(scope="module")
def suite() -> Suite:
    screen = read_suite(shipped_suite_path("world/screen")).suite
    return screen.model_copy(update={"cases": screen.cases[:2]})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A training set of four pictures and a held-out one of two, cut from a shipped set."""
    source = shipped_data("fixtures/datasets/healthy")
    rows = (source / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    for name, part in (("training", rows[:4]), ("held-out", rows[4:6])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "captions.jsonl").write_text("\n".join(part), encoding="utf-8")
        for row in part:
            shutil.copy(source / json.loads(row)["file_name"], tmp_path / name)
    return tmp_path


def config_of(tmp_path: Path, *, training: Path | None, **course: Any) -> Config:
    config = world_config(None, training=training, runs_dir=tmp_path)
    return config.model_copy(update={"course": config.course.model_copy(update=course)})


def trained(training: WorldTraining, n_steps: int) -> None:
    for _ in range(n_steps):
        training.step()


def test_losses_begin_at_one_and_their_gap_and_the_drift_at_zero(suite: Suite, pictures: Path) -> None:
    training = WorldTraining("healthy", lr=2e-3)
    config = config_of(pictures, training=pictures / "training", held_out=pictures / "held-out", loss_pictures=2)
    signals = LiveSignals(config, suite=suite, pipeline=training.pipeline)

    first = signals.read()
    trained(training, 12)
    state = torch.get_rng_state()
    second = signals.read()
    again = signals.read()
    resumed = LiveSignals(config, suite=suite, pipeline=training.pipeline).read()

    names = {"loss_training", "loss_held_out", "loss_gap", "drift"}
    assert names <= set(first.values)
    assert (first.values["loss_training"], first.values["loss_held_out"], first.values["loss_gap"]) == (1, 1, 0)
    assert first.values["drift"] == 0
    assert second.values["loss_training"] < 1
    assert second.values["drift"] > 0
    assert {"loss_training_s1", "loss_training_s8", "loss_held_out_s8", "loss_gap_s1"} <= set(second.values)
    assert again == second == resumed, "whoever starts in the middle reads against the same base"
    assert torch.equal(state, torch.get_rng_state())
    assert not second.unmeasured


def test_without_pictures_the_drift_alone_is_read(suite: Suite, tmp_path: Path) -> None:
    training = WorldTraining("healthy", lr=2e-3)
    found = LiveSignals(config_of(tmp_path, training=None), suite=suite, pipeline=training.pipeline).read()

    assert {name.partition("_")[0] for name in found.values} == {"drift"}
    assert found.unmeasured == {}


def test_pictures_that_cannot_be_used_leave_a_reason_and_the_rest(suite: Suite, pictures: Path) -> None:
    (pictures / "held-out" / "captions.jsonl").unlink()
    training = WorldTraining("healthy", lr=2e-3)
    config = config_of(pictures, training=pictures / "training", held_out=pictures / "held-out", loss_pictures=1)
    found = LiveSignals(config, suite=suite, pipeline=training.pipeline).read()

    assert found.values["loss_training"] == 1
    assert "loss_gap" not in found.values
    assert "a loss needs pictures with captions" in found.unmeasured["loss_held_out"]


def test_damaged_weights_are_said_to_be(suite: Suite, tmp_path: Path) -> None:
    training = WorldTraining("healthy", lr=2e-3)
    signals = LiveSignals(config_of(tmp_path, training=None), suite=suite, pipeline=training.pipeline)
    signals.read()
    with torch.no_grad():
        training.weights[1].fill_(float("nan"))
    found = signals.read()

    assert found.not_finite is not None
    assert "must be finite" in found.not_finite
