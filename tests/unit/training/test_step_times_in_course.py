"""A monitor writes its steps' times into the course; the history and the page say what follows from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from lorabench.callback import Monitor, _Opened
from lorabench.cli.course import show_course
from lorabench.records.config import Config
from lorabench.records.course import Course, Decision, Evaluation
from lorabench.records.step_times import TrainingSetup
from lorabench.records.suite import Case, Suite
from lorabench.storage.course_folder import CourseFolder, read_course
from lorabench.training.cadence import Cadence
from lorabench.training.course_page import write_course_page
from lorabench.training.live_course import LiveCourse
from lorabench.training.step_times import StepTimeTrack
from lorabench.training.training_setup import setup_of

SUITE = Suite(
    schema_version=1,
    name="one",
    licence="CC0-1.0",
    seeds=(1,),
    cases=(Case(id="a", family="spatial", prompt="{style} a circle"),),
)


def clock_of(seconds: list[float]) -> Any:
    ticks: Iterator[float] = iter([0.0, *accumulate(seconds)])
    return lambda: next(ticks)


def monitor_in(folder: Path, *, seconds: list[float], known: Course | None = None) -> Monitor:
    config = Config()
    config = config.model_copy(update={"course": config.course.model_copy(update={"folder": folder})})
    monitor = Monitor(config, suite=SUITE)
    course = known or Course(identity="x")
    live = LiveCourse(CourseFolder(folder), course, settings=config.course)
    monitor._opened = _Opened(judge=None, subject=None, live=live)  # type: ignore[arg-type]
    monitor._cadence = Cadence(config.course, clock=clock_of(seconds))
    monitor._step_times = StepTimeTrack(course.step_times)
    return monitor


def test_times_of_steps_are_written_into_the_course(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path, seconds=[2.0] * 100)
    for step in range(1, 82):
        monitor._word(step, None, None)
    monitor._note_step_times(monitor._ensure_open().live)

    course = read_course(tmp_path)

    assert course.step_times is not None
    assert (course.step_times.n_steps, course.step_times.median) == (80, pytest.approx(2.0))
    assert course.setup is not None
    assert course.setup.gpu is None


def test_time_of_a_look_is_no_time_of_a_step(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path, seconds=[1.0] * 40 + [500.0] + [1.0] * 60)
    for step in range(1, 42):
        monitor._word(step, None, None)
    monitor._cadence.screened(41, seconds=500.0)
    for step in range(42, 90):
        monitor._word(step, None, None)

    found = monitor._step_times.record()

    assert found is not None
    assert max(block.high for block in found.blocks) == pytest.approx(1.0)


def test_a_training_that_goes_on_keeps_the_times_before(tmp_path: Path) -> None:
    first = monitor_in(tmp_path, seconds=[1.0] * 50)
    for step in range(1, 50):
        first._word(step, None, None)
    first._note_step_times(first._ensure_open().live)
    second = monitor_in(tmp_path, seconds=[3.0] * 50, known=read_course(tmp_path))
    for step in range(50, 95):
        second._word(step, None, None)

    found = second._step_times.record()

    assert found is not None
    assert found.n_steps == 48 + 44
    assert (found.blocks[0].median, found.blocks[-1].median) == (1.0, 3.0)


def slowing_course(folder: Path) -> Course:
    track = StepTimeTrack()
    for step in range(1, 401):
        track.add(step, 1.0 if step <= 200 else 3.0)
    judged = Evaluation(training_step=100, decision=Decision(sentence="Healthy.", training_step=100))
    course = Course(
        identity="x", evaluations=(judged,), step_times=track.record(), setup=TrainingSetup(gpu="NVIDIA L4")
    )
    CourseFolder(folder).save(course)
    return course


def test_history_says_from_which_step_it_is_slower_and_what_to_look_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_course(slowing_course(tmp_path), folder=tmp_path)

    words = " ".join(capsys.readouterr().out.split())

    assert "From step 201 on it takes 3 s instead of 1 s, 3.0 times as long." in words
    assert "The device's memory may be full." in words


def test_page_shows_the_same(tmp_path: Path) -> None:
    slowing_course(tmp_path)

    page = write_course_page(tmp_path).read_text(encoding="utf-8")

    assert "The training&#39;s own steps" in page or "The training's own steps" in page
    assert "From step 201 on it takes 3 s instead of 1 s" in page


def test_a_course_of_an_earlier_version_has_no_times_and_is_read(tmp_path: Path) -> None:
    stored = json.loads(slowing_course(tmp_path).model_dump_json())
    del stored["step_times"], stored["setup"]
    (tmp_path / "course.json").write_text(json.dumps(stored))

    assert read_course(tmp_path).step_times is None


def test_setup_is_read_off_the_live_modules(tmp_path: Path) -> None:
    import torch

    class FluxPipeline:
        transformer = torch.nn.Linear(2, 2).to(torch.bfloat16)

    course = Config().course.model_copy(update={"training_resolution": 512, "training_batch_size": 4})
    found = setup_of(FluxPipeline(), course)

    assert (found.gpu, found.family, found.mixed_precision) == ("cpu", "flux", "bf16")
    assert (found.resolution, found.batch_size, found.memory_used_share) == (512, 4, None)
    assert setup_of(None, course).gpu is None
