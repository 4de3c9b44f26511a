"""A sweep as a page shows it: charts as pure geometry, strips of pictures, findings in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.comparison import Outcome
from lorabench.records.sweep import STYLE, Curve, Estimated, GuidanceFindings, Shot, Side, StrengthFindings, Sweep
from lorabench.report.course_chart import Scale, Tick
from lorabench.report.notation import DASH, MINUS, counted, metric_words, number

WIDTH: Final = 400.0
HEIGHT: Final = 190.0
LEFT: Final = 46.0
RIGHT: Final = 386.0
TOP: Final = 14.0
BOTTOM: Final = 160.0
NAME_HEIGHT: Final = 12.0
"""Of a level's name, in drawing units."""
RowsOf = Callable[[str, int], tuple["Row", ...]]
"""From a case and a seed to its lines of pictures."""
N_STRIPS: Final = 4
"""Cases shown as strips: the panel's first of each family, in turn."""
SIDE_WORDS: Final = {
    Side.BASE: "base",
    Side.CONTROL: "control",
    Side.UNTOUCHED: "base, trigger",
    Side.CANDIDATE: "candidate",
    Side.NEUTRAL: "no trigger",
    Side.PLACEBO: "placebo",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """One value with its interval."""

    at: str
    x: float
    y: float
    above: float
    below: float
    words: str


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of a chart."""

    name: str
    kind: str
    """`main`, `control` or `fitted`."""
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with its name."""

    y: float
    words: str
    text_y: float
    """Where the name stands: above the line, below it where another name is in the way."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A curve along strength or guidance."""

    name: str
    words: str
    unit: str
    axis: str
    sentence: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    traces: tuple[Trace, ...]
    levels: tuple[Level, ...]
    window: tuple[float, float] | None
    """Left and right end of the usable window, in drawing units."""
    onset: float | None
    """Where damage sets in, in drawing units."""
    table: Table
    """The same values in words."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a chart shows, value by value."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Place on the axis and one cell per head; a dash where a trace has no value there."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a strip; no digest where none was made."""

    label: str
    tone: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of pictures."""

    words: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """One case along an axis."""

    case: str
    family: str
    prompt: str
    seed: int
    rows: tuple[Row, ...]


def strength_charts(sweep: Sweep) -> tuple[Chart, ...]:
    """Curves along strength: the style first."""
    found = sweep.strength
    window = None if found is None else found.window
    curves = [curve for curve in sweep.curves if curve.axis == "strength"]
    return tuple(_chart([curve], window=window) for curve in sorted(curves, key=lambda one: one.name != STYLE))


def guidance_charts(sweep: Sweep) -> tuple[Chart, ...]:
    """Curves along guidance, candidate and control in one."""
    names = dict.fromkeys(curve.name for curve in sweep.curves if curve.axis == "guidance")
    return tuple(
        _chart([curve for curve in sweep.curves if curve.axis == "guidance" and curve.name == name], window=None)
        for name in names
    )


def strength_strips(sweep: Sweep) -> tuple[Strip, ...]:
    """Each shown case at every strength, the control first."""
    found = sweep.strength
    if found is None:
        return ()
    tones = {point.strength: _tone(point.usable) for point in found.points}
    strengths = (0.0, *tones)
    return _strips(
        sweep,
        lambda case, seed: (
            Row(
                "candidate",
                (
                    _frame(sweep, Side.CONTROL, case, seed, label="control"),
                    *(
                        _frame(sweep, Side.CANDIDATE, case, seed, strength=at, label=f"{at:g}", tone=tones.get(at, ""))
                        for at in strengths
                    ),
                ),
            ),
        ),
    )


def guidance_strips(sweep: Sweep) -> tuple[Strip, ...]:
    """Each shown case at every guidance: candidate above, control below."""
    if sweep.guidance is None:
        return ()
    working = _working(sweep, 1.0)
    grid = sorted(set(sweep.panel.guidances))
    return _strips(
        sweep,
        lambda case, seed: tuple(
            Row(
                SIDE_WORDS[side],
                tuple(
                    _frame(
                        sweep,
                        side,
                        case,
                        seed,
                        strength=working if side is Side.CANDIDATE else 0.0,
                        guidance=at,
                        label=f"{at:g}",
                    )
                    for at in grid
                ),
            )
            for side in (Side.CANDIDATE, Side.CONTROL)
        ),
    )


def trigger_strips(sweep: Sweep) -> tuple[Strip, ...]:
    """Each shown case with the trigger, with the placebo and without either."""
    if sweep.trigger is None or not any(shot.side is Side.NEUTRAL for shot in sweep.shots):
        return ()
    working = _working(sweep, 1.0)
    sides = ((Side.CANDIDATE, "trigger"), (Side.PLACEBO, "placebo"), (Side.NEUTRAL, "none"))
    return _strips(
        sweep,
        lambda case, seed: (
            Row(
                "candidate",
                (
                    *(_frame(sweep, side, case, seed, strength=working, label=label) for side, label in sides),
                    _frame(sweep, Side.CONTROL, case, seed, label="control"),
                ),
            ),
        ),
    )


def shown_in(strips: Iterable[Strip]) -> list[str]:
    """SHA-256 of each picture, as often as it stands there."""
    frames = [frame for strip in strips for row in strip.rows for frame in row.frames]
    return [frame.sha256 for frame in frames if frame.sha256 is not None]


def strength_sentences(found: StrengthFindings) -> tuple[str, ...]:
    """What the strength axis says, in words."""
    told = []
    if found.zero_is_base is not None:
        told.append(
            "At strength 0 every picture is the base's to the bit."
            if found.zero_is_base
            else "At strength 0 pictures differ from the base's: the adapter is not purely additive, or did not go off."
        )
    if found.window is not None:
        low, high = found.window
        told.append(f"Usable from strength {low:g} to {high:g}." if high > low else f"Usable at strength {low:g} only.")
    elif any(point.position is not None for point in found.points):
        told.append("No strength of the grid is usable.")
    if found.low_share is not None and found.low_strength is not None:
        told.append(f"At {found.low_strength:g}, {range_text(found.low_share)} of the gain is there.")
    if found.half_gain_strength is not None:
        told.append(f"Half of it is there at {found.half_gain_strength:.2f}.")
    return tuple(told)


def guidance_sentences(found: GuidanceFindings) -> tuple[str, ...]:
    """What the guidance axis says, in words."""
    told = []
    if found.response is not None and found.control_response is not None:
        told.append(
            f"Between neighbouring values of {found.dial} pictures move by {number(found.response.value)} "
            f"({found.distance}); the base's by {number(found.control_response.value)}."
        )
    if found.collapse is not None:
        told.append(f"Share of the answer that is lost: {range_text(found.collapse)}.")
    if found.anatomy is not None:
        told.append(
            f"Figures lose {range_text(found.anatomy)} more at low guidance than at the usual one, "
            f"on {counted(found.anatomy.n_cases, 'case')}."
        )
    return tuple(told)


def range_text(one: Estimated | None) -> str:
    """`0.71 (0.60–0.82)`; a dash where there is none."""
    if one is None:
        return "–"
    low, high = (f"{value:.2f}".replace("-", MINUS) for value in (one.low, one.high))
    return f"{one.value:.2f} ({low} to {high})".replace("-", MINUS)


def _working(sweep: Sweep, otherwise: float) -> float:
    """The candidate's scale: that of the sides made at it only."""
    if sweep.strength is not None:
        return sweep.strength.working
    scales = [shot.strength for shot in sweep.shots if shot.side is Side.CANDIDATE]
    return max(scales, default=otherwise)


def _strips(sweep: Sweep, rows_of: RowsOf) -> tuple[Strip, ...]:
    return tuple(
        Strip(case.id, case.family, case.prompt, sweep.seeds[0], rows_of(case.id, sweep.seeds[0]))
        for case in sweep.cases[:N_STRIPS]
    )


def _frame(
    sweep: Sweep,
    side: Side,
    case: str,
    seed: int,
    *,
    label: str,
    strength: float = 0.0,
    guidance: float | None = None,
    tone: str = "",
) -> Frame:
    value = _usual(sweep) if guidance is None else guidance
    wanted = (side, case, seed, strength, value)
    found = next((shot for shot in sweep.shots if _key(shot) == wanted), None)
    return Frame(label, tone, None if found is None else found.sha256)


def _key(shot: Shot) -> tuple[Side, str, int, float, float | None]:
    return shot.side, shot.case, shot.seed, shot.strength, shot.guidance


def _usual(sweep: Sweep) -> float | None:
    settings = sweep.settings
    dial = sweep.panel.dial
    if dial == "auto":
        dial = "guidance_scale" if settings.true_cfg_scale is None else "true_cfg_scale"
    value = getattr(settings, dial)
    return None if value is None else float(value)


def _tone(outcome: Outcome) -> str:
    return outcome.value.lower()


def _chart(curves: Sequence[Curve], *, window: tuple[float, float] | None) -> Chart:
    first = curves[0]
    x, y = _scales(curves)
    levels = [(first.control, "control"), (first.training, "training")]
    traces = [_trace(curve, x, y) for curve in curves]
    table = _table(traces, levels)
    if first.fitted:
        places = [(x.at(p.at), y.at(value)) for p, value in zip(first.points, first.fitted, strict=True)]
        traces.append(Trace("isotonic fit", "fitted", _path(places), ()))
    low, high = min(p.at for p in first.points), max(p.at for p in first.points)
    return Chart(
        name=first.name,
        words=metric_words(first.name),
        unit=first.unit,
        axis=first.axis,
        sentence=_sentence(first),
        x_ticks=tuple(Tick(x.at(point.at), f"{point.at:g}") for point in first.points),
        y_ticks=y.ticks(),
        traces=tuple(traces),
        levels=_levels([(y.at(value), words) for value, words in levels if value is not None]),
        window=None if window is None else (x.at(max(window[0], low)), x.at(min(window[1], high))),
        onset=None if first.onset is None else x.at(first.onset),
        table=table,
    )


def _levels(found: Sequence[tuple[float, str]]) -> tuple[Level, ...]:
    """Names above their lines; where two would cover each other, the lower line has its name below it."""
    crowded = len(found) > 1 and abs(found[0][0] - found[1][0]) < NAME_HEIGHT
    lowest = max(found, default=None)
    return tuple(
        Level(y, words, y + NAME_HEIGHT - 2 if crowded and (y, words) == lowest else y - 3) for y, words in found
    )


def _table(traces: Sequence[Trace], levels: Sequence[tuple[float | None, str]]) -> Table:
    """A column per trace and per level; levels hold everywhere."""
    lines = [(value, words) for value, words in levels if value is not None]
    places = sorted({float(mark.at) for trace in traces for mark in trace.marks})
    told = [{float(mark.at): mark.words for mark in trace.marks} for trace in traces]
    return Table(
        heads=(*(trace.name for trace in traces), *(f"{words} level" for _, words in lines)),
        rows=tuple(
            (f"{at:g}", (*(one.get(at, DASH) for one in told), *(number(value) for value, _ in lines))) for at in places
        ),
    )


def _scales(curves: Sequence[Curve]) -> tuple[Scale, Scale]:
    points = [point for curve in curves for point in curve.points]
    ends = [end for point in points for end in (point.low, point.high)]
    ends += [level for curve in curves for level in (curve.control, curve.training) if level is not None]
    low, high = min(ends), max(ends)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    room = 0.06 * (high - low)
    places = [point.at for point in points]
    width = (max(places) - min(places)) or 1.0
    return (
        Scale(min(places) - 0.03 * width, max(places) + 0.03 * width, LEFT, RIGHT),
        Scale(low - room, high + room, BOTTOM, TOP),
    )


def _trace(curve: Curve, x: Scale, y: Scale) -> Trace:
    marks = tuple(
        Mark(
            at=f"{point.at:g}",
            x=x.at(point.at),
            y=y.at(point.value),
            above=y.at(point.high),
            below=y.at(point.low),
            words=f"{number(point.value)}, {number(point.low)} to {number(point.high)}",
        )
        for point in curve.points
    )
    kind = "control" if curve.side is Side.CONTROL else "main"
    return Trace(SIDE_WORDS[curve.side], kind, _path([(mark.x, mark.y) for mark in marks]), marks)


def _sentence(curve: Curve) -> str:
    told = []
    if curve.onset is not None:
        told.append(f"Damage is shown from {curve.onset:g} on.")
    elif curve.suspected is not None:
        told.append(f"Damage cannot be ruled out from {curve.suspected:g} on.")
    if curve.slope is not None:
        slope, low, high = (number(round(end, 9)) for end in (curve.slope.value, curve.slope.low, curve.slope.high))
        told.append(f"Slope per factor e of guidance: {slope} ({low} to {high}).")
    return " ".join(told)


def _path(places: Iterable[tuple[float, float]]) -> str:
    found = [f"{x:g} {y:g}" for x, y in places]
    return "M" + "L".join(found) if len(found) > 1 else ""
