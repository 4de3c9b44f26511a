"""A course of training as a reader sees it: how it stands, each guard's readings, signals, gaps and cost."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal

from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, Reason
from lorabench.records.measurement import Metric
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.notation import counted, metric_words

Look = Literal["screen", "confirmation"]
Place = Literal["within", "unclear", "beyond"]
Tone = Literal["pass", "inconclusive", "fail", "unmeasured"]
Mark = Literal["continue", "alarm", "reject", "stop", "unmeasured"]

EVERYTHING: Final = "everything"
"""Key under which an evaluation that failed as a whole says why."""
STYLE: Final = "style"
_ERROR: Final = "_se"
_STRATUM: Final = re.compile(r"^(?P<name>.+)_s(?P<number>\d{1,3})$")
_BEGINNINGS: Final = frozenset({"opened", "watching"})
_GAP_WORDS: Final = {
    "postponed": ("checkpoint", "it was written while the budget of evaluation time was spent, and was not judged"),
    "gone": ("checkpoint", "it was deleted before it could be judged"),
    "not_settled": ("finalists", "they could not be judged again"),
}
"""Kind of an event to what has no number because of it, and why where the event does not say."""
MARK_WORDS: Final[dict[Mark, str]] = {
    "continue": "continue",
    "alarm": "alarm",
    "reject": "reject",
    "stop": "stop",
    "unmeasured": "not measured",
}


@dataclass(frozen=True, slots=True)
class Best:
    """Which checkpoint to ship and why, or what stood in the way of every one."""

    training_step: int | None
    sentence: str
    obstacle: str | None = None
    """Guard in the way of the nearest miss."""
    nearest_miss: int | None = None
    passing: tuple[int, ...] = ()
    equivalents: tuple[int, ...] = ()
    finalists: tuple[int, ...] = ()
    pareto: tuple[int, ...] = ()
    """Steps that no other beats in both style and prompt following."""


@dataclass(frozen=True, slots=True)
class LossLevel:
    """Consecutive optimiser steps, as one number."""

    first: int
    last: int
    level: float


@dataclass(frozen=True, slots=True)
class LossFinding:
    """Something that was seen in the loss, at a step."""

    kind: str
    training_step: int
    sentence: str


@dataclass(frozen=True, slots=True)
class LossCourse:
    """The training's own loss."""

    levels: tuple[LossLevel, ...]
    sentence: str
    """Where it is going, in words."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the training stands, for somebody who reads one line."""

    word: str
    headline: str
    """In a few words: where, and because of what."""
    sentence: str
    """All of it, as it was decided."""
    tone: Tone
    icon: str
    training_step: int | None
    """Of the decision; None where nothing was judged."""


@dataclass(frozen=True, slots=True)
class GuardPoint:
    """One reading of one guard. Harm is in margins: 1 is the largest tolerated, positive is worse."""

    place_in_course: int
    """Of its evaluation, from 0: a training that was set back may judge a step twice."""
    training_step: int
    look: Look
    reading: GuardReading
    n_seeds: int
    alarmed: bool
    """The screen asked for a second look at this guard."""
    against: bool
    """The decision names this guard."""

    @property
    def harm(self) -> float:
        """In margins."""
        return self.reading.harm / self.reading.margin

    @property
    def low(self) -> float:
        """In margins."""
        return self.reading.low / self.reading.margin

    @property
    def high(self) -> float:
        """In margins."""
        return self.reading.high / self.reading.margin

    @property
    def place(self) -> Place:
        """Where the interval lies; the upper end on the margin counts as within, as in the choice of the best."""
        if self.high <= 1:
            return "within"
        return "beyond" if self.low > 1 else "unclear"


@dataclass(frozen=True, slots=True)
class Onset:
    """From which judged step on the harm lay beyond the margin, up to its confirmation."""

    training_step: int
    after: int | None
    """The judged step before, at which it did not; None where there is none."""


