"""Several runs between prompt following and style: what each reached, and which of them no other beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from lorabench.records.comparison import Comparison
from lorabench.records.plan import Arm
from lorabench.report.course_chart import Scale, Tick
from lorabench.report.several_view import OneRun, SeveralRuns

STYLE_MEASURES: Final = (("style_similarity", "B0"), ("style_similarity", "B1"), ("nearest_training_distance", "B1"))
"""Metric and reference in which style is read: the first that most runs have."""
PROMPT_MEASURE: Final = ("prompt_following_score", "B1")
NEARNESS: Final = "nearest_training_distance"
"""In this metric style is a smaller number, though copying is, too."""

LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 60.0, 500.0, 14.0, 268.0, 300.0
WIDTH: Final = 520.0
_ROOM: Final = 0.08

Spread: TypeAlias = tuple[float, float, float]
"""Estimate and both ends of its interval; all the same where there is no interval. Larger is better."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run."""

    run: OneRun
    prompt: Spread
    style: Spread
    unbeaten: bool


@dataclass(frozen=True, slots=True)
class Pareto:
    """Style against prompt following."""

    style_metric: str
    style_reference: str
    points: tuple[Point, ...]
    missing: tuple[tuple[OneRun, str], ...]
    """Runs without a point, and why."""
    with_intervals: bool
    """False where the suites differ: then the points are means over the shared cases."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One run, placed."""

    point: Point
    x: float
    y: float
    left: float
    right: float
    upper: float
    lower: float


@dataclass(frozen=True, slots=True)
class ParetoChart:
    """Right follows prompts better, up is more style; in drawing units."""

    marks: tuple[Mark, ...]
    front: str
    """Path along the unbeaten runs."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float
    """Prompts followed as by the control."""


def pareto(several: SeveralRuns) -> Pareto:
    """Read style and prompt following of each run.

    Args:
        several: The runs.

    Returns:
        A point for each run that has both, over the shared cases alone where the suites differ. Unbeaten is a run
        when no other has more of one and at least as much of the other, by the estimates: intervals play no part.
    """
    have = [sum(_compared(run, *measure) is not None for run in several.runs) for measure in STYLE_MEASURES]
    metric, reference = STYLE_MEASURES[have.index(max(have))]
    read = [(run, _place(several, run, _compared(run, metric, reference))) for run in several.runs]
    placed = [(run, at) for run, at in read if not isinstance(at, str)]
    places = [at for _, at in placed]
    return Pareto(
        style_metric=metric,
        style_reference=reference,
        points=tuple(Point(run, *at, unbeaten=_unbeaten(at, places)) for run, at in placed),
        missing=tuple((run, at) for run, at in read if isinstance(at, str)),
        with_intervals=several.one_suite,
    )


def draw(found: Pareto) -> ParetoChart | None:
    """Place the points; None without any."""
    if not found.points:
        return None
    x = _axis([v for point in found.points for v in point.prompt] + [0.0], start=LEFT, end=RIGHT)
    y = _axis([v for point in found.points for v in point.style], start=BOTTOM, end=TOP)
    marks = tuple(
        Mark(
            point=point,
            x=x.at(point.prompt[0]),
            y=y.at(point.style[0]),
            left=x.at(point.prompt[1]),
            right=x.at(point.prompt[2]),
            upper=y.at(point.style[2]),
            lower=y.at(point.style[1]),
        )
        for point in found.points
    )
    best = sorted({(mark.x, mark.y) for mark in marks if mark.point.unbeaten})
    return ParetoChart(marks, _front(best), x.ticks(), y.ticks(), zero=x.at(0.0))


def _place(several: SeveralRuns, run: OneRun, style: Comparison | None) -> tuple[Spread, Spread] | str:
    prompt = _compared(run, *PROMPT_MEASURE)
    following = None if prompt is None else _read(several, prompt)
    learned = None if style is None else _read(several, style)
    if following is None:
        return "prompt following was not compared with the control"
    return "style was not measured" if learned is None else (following, learned)


def _read(several: SeveralRuns, comparison: Comparison) -> Spread | None:
    spread: Spread = (comparison.estimate, comparison.low, comparison.high)
    if not several.one_suite:
        mean = several.shared_mean(comparison)
        if mean is None:
            return None
        spread = (mean, mean, mean)
    if comparison.metric != NEARNESS:
        return spread
    estimate, low, high = spread
    return -estimate, -high, -low


def _compared(run: OneRun, metric: str, reference: str) -> Comparison | None:
    """The pooled comparison of the candidate in a metric."""
    wanted = (metric, reference, None, Arm.CANDIDATE)
    found = run.results.comparisons
    return next((k for k in found if (k.metric, k.reference, k.family, k.candidate_arm) == wanted), None)


def _unbeaten(own: tuple[Spread, Spread], places: Iterable[tuple[Spread, Spread]]) -> bool:
    prompt, style = own[0][0], own[1][0]
    others = ((other[0][0], other[1][0]) for other in places)
    return not any(p >= prompt and s >= style and (p, s) != (prompt, style) for p, s in others)


def _axis(values: Sequence[float], *, start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = (high - low or 0.1) * _ROOM
    return Scale(low - room, high + room, start, end)


def _front(points: Sequence[tuple[float, float]]) -> str:
    """A line along unbeaten points from left to right; between two of them it keeps to what both reach."""
    if len(points) < 2:
        return ""
    turns = "".join(f"V{lower}H{right}" for _, (right, lower) in pairwise(points))
    return f"M{points[0][0]} {points[0][1]}{turns}"
