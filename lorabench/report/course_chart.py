"""Where the marks of a course's charts lie: pure geometry, in drawing units. The templates only draw it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from lorabench.report.course_view import (
    GuardPoint,
    GuardView,
    LossCourse,
    LossFinding,
    SignalPoint,
    SignalView,
    StylePoint,
)
from lorabench.report.notation import MINUS, number

WIDTH: Final = 400.0
LEFT: Final = 46.0
RIGHT: Final = 390.0
APART: Final = 5.0
"""A confirmation stands at most so far right of its step, its screen as far left."""
_MOST_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to places along an axis."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value, rounded to hundredths of a unit."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def ticks(self, *, whole: bool = False, most: int = _MOST_TICKS) -> tuple[Tick, ...]:
        """Round values within the axis."""
        step = round_step((self.high - self.low) / most)
        step = max(step, 1.0) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        return tuple(Tick(self.at(v), tick_text(v, step)) for v in values)


@dataclass(frozen=True, slots=True)
class Frame:
    """What all charts of a course have in common."""

    height: float
    top: float
    bottom: float
    x: Scale
    y: Scale

    @property
    def x_ticks(self) -> tuple[Tick, ...]:
        """Along the training steps."""
        return self.x.ticks(whole=True, most=6)

    @property
    def y_ticks(self) -> tuple[Tick, ...]:
        """Along the values."""
        return self.y.ticks()


@dataclass(frozen=True, slots=True)
class GuardMark:
    """One reading, placed."""

    point: GuardPoint
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GuardChart:
    """Harm in margins by training step; up is worse."""

    frame: Frame
    marks: tuple[GuardMark, ...]
    margin: float
    zero: float
    path: str
    """Through the last look of each step."""
    icon: float
    """Size of the marks above the plot."""
    crowded: bool
    """No room for two of them side by side: of alarm and confirmation only the graver is drawn."""
    onset: tuple[float, float] | None
    """From the last judged step that was not beyond the margin to the first that stayed there."""


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by a line, with their standard errors."""

    path: str
    places: tuple[tuple[SignalPoint, float, float, float, float], ...]
    """Point, x, y, y of one standard error above, and below."""


@dataclass(frozen=True, slots=True)
class SignalChart:
    """One signal by training step."""

    frame: Frame
    line: Line
    control: Line
    strata: tuple[Line, ...]
    labels: tuple[tuple[float, int], ...]
    """Height of the label of each stratum at its right end, and its number from 1."""


@dataclass(frozen=True, slots=True)
class LossChart:
    """The training's own loss, block by block, with findings."""

    frame: Frame
    path: str
    places: tuple[tuple[float, float], ...]
    findings: tuple[tuple[float, LossFinding], ...]


@dataclass(frozen=True, slots=True)
class StyleChart:
    """Style against prompt following; up is more style, left is better prompt following."""

    frame: Frame
    places: tuple[tuple[StylePoint, float, float, float, float], ...]
    margin: float
    path: str
    """Through the checkpoints in the order of training."""


def round_step(raw: float) -> float:
    """The next of 1, 2, 5 times a power of ten.

    >>> round_step(0.3), round_step(7.0), round_step(1.0)
    (0.5, 10.0, 1.0)
    """
    power = 10.0 ** math.floor(math.log10(raw))
    return next((factor * power for factor in (1.0, 2.0, 5.0) if raw <= factor * power * (1 + 1e-9)), 10.0 * power)


def tick_text(value: float, step: float) -> str:
    """A tick's number, with as many decimals as its axis needs.

    >>> tick_text(6.0, 2.0), tick_text(-0.05, 0.05), tick_text(2000.0, 1000.0), tick_text(2e-5, 1e-5)
    ('6', '−0.05', '2,000', '2.0e-05')
    """
    if step < 0.0005:
        return number(value)
    text = f"{abs(value):,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) else text


def step_scale(steps: Iterable[int], *, start: float = LEFT, end: float = RIGHT) -> Scale:
    """An axis of training steps that begins at 0 and leaves half a step of room at its end."""
    last = max(steps, default=0)
    return Scale(0.0, max(last * 1.04, 1.0), start, end)


def draw_guard(guard: GuardView, *, steps: Sequence[int]) -> GuardChart:
    """Place a guard's readings on an axis in margins that holds zero, the margin and every interval.

    Args:
        guard: The readings.
        steps: All judged steps, so that all charts of a course share their axis.
    """
    values = [v for point in guard.points for v in (point.low, point.high, point.harm)]
    frame = _frame([*values, 0.0, 1.2], steps=steps, height=236.0, top=46.0)
    x, y = frame.x, frame.y
    twice = {point.place_in_course for point in guard.points if point.look == "confirmation"}
    gap = min((x.at(b) - x.at(a) for a, b in pairwise(sorted(set(steps)))), default=WIDTH)
    apart = min(APART, gap / 4)
    marks = tuple(
        GuardMark(
            point=point,
            x=_shifted(x.at(point.training_step), point, twice, apart=apart),
            y=y.at(point.harm),
            low=y.at(point.low),
            high=y.at(point.high),
        )
        for point in guard.points
    )
    last = {mark.point.place_in_course: (mark.x, mark.y) for mark in marks}
    onset = guard.onset
    return GuardChart(
        frame=frame,
        marks=marks,
        margin=y.at(1.0),
        zero=y.at(0.0),
        path=_path(last.values()),
        icon=round(min(12.0, max(6.0, 0.95 * gap)), 2),
        crowded=gap < 26.0,
        onset=None if onset is None else (x.at(onset.after or 0), x.at(onset.training_step)),
    )