@dataclass(frozen=True, slots=True)
class GuardView:
    """One guard along the course."""

    gate: str
    metric: str
    margin: float
    """Of the newest reading."""
    points: tuple[GuardPoint, ...]
    missing: tuple[tuple[int, str], ...]
    """Steps at which it has no reading, and why."""
    onset: Onset | None

    @property
    def alarms(self) -> tuple[int, ...]:
        """Steps at which the screen asked for a second look."""
        return tuple(point.training_step for point in self.points if point.look == "screen" and point.alarmed)

    @property
    def confirmed(self) -> tuple[int, ...]:
        """Steps whose decision speaks against the checkpoint because of this guard."""
        return tuple(dict.fromkeys(point.training_step for point in self.points if point.against))

    @property
    def within(self) -> tuple[int, ...]:
        """Steps at which the guard is shown to be within its margin."""
        return tuple(point.training_step for point in last_looks(self.points) if point.place == "within")

    @property
    def sentence(self) -> str:
        """What the course says about this guard."""
        judged = len(last_looks(self.points))
        shown = f"Shown to be within its margin at {len(self.within)} of {counted(judged, 'checkpoint')}."
        if self.confirmed:
            found = f"Harm beyond the margin confirmed at step {_listed(self.confirmed)}. "
        elif self.alarms:
            found = f"Alarmed at step {_listed(self.alarms)}; no decision speaks against it. "
        else:
            found = "Never alarmed. "
        return found + shown


@dataclass(frozen=True, slots=True)
class SignalPoint:
    """One number of one evaluation."""

    training_step: int
    value: float
    standard_error: float | None = None


@dataclass(frozen=True, slots=True)
class SignalView:
    """One signal along the course, with its strata and what the control reads."""

    name: str
    words: str
    points: tuple[SignalPoint, ...]
    strata: tuple[tuple[SignalPoint, ...], ...] = ()
    """By stratum, low noise to high."""
    control: tuple[SignalPoint, ...] = ()
    metric: Metric | None = None

    @property
    def table(self) -> tuple[tuple[str, dict[int, SignalPoint]], ...]:
        """Rows behind the drawing: name, and training step to point."""
        rows = [(self.name, self.points)]
        rows += [(f"{self.name}_s{number}", points) for number, points in enumerate(self.strata, start=1)]
        rows += [(f"{self.name}, control", self.control)] if self.control else []
        return tuple((name, {point.training_step: point for point in points}) for name, points in rows)


