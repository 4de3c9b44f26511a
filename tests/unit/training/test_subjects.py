"""What a monitor judges, by what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.generation.base_files import BaseNotFoundError
from lorabench.records.config import Config
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training import subjects
from lorabench.training.subjects import FileSubject, NothingToJudgeError
from lorabench.training.trainers.inside import SavedByTrainer

ADAPTER = SavedByTrainer(lambda path: path.write_text("adapter"))


class Judge:
    """Notes what is freed."""

    def __init__(self) -> None:
        self.freed: list[str] = []

    def free_judges(self) -> None:
        self.freed.append("judges")

    def free_base(self) -> None:
        self.freed.append("base")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = world_config(None, training=None, runs_dir=tmp_path / "runs")
    return made.model_copy(update={"course": made.course.model_copy(update={"folder": tmp_path / "course"})})


def test_monitor_with_neither_pipeline_nor_adapter_says_what_it_needs(config: Config) -> None:
    monitor = Monitor.from_config(config, suite=read_suite(shipped_suite_path("world/screen")).suite)

    with pytest.raises(NothingToJudgeError, match="must be given the pipeline in training, or an adapter that can be"):
        monitor.on_train_begin()


def test_files_are_judged_on_a_base_that_the_settings_must_name(config: Config) -> None:
    nowhere = config.model_copy(update={"model": config.model.model_copy(update={"base": ""})})

    with pytest.raises(BaseNotFoundError, match="none is named"):
        _ = FileSubject(nowhere, adapter=ADAPTER).backend


def test_no_subject_holds_the_base_of_its_files(config: Config) -> None:
    subject = FileSubject(config, adapter=ADAPTER)

    assert subject.backend is not subject.backend


def test_file_is_written_by_the_trainer_and_has_no_cheap_signals(config: Config, tmp_path: Path) -> None:
    subject = FileSubject(config, adapter=ADAPTER)

    subject.save(tmp_path / "a.safetensors")

    assert (tmp_path / "a.safetensors").read_text() == "adapter"
    assert subject.prepare(["a circle"]) == {"judged_by": "file"}
    assert "judged by its files" in subject.signals().unmeasured["drift"]
    with subject.shown(tmp_path / "a.safetensors"):
        pass


@pytest.mark.parametrize(
    ("stated", "short", "freed"),
    [
        ("never", True, []),
        ("auto", False, []),
        ("auto", True, ["judges", "base"]),
        ("always", False, ["judges", "base"]),
    ],
)
def test_base_and_judges_go_where_memory_is_short_or_as_stated(
    stated: Any, short: bool, freed: list[str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "_short", lambda: short)
    course = config.course.model_copy(update={"free_judges": stated})
    judge: Any = Judge()

    FileSubject(config.model_copy(update={"course": course}), adapter=ADAPTER).rest(judge)

    assert judge.freed == freed
