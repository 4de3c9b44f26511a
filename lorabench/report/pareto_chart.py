"""Style against prompt following along the strengths of one candidate: what cannot be had better in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.plan import Arm
from lorabench.records.sweep import STYLE, Curve, CurvePoint, Sweep
from lorabench.report.case_view import CaseReader
from lorabench.report.course_chart import Scale, Tick

PROMPT: Final = "prompt_following_score"
RUN_STYLE: Final = "style_similarity"
"""What style is read with where a run itself has several scales."""
LEFT: Final = 46.0
RIGHT: Final = 386.0
TOP: Final = 14.0
BOTTOM: Final = 226.0


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One strength."""

    strength: float
    prompt: CurvePoint
    style: CurvePoint
    unbeaten: bool
    """No other strength has more of one and no less of the other."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a strength is drawn, with the ends of its intervals."""

    tradeoff: Tradeoff
    x: float
    y: float
    left: float
    right: float
    above: float
    below: float


@dataclass(frozen=True, slots=True)
class ParetoChart:
    """The strengths of a candidate, from left (prompts lost) to right, from below (no style) upwards."""

    style_name: str
    with_intervals: bool
    places: tuple[Place, ...]
    """By strength."""
    front: str
    """Path through those that are unbeaten."""
    trail: str
    """Path along rising strength."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    n_cases: int | None

    @property
    def unbeaten(self) -> tuple[float, ...]:
        """Strengths that no other beats."""
        return tuple(place.tradeoff.strength for place in self.places if place.tradeoff.unbeaten)


def sweep_pareto(sweep: Sweep) -> ParetoChart | None:
    """The strengths of a sweep; None where style or prompt following were read at fewer than two of them."""
    curves = {curve.name: curve for curve in sweep.curves if curve.axis == "strength"}
    if STYLE not in curves or PROMPT not in curves:
        return None
    return _chart(STYLE, _points(curves[STYLE]), _points(curves[PROMPT]), n_cases=len(sweep.cases), intervals=True)


def run_pareto(reader: CaseReader) -> ParetoChart | None:
    """The scales of a run that was made at several; None with one only, or where one of the two was not measured."""
    means: dict[str, dict[float, CurvePoint]] = {}
    for name in (RUN_STYLE, PROMPT):
        means[name] = {}
        for column in reader.columns:
            values = reader.values_in(name, column)
            if column.arm is Arm.CANDIDATE and values:
                mean = sum(values) / len(values)
                means[name][column.scale] = CurvePoint(at=column.scale, value=mean, low=mean, high=mean)
    return _chart(RUN_STYLE, means[RUN_STYLE], means[PROMPT], n_cases=None, intervals=False)


def _points(curve: Curve) -> Mapping[float, CurvePoint]:
    return {point.at: point for point in curve.points}


def tradeoffs(style: Mapping[float, CurvePoint], prompt: Mapping[float, CurvePoint]) -> tuple[Tradeoff, ...]:
    """Strengths at which both were read, ascending; higher is better in both.

    Args:
        style: By strength.
        prompt: By strength.
    """
    shared = sorted(set(style) & set(prompt))
    values = [(prompt[at].value, style[at].value) for at in shared]
    return tuple(
        Tradeoff(at, prompt[at], style[at], unbeaten=not any(_beats(other, one) for other in values))
        for at, one in zip(shared, values, strict=True)
    )


def _beats(other: tuple[float, float], one: tuple[float, float]) -> bool:
    return other != one and other[0] >= one[0] and other[1] >= one[1]


def _chart(
    name: str,
    style: Mapping[float, CurvePoint],
    prompt: Mapping[float, CurvePoint],
    *,
    n_cases: int | None,
    intervals: bool,
) -> ParetoChart | None:
    found = tradeoffs(style, prompt)
    if len(found) < 2:
        return None
    x = _axis([end for one in found for end in (one.prompt.low, one.prompt.high)], LEFT, RIGHT)
    y = _axis([end for one in found for end in (one.style.low, one.style.high)], BOTTOM, TOP)
    places = tuple(_place(one, x, y) for one in found)
    best = sorted((place.x, place.y) for place in places if place.tradeoff.unbeaten)
    trail = [(place.x, place.y) for place in places]
    return ParetoChart(name, intervals, places, _path(best), _path(trail), x.ticks(most=8), y.ticks(most=8), n_cases)


def _place(one: Tradeoff, x: Scale, y: Scale) -> Place:
    p, s = one.prompt, one.style
    return Place(one, x.at(p.value), y.at(s.value), x.at(p.low), x.at(p.high), y.at(s.high), y.at(s.low))


def _axis(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * (abs(low) or 1.0)
    return Scale(low - room, high + room, start, end)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places) if len(places) > 1 else ""