@dataclass(frozen=True, slots=True)
class Signals:
    """All signals, by where they stand on the page."""

    losses: tuple[SignalView, ...]
    drift: tuple[SignalView, ...]
    style: tuple[SignalView, ...]
    others: tuple[SignalView, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something without a number, its reason, and the steps at which that holds."""

    what: str
    reason: str
    training_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What judging took."""

    total: float
    """Seconds of all evaluations."""
    longest: tuple[int, float] | None
    """Training step and seconds."""
    share: float | None
    """Of the time in which somebody was at work on the course; None where the event log does not say."""
    span: float | None
    """Seconds of that time."""
    of_training: float | None = None
    """As the monitor measured it: time of looks in shares of the time of training."""


@dataclass(frozen=True, slots=True)
class StylePoint:
    """One checkpoint between style and prompt following."""

    training_step: int
    style: float
    standard_error: float
    harm: float
    """Of the prompt guard, in margins."""
    unbeaten: bool
    mark: Mark


def mark_of(evaluation: Evaluation) -> Mark:
    """One word for what became of a checkpoint."""
    decision = evaluation.decision
    if decision.action is Action.STOP:
        return "stop"
    if decision.action is Action.REJECT:
        return "reject"
    if decision.reason is Reason.NOT_MEASURED:
        return "unmeasured"
    return "alarm" if decision.reason is Reason.ALARM else "continue"


def standing(course: Course, *, events: Sequence[Mapping[str, Any]]) -> Standing:
    """Whether the training was stopped, and why.

    Args:
        course: All evaluations.
        events: The event log, oldest first: a loss that is not finite stops a training without an evaluation.
    """
    stopped = _stopped_between(events)
    if stopped is not None:
        step, reason = int(stopped["training_step"]), str(stopped.get("reason", "")).replace("_", " ")
        sentence = str(stopped.get("sentence", ""))
        return Standing("STOPPED", f"at step {step:,} ({reason})", sentence, "fail", "stop", step)
    if not course.evaluations:
        return Standing("NOTHING JUDGED", "no checkpoint yet", "", "unmeasured", "unmeasured", None)
    newest = course.evaluations[-1].decision
    headline = f"at step {newest.training_step:,}{_because(newest)}"
    if newest.action is Action.STOP:
        return Standing("STOPPED", headline, newest.sentence, "fail", "stop", newest.training_step)
    word = "NOT STOPPED" if _ended(events) else "NOT STOPPED SO FAR"
    tone: Tone = "pass" if course.best is not None else "inconclusive"
    if newest.action is Action.REJECT:
        tone, headline = "fail", f"the newest checkpoint is rejected, {headline}"
    elif newest.reason is Reason.NOT_MEASURED:
        tone, headline = "unmeasured", f"the newest checkpoint was not measured, {headline}"
    else:
        headline = f"the newest checkpoint stands, {headline}"
    return Standing(word, headline, newest.sentence, tone, tone, newest.training_step)


def stops_before_the_end(course: Course) -> tuple[int, ...]:
    """Steps that asked to stop while the training went on."""
    return tuple(one.training_step for one in course.evaluations[:-1] if one.decision.action is Action.STOP)


def row_ids(course: Course) -> tuple[str, ...]:
    """An anchor per evaluation. The newest evaluation of a step has `step-<step>`, to which all links point."""
    newest = {one.training_step: index for index, one in enumerate(course.evaluations)}
    return tuple(
        f"step-{one.training_step}" if newest[one.training_step] == index else f"earlier-{index}"
        for index, one in enumerate(course.evaluations)
    )


def guards(course: Course) -> tuple[GuardView, ...]:
    """Each guard that has a reading anywhere, in the order of the readings."""
    readings = [r for one in course.evaluations for r in (*one.screen, *one.confirmation)]
    return tuple(_guard(course, gate) for gate in dict.fromkeys(reading.gate for reading in readings))


def last_looks(points: Iterable[GuardPoint]) -> tuple[GuardPoint, ...]:
    """One point per evaluation: the confirmation's where there is one."""
    return tuple({point.place_in_course: point for point in points}.values())


def signals(course: Course, *, runs: Mapping[str, Results], events: Sequence[Mapping[str, Any]] = ()) -> Signals:
    """All signals; a name that ends in `_se` or `_s1`, `_s2`, ... belongs to the name before it.

    Args:
        course: All evaluations.
        runs: Id to results, of those runs that still exist; the control's means come from them.
        events: The event log, with what was read between two evaluations.
    """
    values = _values(course, events)
    names = tuple(dict.fromkeys(name for found in values.values() for name in found))
    known = {metric.name: metric for results in runs.values() for metric in results.metrics}
    views = [
        SignalView(
            name=name,
            words=metric_words(name),
            points=_points(values, name),
            strata=_strata(values, name, names),
            control=_control(course, name, runs=runs),
            metric=known.get(name),
        )
        for name in names
        if _heads(name, names)
    ]
    losses = tuple(view for view in views if re.match(r"loss([_/]|$)", view.name))
    drift = tuple(view for view in views if re.match(r"drift([_/]|$)", view.name))
    style = tuple(view for view in views if view.name == STYLE)
    return Signals(losses, drift, style, tuple(view for view in views if view not in (*losses, *drift, *style)))


def signal_steps(views: Iterable[SignalView]) -> tuple[int, ...]:
    """Training steps at which any of these signals has a value, ascending."""
    return tuple(sorted({point.training_step for view in views for point in view.points}))


def shortened(steps: Sequence[int]) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """The first and the last of many steps, and how many lie between them.

    >>> shortened([1, 2, 3]), shortened(range(1, 12))
    (((1, 2, 3), 0, ()), ((1, 2, 3, 4), 5, (10, 11)))
    """
    if len(steps) <= 8:
        return tuple(steps), 0, ()
    return tuple(steps[:4]), len(steps) - 6, tuple(steps[-2:])


def gaps(course: Course, *, events: Sequence[Mapping[str, Any]] = ()) -> tuple[Gap, ...]:
    """Everything without a number, gathered by reason; from the event log what never became an evaluation."""
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    settled = () if course.settlement is None else course.settlement.evaluations
    for one in (*course.evaluations, *settled):
        for what, reason in one.unmeasured.items():
            steps[what, reason].append(one.training_step)
    judged = {one.training_step for one in course.evaluations}
    for event in events:
        step, kind = event.get("training_step"), event.get("kind")
        if kind in _GAP_WORDS and step not in judged:
            what, reason = _GAP_WORDS[str(kind)]
            steps[what, str(event.get("reason", reason))] += [step] if isinstance(step, int) else []
    return tuple(Gap(what, reason, tuple(found)) for (what, reason), found in steps.items())


def loss_findings(events: Sequence[Mapping[str, Any]]) -> tuple[LossFinding, ...]:
    """What was seen in the loss, as the event log has it; entries of another shape are passed over."""
    found = []
    for event in events:
        step, says = event.get("training_step"), event.get("says")
        if event.get("kind") == "loss" and isinstance(step, int) and isinstance(says, str):
            found.append(LossFinding(str(event.get("finding", "finding")), step, says))
    return tuple(dict.fromkeys(found))


def cost(course: Course, *, events: Sequence[Mapping[str, Any]]) -> Cost:
    """Seconds of judging, and their share of the time between the first and the last event of each sitting."""
    spent = [(one.training_step, one.seconds) for one in course.evaluations]
    span = _span(events)
    told = [event.get("share") for event in events if event.get("kind") == "finished"]
    judged = sum(_numbers(event.get("seconds") for event in events if event.get("kind") == "evaluated"))
    return Cost(
        total=sum(seconds for _, seconds in spent),
        longest=max(spent, key=lambda item: item[1], default=None),
        share=judged / span if span and judged <= span else None,
        span=span,
        of_training=next(iter(_numbers(told[-1:])), None),
    )


def style_points(course: Course, best: Best | None) -> tuple[StylePoint, ...]:
    """Checkpoints that have both a style with its standard error and a reading of the prompt guard."""
    unbeaten = set() if best is None else set(best.pareto)
    found = []
    for one in course.evaluations:
        readings = {r.gate: r for r in (*one.screen, *one.confirmation)}
        style, error, prompt = one.signals.get(STYLE), one.signals.get(STYLE + _ERROR), readings.get("prompt")
        if style is None or error is None or prompt is None:
            continue
        harm, step = prompt.harm / prompt.margin, one.training_step
        found.append(StylePoint(step, style, error, harm, step in unbeaten, mark_of(one)))
    return tuple(found)


def _guard(course: Course, gate: str) -> GuardView:
    points: list[GuardPoint] = []
    missing = []
    for index, one in enumerate(course.evaluations):
        looks = [_point(one, r, look, index) for look, found in _looks(one) for r in found if r.gate == gate]
        points += looks
        if not looks:
            reason = one.unmeasured.get(gate) or one.unmeasured.get(EVERYTHING) or "no reason was recorded"
            missing.append((one.training_step, reason))
    newest = points[-1].reading
    return GuardView(gate, newest.metric, newest.margin, tuple(points), tuple(missing), _onset(points))


def _looks(evaluation: Evaluation) -> tuple[tuple[Look, tuple[GuardReading, ...]], ...]:
    return ("screen", evaluation.screen), ("confirmation", evaluation.confirmation)


def _point(evaluation: Evaluation, reading: GuardReading, look: Look, index: int) -> GuardPoint:
    seeds = evaluation.seeds if look == "screen" else evaluation.confirmation_seeds
    decision = evaluation.decision
    return GuardPoint(
        place_in_course=index,
        training_step=evaluation.training_step,
        look=look,
        reading=reading,
        n_seeds=len(seeds),
        alarmed=reading.gate in evaluation.alarmed,
        against=decision.action is not Action.CONTINUE and reading.gate in decision.gates,
    )


def _onset(points: Sequence[GuardPoint]) -> Onset | None:
    """Back from the first confirmed step, as long as the harm lies beyond the margin."""
    looks = last_looks(points)
    first = next((index for index, point in enumerate(looks) if point.against), None)
    if first is None:
        return None
    while first > 0 and looks[first - 1].harm > 1:
        first -= 1
    return Onset(looks[first].training_step, looks[first - 1].training_step if first else None)


def _heads(name: str, names: Iterable[str]) -> bool:
    """Whether a signal stands for itself: neither an error nor a stratum of another one."""
    known = set(names)
    if name.endswith(_ERROR) and name.removesuffix(_ERROR) in known:
        return False
    stratum = _STRATUM.match(name)
    return stratum is None or stratum["name"] not in known


def _values(course: Course, events: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Training step to signals, ascending; what a training that was set back read before is forgotten.

    What was read when a course was opened belongs to step 0 where the adapter still was the base.
    """
    found: dict[int, dict[str, float]] = {}
    for event in events:
        untrained = event.get("kind") == "opened" and event.get("equals_base") is True
        step = 0 if untrained else event.get("training_step")
        if (untrained or event.get("kind") == "signals") and isinstance(step, int):
            found = {known: values for known, values in found.items() if known < step}
            numbers = {str(name): _numbers([value]) for name, value in event.items() if name != "training_step"}
            found[step] = {name: values[0] for name, values in numbers.items() if values}
    for one in course.evaluations:
        found[one.training_step] = found.get(one.training_step, {}) | one.signals
    return dict(sorted(found.items()))


def _points(values: Mapping[int, Mapping[str, float]], name: str) -> tuple[SignalPoint, ...]:
    return tuple(
        SignalPoint(step, found[name], found.get(name + _ERROR)) for step, found in values.items() if name in found
    )


def _strata(
    values: Mapping[int, Mapping[str, float]], name: str, names: Iterable[str]
) -> tuple[tuple[SignalPoint, ...], ...]:
    numbered = [(int(m["number"]), other) for other in names if (m := _STRATUM.match(other)) and m["name"] == name]
    return tuple(_points(values, other) for _, other in sorted(numbered))


def _control(course: Course, name: str, *, runs: Mapping[str, Results]) -> tuple[SignalPoint, ...]:
    """The control's mean in the same metric on the same prompts and seeds: cases first, as in the signal."""
    found = []
    for one in course.evaluations:
        results = runs.get(one.run_ids[0]) if one.run_ids else None
        value = None if results is None else control_mean(results, name)
        if value is not None:
            found.append(SignalPoint(one.training_step, value))
    return tuple(found)


def control_mean(results: Results, metric: str) -> float | None:
    """Mean of a metric over the control's pictures, over cases of their means over seeds; None without any."""
    by_case: dict[str, list[float]] = defaultdict(list)
    for item in results.measurements:
        if item.metric == metric and item.cell.arm is Arm.CONTROL:
            by_case[item.cell.case].append(item.value)
    means = [sum(values) / len(values) for values in by_case.values()]
    return sum(means) / len(means) if means else None


def _because(decision: Decision) -> str:
    reason = decision.reason.value.replace("_", " ")
    if decision.gates:
        return f", because of {' and '.join(decision.gates)} ({reason})"
    return "" if decision.reason is Reason.HEALTHY else f" ({reason})"


def _stopped_between(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The event of a stop that no evaluation made (a loss that is not finite), if nothing went on after it."""
    for event in reversed(events):
        kind = event.get("kind")
        if kind in _BEGINNINGS or kind == "evaluated":
            return None
        if kind == "stopped" and event.get("action") == Action.STOP.value:
            return event if isinstance(event.get("training_step"), int) else None
    return None


def _ended(events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether somebody finished the course and nobody went on with it."""
    kinds = [event.get("kind") for event in events if event.get("kind") in (*_BEGINNINGS, "evaluated", "finished")]
    return bool(kinds) and kinds[-1] == "finished"


def _span(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds in which somebody was at work: from each opening to the last event before the next."""
    moments = [(event.get("kind") in _BEGINNINGS, at) for event in events if (at := _moment(event)) is not None]
    pairs = pairwise(moments)
    seconds = sum((later - earlier).total_seconds() for (_, earlier), (begins, later) in pairs if not begins)
    return seconds if seconds > 0 else None


def _moment(event: Mapping[str, Any]) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(event.get("at")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _numbers(values: Iterable[Any]) -> list[float]:
    numbers = (value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    return [float(value) for value in numbers if math.isfinite(value)]


def _listed(steps: Sequence[int]) -> str:
    """Steps in words, the middle of a long list left out."""
    first, more, last = shortened(steps)
    words = [f"{step:,}" for step in first] + ([f"{more} more"] if more else []) + [f"{step:,}" for step in last]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