def draw_signal(signal: SignalView, *, steps: Sequence[int], height: float = 150.0) -> SignalChart:
    """Place a signal, its strata and the control's values on one axis."""
    shown = [*signal.points, *signal.control, *(point for line in signal.strata for point in line)]
    ends = [point.value + sign * (point.standard_error or 0.0) for point in shown for sign in (-1, 1)]
    frame = _frame(ends, steps=steps, height=height, top=12.0, end=RIGHT - 18 if signal.strata else RIGHT)
    strata = tuple(_line(points, frame) for points in signal.strata)
    heights = [(line.places[-1][2], index) for index, line in enumerate(strata, start=1) if line.places]
    return SignalChart(
        frame=frame,
        line=_line(signal.points, frame),
        control=_line(signal.control, frame),
        strata=strata,
        labels=_spread(heights, gap=11.0, low=frame.top, high=frame.bottom),
    )


def draw_loss(loss: LossCourse, findings: Sequence[LossFinding], *, steps: Sequence[int]) -> LossChart:
    """Place the loss's blocks at the middle of their steps, and findings at theirs."""
    ends = [*steps, *(block.last for block in loss.levels), *(one.training_step for one in findings)]
    frame = _frame([block.level for block in loss.levels], steps=ends, height=190.0, top=30.0)
    middles = [((block.first + block.last) / 2, block.level) for block in loss.levels]
    places = tuple((frame.x.at(step), frame.y.at(level)) for step, level in middles)
    return LossChart(frame, _path(places), places, tuple((frame.x.at(one.training_step), one) for one in findings))


def draw_style(points: Sequence[StylePoint]) -> StyleChart:
    """Place checkpoints between prompt harm in margins (along) and style (up)."""
    harms = [*(point.harm for point in points), 0.0, 1.1]
    styles = [point.style + sign * point.standard_error for point in points for sign in (-1, 1)]
    height, top = 250.0, 16.0
    bottom = height - 24.0
    x, y = _padded(harms, LEFT, RIGHT), _padded(styles, bottom, top)
    places = tuple(
        (p, x.at(p.harm), y.at(p.style), y.at(p.style + p.standard_error), y.at(p.style - p.standard_error))
        for p in points
    )
    frame = Frame(height, top, bottom, x, y)
    return StyleChart(frame, places, x.at(1.0), _path((px, py) for _, px, py, _, _ in places))


def _frame(values: Sequence[float], *, steps: Iterable[int], height: float, top: float, end: float = RIGHT) -> Frame:
    bottom = height - 24.0
    return Frame(height, top, bottom, step_scale(steps, end=end), _padded(values, bottom, top))


def _padded(values: Sequence[float], start: float, end: float) -> Scale:
    """An axis that holds all values with a little room; never of no length."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    room = 0.06 * (high - low)
    return Scale(low - room, high + room, start, end)


def _shifted(x: float, point: GuardPoint, twice: set[int], *, apart: float) -> float:
    if point.place_in_course not in twice:
        return x
    return round(x + (apart if point.look == "confirmation" else -apart), 2)


def _line(points: Sequence[SignalPoint], frame: Frame) -> Line:
    places = []
    for point in points:
        error = point.standard_error or 0.0
        y, above, below = (frame.y.at(value) for value in (point.value, point.value + error, point.value - error))
        places.append((point, frame.x.at(point.training_step), y, above, below))
    return Line(_path((x, y) for _, x, y, _, _ in places), tuple(places))


def _path(places: Iterable[tuple[float, float]]) -> str:
    """A polyline as an SVG path; empty with fewer than two places."""
    found = [f"{x:g} {y:g}" for x, y in places]
    return "M" + "L".join(found) if len(found) > 1 else ""


def _spread(
    heights: Sequence[tuple[float, int]], *, gap: float, low: float, high: float
) -> tuple[tuple[float, int], ...]:
    """Labels moved apart by at least `gap`, in their order, within the plot where there is room."""
    placed: list[tuple[float, int]] = []
    for height, index in sorted(heights):
        placed.append((max(height, placed[-1][0] + gap) if placed else max(height, low), index))
    over = max(0.0, placed[-1][0] - high) if placed else 0.0
    for position in range(len(placed) - 1, -1, -1):
        height, index = placed[position]
        limit = placed[position + 1][0] - gap if position + 1 < len(placed) else high
        placed[position] = (round(min(height, limit) if over else height, 2), index)
    return tuple(placed)
