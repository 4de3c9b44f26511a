from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.evaluation.demonstration import world_config
from lorabench.records.config import GateConfig
from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, Reason
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training import policy
from lorabench.training.checkpoint_judging import CheckpointJudge, replay, unmeasured_evaluation


@pytest.fixture(scope="module")
def suite() -> Suite:
    return read_suite(shipped_suite_path("world/screen")).suite


def judge_of(suite: Suite, tmp_path: Path, **course: object) -> CheckpointJudge:
    config = world_config(None, training=None, runs_dir=tmp_path)
    changed = config.model_copy(update={"course": config.course.model_copy(update=course)})
    return CheckpointJudge(changed, suite=suite)


def reading(harm: float, *, gate: str = "prompt", p: float = 1.0) -> GuardReading:
    return GuardReading(
        gate=gate,
        metric="prompt_following_score",
        harm=harm,
        standard_error=0.02,
        margin=0.1,
        n_cases=40,
        low=harm - 0.04,
        high=harm + 0.04,
        p_beyond_margin=p,
    )


def test_screens_go_round_the_pool_and_confirmations_and_finalists_use_seeds_of_their_own(
    suite: Suite, tmp_path: Path
) -> None:
    judge = judge_of(suite, tmp_path, n_seeds=2, pool_size=6, confirmation_factor=3)
    screens = [judge.screen_seeds(index) for index in range(4)]
    confirmations = [judge.confirmation_seeds(index) for index in range(3)]
    pool = {seed for seeds in screens for seed in seeds}

    assert screens[3] == screens[0]
    assert len(pool) == 6
    fresh = [seed for seeds in confirmations for seed in seeds]
    assert len(fresh) == len(set(fresh)) == 18
    assert not pool & set(fresh)
    assert not set(judge.finalist_seeds()) & (pool | set(fresh))


def test_course_is_another_one_for_another_suite_or_margin_and_the_same_for_another_patience(
    suite: Suite, tmp_path: Path
) -> None:
    first = judge_of(suite, tmp_path)
    patient = judge_of(suite, tmp_path, confirmations=3, window=5, every_n_steps=7, budget=0.5)
    shorter = judge_of(suite.model_copy(update={"cases": suite.cases[:9]}), tmp_path)
    strict = first.config.model_copy(update={"gates": {"prompt": GateConfig(margin=0.05)}})

    assert patient.identity == first.identity
    assert shorter.identity != first.identity
    assert CheckpointJudge(strict, suite=suite).identity != first.identity


def test_replay_remembers_what_the_rule_remembered_and_passes_over_what_was_not_measured(
    suite: Suite, tmp_path: Path
) -> None:
    settings = judge_of(suite, tmp_path).config.course
    state, evaluations = policy.PolicyState(), []
    for training_step, (harm, p) in enumerate(((0.0, 1.0), (0.3, 0.0001), (0.05, 1.0)), start=1):
        screen, confirmation = (reading(harm),), (reading(harm, p=p),) if p < 1 else ()
        alarmed, state = policy.alarms(screen, state, settings)
        decision, state = policy.conclude(
            training_step=training_step, alarmed=alarmed, confirmed=confirmation, state=state, settings=settings
        )
        evaluations.append(
            Evaluation(training_step=training_step, screen=screen, confirmation=confirmation, decision=decision)
        )
        evaluations.append(unmeasured_evaluation(training_step, checkpoint=None, reason="out of memory"))

    assert replay(evaluations, settings) == state
    assert state.confirmed == (False, True, False)


def test_failed_evaluation_says_why_and_that_training_goes_on_or_stops_where_asked(
    suite: Suite, tmp_path: Path
) -> None:
    asked = judge_of(suite, tmp_path, on_error="stop").config.course

    going = unmeasured_evaluation(40, checkpoint="a", reason="out of memory")
    stopped = unmeasured_evaluation(40, checkpoint="a", reason="out of memory", settings=asked)

    assert going.decision == Decision(
        reason=Reason.NOT_MEASURED,
        sentence="Step 40 was not measured: out of memory. Training goes on.",
        training_step=40,
    )
    assert stopped.decision.action is Action.STOP
    assert going.unmeasured == {"everything": "out of memory"}
    assert Course(identity="x", evaluations=(going,)).best is None
