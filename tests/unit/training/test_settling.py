"""Finalists judged again: which prompts, which seeds, and what the last word does to the course."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorabench.errors import MeasurementError
from lorabench.evaluation.demonstration import world_config
from lorabench.records.config import CourseConfig
from lorabench.records.course import Course, Decision, Evaluation, GuardReading
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training import settling
from lorabench.training.checkpoint_judging import CheckpointJudge
from lorabench.training.settling import adapter_in, choice_of, final_suite, settle_course


@cache
def shipped(name: str) -> Suite:
    return read_suite(shipped_suite_path(name)).suite


def guard(harm: float, *, half_width: float = 0.05) -> GuardReading:
    return GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=harm,
        standard_error=half_width / 2,
        margin=0.1,
        n_cases=40,
        low=harm - half_width,
        high=harm + half_width,
        p_beyond_margin=0.5,
    )


def judged(step: int, harm: float, *, style: float, folder: Path, half_width: float = 0.05) -> Evaluation:
    kept = folder / str(step)
    kept.mkdir(parents=True)
    (kept / "adapter.safetensors").write_text(str(step))
    return Evaluation(
        training_step=step,
        kept=str(kept),
        seeds=(1, 2),
        screen=(guard(harm, half_width=half_width),),
        signals={"style": style, "style_se": 0.01},
        decision=Decision(sentence="judged.", training_step=step),
    )


class Judge(CheckpointJudge):
    """Measures nothing; notes what it was asked."""

    def __init__(self, tmp_path: Path, **course: Any) -> None:
        config = world_config(None, training=None, runs_dir=tmp_path)
        config = config.model_copy(update={"course": config.course.model_copy(update=course)})
        super().__init__(config, suite=shipped("world/screen"))
        self.asked: list[tuple[str, tuple[int, ...], str]] = []

    def measure(self, path: Path, *, seeds: Sequence[int], suite: Suite | None = None) -> Any:
        assert suite is not None
        self.asked.append((path.read_text(), tuple(seeds), suite.name))
        return SimpleNamespace(run_id=f"run-{path.read_text()}", step=path.read_text())


@pytest.fixture
def harms(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Harm and style of each finalist at the last look, by step."""
    found: dict[str, float] = {}
    monkeypatch.setattr(settling, "guard_readings", lambda results: ((guard(found[results.step]),), {}))
    monkeypatch.setattr(settling, "signals", lambda _results: {"style": 0.5, "style_se": 0.01})
    return found


# ------------------------------------------------------------------------------------------------ the prompts


@pytest.mark.parametrize("name", ["screen", "world/screen"])
def test_beside_a_shipped_screen_other_prompts_of_the_same_families_are_taken(name: str) -> None:
    screen = shipped(name)
    final = final_suite(CourseConfig(suite=name), screen)

    assert not {case.prompt for case in final.cases} & {case.prompt for case in screen.cases}
    assert len(final.cases) == len(screen.cases)
    families = [case.family for case in final.cases]
    assert set(families) <= {case.family for case in screen.cases}
    assert max(families.count(one) for one in set(families)) <= len(families) / 2
    assert len({case.id for case in final.cases}) == len(final.cases)


def test_a_screen_of_ones_own_is_its_own_last_look_unless_suites_are_named() -> None:
    own = shipped("world/screen").model_copy(update={"name": "mine"})

    assert final_suite(CourseConfig(suite="world/screen"), own) is own
    named = final_suite(CourseConfig(suite="mine.lora.yaml", final_suites=("world/spatial", "world/screen")), own)
    screened = {case.prompt for case in own.cases}
    assert list(named.cases) == [case for case in shipped("world/spatial").cases if case.prompt not in screened]


def test_a_prompt_of_two_suites_is_asked_once_and_no_two_cases_share_an_id() -> None:
    own = shipped("world/screen").model_copy(update={"name": "mine"})
    both = ("world/subjects", "world/anatomy")

    final = final_suite(CourseConfig(suite="mine.lora.yaml", final_suites=both), own)

    offered = {case.prompt for name in both for case in shipped(name).cases} - {case.prompt for case in own.cases}
    assert sorted(case.prompt for case in final.cases) == sorted(offered)
    assert len({case.id for case in final.cases}) == len(final.cases)
    assert any(case.id.startswith("world-") for case in final.cases)


