"""Is there any point at which an adapter can be used: any checkpoint of its training, any strength?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorabench.records.comparison import Outcome
from lorabench.records.course import Action, Course, Evaluation, GuardReading
from lorabench.records.sweep import STYLE, Sweep, Tractability

SHOWN_AT = 0.05
"""One-sided p-value of "within the margin" under which a checkpoint's guard counts as broken."""


@dataclass(frozen=True, slots=True)
class _Point:
    usable: Outcome
    obstacles: tuple[str, ...]


def tractability(*, courses: Iterable[Course] = (), sweeps: Iterable[Sweep] = ()) -> Tractability:
    """Look for a usable point among all checkpoints and strengths, and say what stands in the way most often.

    A checkpoint is unusable where a guard is shown to be beyond its margin or the rule rejects it, usable where every
    guard is shown to be within; a strength as its sweep says. "No usable point" needs every point to be shown
    unusable; points that decide nothing are counted as open.

    Args:
        courses: Histories of trainings.
        sweeps: Of any of their checkpoints.

    Returns:
        Counts, the obstacle and a sentence.
    """
    points = [_of_evaluation(one) for course in courses for one in course.evaluations if one.screen or _stopped(one)]
    points += [
        _Point(point.usable, point.obstacles)
        for one in sweeps
        if one.strength is not None
        for point in one.strength.points
        if point.usable is not Outcome.UNMEASURED
    ]
    counts = Counter(name for point in points for name in point.obstacles)
    n_usable = sum(point.usable is Outcome.PASS for point in points)
    n_open = sum(point.usable is Outcome.INCONCLUSIVE for point in points)
    obstacle = min(counts, key=lambda name: (-counts[name], name), default=None)
    return Tractability(
        n_points=len(points),
        n_usable=n_usable,
        n_open=n_open,
        obstacle=obstacle,
        counts=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        sentence=_sentence(len(points), n_usable, n_open, obstacle, counts),
    )


def _sentence(n: int, n_usable: int, n_open: int, obstacle: str | None, counts: Counter[str]) -> str:
    if n == 0:
        return "No checkpoint and no strength was looked at."
    if n_usable:
        return f"{n_usable} of {n} points are usable."
    way = "" if obstacle is None else f" Most often in the way: {_words(obstacle)} ({counts[obstacle]} of {n})."
    if n_open:
        return f"No point is shown to be usable, and {n_open} of {n} are not decided.{way}"
    return f"No usable point: none of {n} checkpoints and strengths can be used.{way}"


def _words(obstacle: str) -> str:
    return "too little of the style" if obstacle == STYLE else obstacle


def _of_evaluation(evaluation: Evaluation) -> _Point:
    readings: Sequence[GuardReading] = evaluation.confirmation or evaluation.screen
    broken = [one.gate for one in readings if one.p_beyond_margin <= SHOWN_AT]
    if _stopped(evaluation) and not broken:
        broken = [*evaluation.decision.gates] or [evaluation.decision.reason.value]
    within = all(one.high < one.margin for one in readings)
    usable = Outcome.FAIL if broken else Outcome.PASS if within else Outcome.INCONCLUSIVE
    return _Point(usable, tuple(broken))


def _stopped(evaluation: Evaluation) -> bool:
    return evaluation.decision.action in (Action.REJECT, Action.STOP)
