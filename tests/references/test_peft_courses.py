"""Result files of PEFT's image-generation benchmark, and what our rules make of them."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "peft_courses.py"))


@pytest.fixture(scope="module")
def courses() -> tuple[Any, ...]:
    folder = os.environ.get("LORABENCH_TEST_DATA")
    if folder is None or not (Path(folder) / BENCHMARK["FOLDER"]).is_dir():
        pytest.skip(f"LORABENCH_TEST_DATA names no folder with {BENCHMARK['FOLDER']}/")
    found: tuple[Any, ...] = BENCHMARK["read_courses"](Path(folder) / BENCHMARK["FOLDER"])
    return found


@pytest.mark.data
def test_every_course_is_read_whole(courses: tuple[Any, ...]) -> None:
    assert len(courses) == 15
    for course in courses:
        assert course.steps == tuple(range(100, 100 * len(course.steps) + 1, 100))
        assert len(course.steps) == len(course.similarity) == len(course.losses)
        assert all(-1 <= value <= 1 for value in course.similarity)
        assert 0 < course.evaluation_share < 1
        assert (course.n_validation, course.n_test, course.last_step) == (2, 4, course.asked_steps)


@pytest.mark.data
def test_the_run_that_ended_early_has_no_drift(courses: tuple[Any, ...]) -> None:
    broken = [course for course in courses if course.drift is None]

    assert [(course.name, course.last_step) for course in broken] == [("full-finetuning", 300)]


@pytest.mark.data
def test_the_choice_is_a_step_of_the_course_and_never_later_than_the_best(courses: tuple[Any, ...]) -> None:
    for course in courses:
        chosen = BENCHMARK["chosen_step"](course, error=BENCHMARK["noise_of"](courses, without=course.name))
        assert chosen in course.steps
        assert chosen <= BENCHMARK["best_step"](course)


def test_a_folder_without_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="result files of PEFT's benchmark must lie in"):
        BENCHMARK["read_courses"](tmp_path)


def test_noise_is_read_off_the_zigzag() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    course = BENCHMARK["RecordedCourse"]
    made = tuple(
        course(
            name=f"m{k}",
            steps=tuple(range(100, 800, 100)),
            similarity=tuple(float(v) for v in 0.5 + 0.02 * np.arange(7) + 0.04 * rng.standard_normal(7)),
            losses=(0.7,) * 7,
            last_step=750,
            asked_steps=750,
            test_similarity=0.6,
            drift=0.2,
            n_validation=2,
            n_test=4,
            evaluation_share=0.1,
        )
        for k in range(300)
    )

    assert BENCHMARK["noise_of"](made) == pytest.approx(0.04, rel=0.1)