# ------------------------------------------------------------------------------------------------ the last word


def test_finalists_are_judged_again_on_unused_seeds_and_that_decides(tmp_path: Path, harms: dict[str, float]) -> None:
    judge = Judge(tmp_path, final_seeds=3)
    course = Course(
        identity="x",
        evaluations=tuple(
            judged(step, 0.0, style=style, folder=tmp_path) for step, style in ((100, 0.50), (200, 0.90), (300, 0.70))
        ),
        best=200,
    )
    harms |= {"100": 0.0, "200": 0.3, "300": 0.0}
    shown = []

    @contextmanager
    def showing(file: Path) -> Iterator[None]:
        shown.append(file.read_text())
        yield

    final = final_suite(CourseConfig(suite="world/screen"), judge.suite)
    settled = settle_course(course, judge=judge, suite=final, shown=showing)

    assert shown == ["200", "300", "100"]
    assert {seeds for _, seeds, _ in judge.asked} == {judge.finalist_seeds()}
    assert len(judge.finalist_seeds()) == 3
    assert settled.settlement is not None
    assert settled.settlement.held_back
    assert settled.best == settled.settlement.best == 100
    assert settled.evaluations == course.evaluations, "what chose the finalists stays as it was"
    assert settled.settlement.sentence.startswith("Judged again on 62 held-back prompts and unused seeds. Step 100: ")
    assert choice_of(course).training_step == 200
    assert choice_of(settled).training_step == 100
    assert choice_of(settled).sentence == settled.settlement.sentence


def test_a_screen_too_small_to_show_harmlessness_leaves_it_to_the_last_look(
    tmp_path: Path, harms: dict[str, float]
) -> None:
    judge = Judge(tmp_path)
    wide = tuple(judged(step, 0.02, style=0.5, folder=tmp_path, half_width=0.2) for step in (100, 200))
    course = Course(identity="x", evaluations=wide)
    harms |= {"100": 0.0, "200": 0.3}

    assert choice_of(course).training_step is None
    settled = settle_course(course, judge=judge, suite=judge.suite)

    assert settled.best == 100
    assert settled.settlement is not None
    assert not settled.settlement.held_back
    assert "on the same 62 prompts and unused seeds" in settled.settlement.sentence


def test_the_first_choice_says_that_it_is_the_last_where_finalists_could_not_be_judged(tmp_path: Path) -> None:
    course = Course(identity="x", evaluations=(judged(100, 0.0, style=0.5, folder=tmp_path),), unsettled="no memory.")

    assert choice_of(course).training_step == 100
    assert choice_of(course).sentence.endswith("The finalists were not judged again: no memory.")


def test_nothing_to_settle_leaves_the_course_as_it_is(tmp_path: Path) -> None:
    bad = Course(identity="x", evaluations=(judged(100, 0.4, style=0.5, folder=tmp_path),))
    good = Course(identity="x", evaluations=(judged(200, 0.0, style=0.5, folder=tmp_path),))

    judge = Judge(tmp_path)
    assert settle_course(bad, judge=judge, suite=judge.suite) is bad
    assert settle_course(good, judge=Judge(tmp_path, finalists=0), suite=judge.suite) is good
    assert judge.asked == []


def test_a_finalist_whose_copy_is_gone_is_named(tmp_path: Path, harms: dict[str, float]) -> None:
    first, second = (judged(step, 0.0, style=step / 1000, folder=tmp_path) for step in (100, 200))
    lost = second.model_copy(update={"kept": None})
    harms |= {"100": 0.0}
    judge = Judge(tmp_path)

    settled = settle_course(Course(identity="x", evaluations=(first, lost)), judge=judge, suite=judge.suite)
    assert settled.settlement is not None
    assert settled.settlement.sentence.endswith("Passed over: no copy is left of the finalist at 200.")

    unsettled = settle_course(Course(identity="x", evaluations=(lost,)), judge=judge, suite=judge.suite)
    assert choice_of(unsettled).sentence.endswith(
        "The finalists were not judged again: no copy is left of the finalist at 200."
    )


def test_a_kept_checkpoint_without_its_one_adapter_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"a kept checkpoint must hold one adapter file; .* holds none"):
        adapter_in(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(MeasurementError, match=r"holds a\.safetensors, b\.safetensors"):
        adapter_in(tmp_path)
