"""Usable points over courses and sweeps, and what stands in the way."""

from __future__ import annotations

import pytest

from lorabench.evaluation.tractability import tractability
from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, Reason


def reading(gate: str, *, p: float, high: float = 0.5) -> GuardReading:
    return GuardReading(
        gate=gate,
        metric=f"{gate}_score",
        harm=high - 0.1,
        standard_error=0.1,
        margin=0.1,
        n_cases=12,
        low=high - 0.2,
        high=high,
        p_beyond_margin=p,
    )


def checkpoint(step: int, *readings: GuardReading, action: Action = Action.CONTINUE) -> Evaluation:
    reason = Reason.HEALTHY if action is Action.CONTINUE else Reason.NOT_FINITE
    decision = Decision(action=action, reason=reason, sentence="", training_step=step)
    return Evaluation(training_step=step, screen=readings, decision=decision)


def course(*evaluations: Evaluation) -> Course:
    return Course(identity="x", evaluations=evaluations)


def test_no_usable_checkpoint_names_the_guard_that_stands_in_the_way_most_often() -> None:
    found = tractability(
        courses=[
            course(
                checkpoint(100, reading("prompt", p=0.01)),
                checkpoint(200, reading("prompt", p=0.01), reading("copy", p=0.001)),
                checkpoint(300, reading("copy", p=0.01), reading("prompt", p=0.02)),
            )
        ]
    )

    assert found.no_usable_point
    assert found.obstacle == "prompt"
    assert found.counts == {"prompt": 3, "copy": 2}
    assert found.sentence == (
        "No usable point: none of 3 checkpoints and strengths can be used. Most often in the way: prompt (3 of 3)."
    )


def test_one_checkpoint_within_every_margin_is_enough() -> None:
    found = tractability(
        courses=[
            course(checkpoint(100, reading("prompt", p=0.9, high=0.05)), checkpoint(200, reading("prompt", p=0.01)))
        ]
    )

    assert not found.no_usable_point
    assert (found.n_usable, found.n_points) == (1, 2)
    assert found.sentence == "1 of 2 points are usable."


def test_undecided_checkpoints_are_no_finding() -> None:
    found = tractability(
        courses=[
            course(checkpoint(100, reading("prompt", p=0.3, high=0.2)), checkpoint(200, reading("prompt", p=0.01)))
        ]
    )

    assert not found.no_usable_point
    assert found.n_open == 1
    assert found.sentence.startswith("No point is shown to be usable, and 1 of 2 are not decided.")


def test_a_checkpoint_that_was_stopped_without_readings_counts_by_its_reason() -> None:
    found = tractability(courses=[course(checkpoint(100, action=Action.STOP))])

    assert found.no_usable_point
    assert found.obstacle == "not_finite"


@pytest.mark.parametrize("courses", [[], [Course(identity="x")]])
def test_nothing_looked_at_is_no_finding(courses: list[Course]) -> None:
    found = tractability(courses=courses)

    assert not found.no_usable_point
    assert found.sentence == "No checkpoint and no strength was looked at."
