"""What the course of a training says: when harm set in, whether it grows, whether any checkpoint was good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from lorabench.records.course import Course, Evaluation, GuardReading, Reason
from lorabench.records.diagnosis import Fact
from lorabench.records.step_times import StepTimeFinding, StepTimeVerdict

COURSE_FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gap": "how much more the loss fell on training pictures than on held-out ones, at the end",
        "gap_rise": "rise of that gap from its least to its last value",
        "held_out_rise": "rise of the held-out loss from its least to its last value, as a share of the base's",
        "first_harm": "worst guard at the first checkpoint after step 0, in margins",
        "last_harm": "worst guard at the last checkpoint, in margins",
        "harm_rise": "rise of the worst guard from its least to its last value, in margins",
        "within_share": "checkpoints with every guard within its margin",
        "best_share": "step of the best checkpoint over the last step",
        "style": "style position at the last checkpoint: 0 the base, 1 the training pictures",
        "style_rise": "rise of the style position over the last third of the checkpoints",
        "drift": "how far the network moved on unrelated prompts",
        "last_reason": "reason of the last decision",
        "not_finite": "yes where loss, gradients or weights were not finite",
        "step_time": "usual, slow or slowing: time of a training step beside what others measured, and beside its own",
        "step_time_ratio": "time of a training step over the slowest usual one",
        "step_time_rise": "time of a training step after a lasting rise over that before",
    }
)
"""Facts `course.<name>`."""

_BROKEN_NUMBERS: Final = frozenset({Reason.NOT_FINITE})


def step_time_facts(found: StepTimeFinding) -> Iterator[Fact]:
    """Facts of what was said about a training's step time."""
    if found.verdict is not StepTimeVerdict.UNKNOWN:
        causes = [one.sentence for one in found.causes if one.seen]
        yield _fact("step_time", found.verdict.value, " ".join([found.sentence, *causes]))
    if found.ratio is not None:
        yield _fact("step_time_ratio", found.ratio, f"steps take {found.ratio:.1f} times the slowest usual time")
    if found.change is not None:
        change = found.change
        said = f"steps took {change.before:.3g} s before step {change.training_step}, {change.after:.3g} s from there"
        yield _fact("step_time_rise", change.ratio, said)


def course_facts(course: Course) -> Iterator[Fact]:
    """Facts of a course; one that it does not hold is left out."""
    judged = [one for one in course.evaluations if one.training_step > 0]
    if not course.evaluations:
        return
    yield from _losses(judged)
    yield from _harms(judged)
    yield from _choice(course, judged)
    yield from _style(judged)
    last = course.evaluations[-1].decision
    yield _fact("last_reason", last.reason.value, f"last decision, step {last.training_step}: {last.sentence}")
    broken = [one.training_step for one in course.evaluations if one.decision.reason in _BROKEN_NUMBERS]
    said = f"numbers were not finite at step {broken[0]}" if broken else "all numbers of the training were finite"
    yield _fact("not_finite", "yes" if broken else "no", said)


def _losses(judged: Sequence[Evaluation]) -> Iterator[Fact]:
    gaps = _series(judged, "loss_gap")
    if gaps:
        yield _fact("gap", gaps[-1][1], f"loss gap {gaps[-1][1]:+.3g} at step {gaps[-1][0]}")
    if len(gaps) > 1:
        yield _rise("gap_rise", "loss gap", gaps)
    held_out = _series(judged, "loss_held_out")
    if len(held_out) > 1:
        yield _rise("held_out_rise", "held-out loss", held_out)
    drift = _series(judged, "drift")
    if drift:
        yield _fact("drift", drift[-1][1], f"drift {drift[-1][1]:.3g} at step {drift[-1][0]}")


def _harms(judged: Sequence[Evaluation]) -> Iterator[Fact]:
    worst = [(one.training_step, found) for one in judged if (found := _worst(one)) is not None]
    if not worst:
        return
    (first_step, first), (last_step, last) = worst[0], worst[-1]
    yield _fact("first_harm", _margins(first), f"{_named(first)} at the first checkpoint, step {first_step}")
    yield _fact("last_harm", _margins(last), f"{_named(last)} at the last checkpoint, step {last_step}")
    within = sum(_margins(found) <= 1 for _, found in worst)
    said = f"{within} of {len(worst)} checkpoints with every guard within its margin"
    yield _fact("within_share", within / len(worst), said)
    if len(worst) > 1:
        least_step, least = min(worst, key=lambda pair: _margins(pair[1]))
        rise = _margins(last) - _margins(least)
        said = f"worst guard {_margins(least):.2f} margins at step {least_step}, {_margins(last):.2f} at {last_step}"
        yield _fact("harm_rise", rise, said)


def _choice(course: Course, judged: Sequence[Evaluation]) -> Iterator[Fact]:
    if course.best is not None and judged:
        last = judged[-1].training_step
        said = f"best checkpoint at step {course.best} of {last}"
        yield _fact("best_share", course.best / last, said)


def _style(judged: Sequence[Evaluation]) -> Iterator[Fact]:
    style = _series(judged, "style")
    if style:
        yield _fact("style", style[-1][1], f"style position {style[-1][1]:.2f} at step {style[-1][0]}")
    if len(style) >= 3:
        before = style[-(len(style) // 3) - 1]
        rise = style[-1][1] - before[1]
        said = f"style position {before[1]:.2f} at step {before[0]}, {style[-1][1]:.2f} at {style[-1][0]}"
        yield _fact("style_rise", rise, said)


def _series(judged: Sequence[Evaluation], signal: str) -> list[tuple[int, float]]:
    return [(one.training_step, one.signals[signal]) for one in judged if signal in one.signals]


def _rise(name: str, words: str, series: Sequence[tuple[int, float]]) -> Fact:
    least, last = min(series, key=lambda pair: pair[1]), series[-1]
    said = f"{words} {least[1]:+.3g} at step {least[0]}, {last[1]:+.3g} at step {last[0]}"
    return _fact(name, last[1] - least[1], said)


def _worst(one: Evaluation) -> GuardReading | None:
    """The guard furthest beyond its margin; of a confirmed checkpoint on the fresh seeds."""
    fresh = {reading.gate: reading for reading in one.confirmation}
    readings = [fresh.get(reading.gate, reading) for reading in one.screen]
    return max(readings, key=_margins, default=None)


def _margins(reading: GuardReading) -> float:
    return reading.harm / reading.margin


def _named(reading: GuardReading) -> str:
    return f"{reading.gate} {_margins(reading):.2f} margins"


def _fact(name: str, value: float | str, quote: str) -> Fact:
    return Fact(name=f"course.{name}", value=value, quote=quote)
