"""The page of a course: `history --html`, `report COURSE`, and the one that `watch` keeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.cli import watching
from lorabench.cli.watching import Judging
from lorabench.records.course import Course, Decision, Evaluation, GuardReading, PolicyState
from lorabench.storage.course_folder import CourseFolder


def evaluation(training_step: int) -> Evaluation:
    reading = GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=0.02,
        standard_error=0.01,
        margin=0.1,
        n_cases=9,
        low=0.0,
        high=0.04,
        p_beyond_margin=0.9,
    )
    said = Decision(sentence=f"Step {training_step} stands.", training_step=training_step)
    return Evaluation(training_step=training_step, screen=(reading,), decision=said)


@pytest.fixture
def course_folder(project: Any) -> Path:
    place = CourseFolder(project.folder / ".lorabench/course")
    place.save(Course(identity="a" * 64, evaluations=(evaluation(10), evaluation(20)), best=20))
    return place.folder


def test_history_writes_the_page_where_it_is_wanted_and_prints_the_table(project: Any, course_folder: Path) -> None:
    done = project.call("history", "--html", "pages/course.html")

    page = project.folder / "pages/course.html"
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["Step", "Best"]
    assert "report: pages/course.html" in done.stderr
    assert "Step 20 stands." in page.read_text(encoding="utf-8")


def test_report_knows_a_course_by_its_folder_and_by_its_file(project: Any, course_folder: Path) -> None:
    by_folder = project.call("report", course_folder)
    by_file = project.call("report", course_folder / "course.json", "-o", "there.html")

    assert by_folder.exit_code == by_file.exit_code == 0, by_folder.stderr + by_file.stderr
    assert by_folder.stdout.strip() == str(course_folder / "course.html")
    assert (course_folder / "course.html").read_bytes() == (project.folder / "there.html").read_bytes()


def test_report_puts_a_course_beside_runs_into_a_folder_and_not_into_one_file(
    project: Any, course_folder: Path, rendered_run: Path
) -> None:
    beside = project.call("report", rendered_run, course_folder, "-o", "pages")
    together = project.call("report", rendered_run, course_folder, "-o", "one.html")

    pages = sorted(path.name for path in (project.folder / "pages").iterdir())
    assert beside.exit_code == 0, beside.stderr
    assert ".lorabench-course-course.html" in pages
    assert len(pages) == 2
    assert together.exit_code == 2
    assert "one report file must hold one run; found 2 runs" in together.stderr


def test_report_of_a_folder_that_is_neither_says_so(project: Any, tmp_path: Path) -> None:
    done = project.call("report", tmp_path)

    assert done.exit_code == 2
    assert "results must be a results.json" in done.stderr


@pytest.fixture
def watched(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trainer's folder with one checkpoint, and a judge that says yes."""
    path = project.folder / "output/checkpoint-500/pytorch_lora_weights.safetensors"
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    module = "transformer.transformer_blocks.0.attn.to_q"
    shapes = {f"{module}.lora_A.weight": (4, 16), f"{module}.lora_B.weight": (16, 4)}
    save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, path)
    os.utime(path, (1e9, 1e9))

    def judge(path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        return evaluation(training_step), course.policy

    def best(evaluations: Sequence[Evaluation]) -> int | None:
        return evaluations[-1].training_step

    monkeypatch.setattr(watching, "make_judging", lambda config, *, observer: Judging(judge, "a" * 64, best))
    return project


def test_watch_leaves_the_page_in_the_course_folder(watched: Any) -> None:
    done = watched.call("watch", "output", "--once")

    page = watched.folder / ".lorabench/course/course.html"
    assert done.exit_code == 0, done.stderr
    assert f"report: {page}" in done.stderr
    assert "Step 500 stands." in page.read_text(encoding="utf-8")


def test_watch_refreshes_the_page_while_it_waits_and_only_when_the_course_has_changed(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        written.append((watched.folder / ".lorabench/course/course.html").is_file())
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", sleep)

    done = watched.call("watch", "output", "--interval", "1")

    assert done.exit_code == 130
    assert written == [True, True, True]
    assert done.stderr.count("report: ") == 1


def test_a_page_that_cannot_be_written_is_said_and_ends_no_watch(watched: Any) -> None:
    (watched.folder / ".lorabench/course/course.html").mkdir(parents=True)

    done = watched.call("watch", "output", "--once")

    assert done.exit_code == 0, done.stderr
    assert "the course's page was not written: course.html must be writable" in done.stderr
    assert "Step 500 stands." in done.stdout
