"""What a training's own loss says: where it is going, spikes, divergence, NaN; in words.

The loss of a step is noisy, because picture, timestep and noise are drawn anew each time. It is therefore read in
blocks of steps, each block by its interquartile mean; a trend is Theil and Sen's median of slopes between blocks, with
the interval that Kendall's rank correlation gives. "Flat" must be shown, like everything else: few steps show nothing,
and then the answer is that nothing is known.

A falling loss is no sign of a better checkpoint: see `divided`.

References:
    P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968), 1379-1389.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Final

from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt

from lorabench.records.course import Evaluation, GuardReading
from lorabench.records.record import Record
from lorabench.statistics.decisions import holm

BLOCK_SIZE: Final = 16
"""Steps per block at first; it doubles whenever there are `MAX_BLOCKS`."""
MAX_BLOCKS: Final = 256
MIN_BLOCKS: Final = 8
"""Fewest blocks that a trend is read from."""
WINDOW: Final = 64
"""Values before a value that it is compared with to see whether it is a spike."""
MIN_WINDOW: Final = 20
SPIKE_Z: Final = 6.0
SPIKE_FACTOR: Final = 2.0
"""A spike is at least that many times the usual value, however quiet the loss was."""
SPIKES_IN_A_ROW: Final = 8
"""So many in a row are no spikes any more but a divergence."""
EXPLODING_DEVIATIONS: Final = 10.0
"""Median absolute deviations above the running median, as they are, from which a value counts as exploded."""
EXPLODING_STEPS: Final = 20
"""So many such values in a row are an explosion."""
_LEAST_DEVIATION: Final = 0.01
"""Smallest deviation, as a share of the median; a loss that never moves has none of its own."""
FLAT_SHARE: Final = 0.05
"""A loss that provably changes by less than this share over the later half of the course is flat."""
TREND_LEVEL: Final = 0.05
DIVERGENCE_Z: Final = 4.0
DIVERGENCE_FACTOR: Final = 1.2
_END_BLOCKS: Final = 4
"""Blocks at either end of the course that are compared to see a divergence."""
_QUIETEST: Final = 0.01
"""Smallest scale of the log loss that a spike is measured in; a loss that never moves has none of its own."""
_REMEMBERED_SPIKES: Final = 20
_RISE_OF_A_MARGIN: Final = 0.5
"""Smallest rise of a guard's harm, in margins, that is called getting worse."""


class FindingKind(StrEnum):
    """What a finding is about."""

    NOT_FINITE = "not_finite"
    SPIKE = "spike"
    DIVERGENCE = "divergence"
    EXPLODING = "exploding"
    """Loss or gradient norm stays far above its running median."""
    DIVIDED = "divided"
    """The loss falls while pictures get worse."""


class Direction(StrEnum):
    """Where the loss is going."""

    FALLING = "falling"
    RISING = "rising"
    FLAT = "flat"
    UNKNOWN = "unknown"


class LossFinding(Record):
    """Something to tell a person, at a step."""

    kind: FindingKind
    training_step: NonNegativeInt
    sentence: str


class Block(Record):
    """Consecutive steps, as one number."""

    first: NonNegativeInt
    last: NonNegativeInt
    n: PositiveInt
    level: FiniteFloat
    """Interquartile mean of the block's losses."""

    @property
    def middle(self) -> float:
        """Step in the middle."""
        return (self.first + self.last) / 2


class Slope(Record):
    """Theil and Sen's slope, in loss per step, with an interval."""

    estimate: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class TrendReading(Record):
    """Where the loss is going, and what is wrong with it."""

    direction: Direction
    level: FiniteFloat | None
    """Median of the last blocks; None before there are any."""
    change: FiniteFloat | None
    """Over the later half of the course, as a share of the level; negative is falling. None with too few steps."""
    change_low: FiniteFloat | None
    change_high: FiniteFloat | None
    first_step: NonNegativeInt | None
    """Where the part that was read begins."""
    last_step: NonNegativeInt | None
    n_spikes: NonNegativeInt
    findings: tuple[LossFinding, ...]
    sentence: str


class TrendState(Record):
    """All that is remembered: plain JSON."""

    block_size: PositiveInt = BLOCK_SIZE
    blocks: tuple[Block, ...] = ()
    pending: tuple[tuple[NonNegativeInt, FiniteFloat], ...] = ()
    """Step and loss of the block that is being filled."""
    recent: tuple[tuple[NonNegativeInt, FiniteFloat], ...] = ()
    """Step and logarithm of the last losses."""
    recent_norms: tuple[tuple[NonNegativeInt, FiniteFloat], ...] = ()
    """Step and logarithm of the last gradient norms."""
    spikes: tuple[LossFinding, ...] = ()
    n_spikes: NonNegativeInt = 0
    in_a_row: NonNegativeInt = 0
    """Spikes of the loss up to now without a usual value between them."""
    above: NonNegativeInt = 0
    """Losses up to now far above the running median, without another between them."""
    norms_above: NonNegativeInt = 0
    """Gradient norms likewise."""
    not_finite: LossFinding | None = None
    """The first NaN or infinity."""
    last_step: NonNegativeInt | None = None


class LossTrend:
    """Takes a loss per optimiser step, and says what it sees. Deterministic; its state is plain JSON."""

    def __init__(self, state: TrendState | None = None) -> None:
        """Start, or go on from a state."""
        self._state = state or TrendState()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LossTrend:
        """Go on where `state_dict` was taken."""
        return cls(TrendState.model_validate(state))

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON, of bounded size."""
        return self._state.model_dump(mode="json")

    def add(self, training_step: int, loss: float, grad_norm: float | None = None) -> tuple[LossFinding, ...]:
        """Take one optimiser step's loss.

        A step that was seen before means that training was set back: what was remembered from it on is forgotten.

        Args:
            training_step: Of the optimiser.
            loss: Of this step; may be NaN or infinite, which is a finding.
            grad_norm: Before clipping, if known.

        Returns:
            What must be said at once: NaN or infinity, a spike, a divergence.
        """
        state = self._state
        if state.last_step is not None and training_step <= state.last_step:
            state = _set_back(state, training_step)
        named = [("loss", float(loss))] + ([] if grad_norm is None else [("gradient norm", float(grad_norm))])
        found = [_not_finite(name, value, training_step) for name, value in named if not math.isfinite(value)]
        update: dict[str, Any] = {"last_step": training_step}
        if found and state.not_finite is None:
            update["not_finite"] = found[0]
        self._state = state.model_copy(update=update)
        if math.isfinite(loss):
            found += self._take_loss(training_step, float(loss))
        if grad_norm is not None and math.isfinite(grad_norm):
            found += self._take_norm(training_step, float(grad_norm))
        return tuple(found)

    def reading(self) -> TrendReading:
        """Where the loss is going, over the later half of the course."""
        state = self._state
        blocks = _later_half(state.blocks)
        level = statistics.median(block.level for block in blocks) if blocks else None
        slope = theil_sen(blocks) if len(blocks) >= MIN_BLOCKS else None
        found = _findings(state)
        changes: tuple[float | None, ...] = (None, None, None)
        if slope is not None and level:
            span = (blocks[-1].middle - blocks[0].middle) / abs(level)
            changes = (slope.estimate * span, slope.low * span, slope.high * span)
        direction = _direction(changes[1], changes[2])
        return TrendReading(
            direction=direction,
            level=level,
            change=changes[0],
            change_low=changes[1],
            change_high=changes[2],
            first_step=blocks[0].first if blocks else None,
            last_step=state.last_step,
            n_spikes=state.n_spikes,
            findings=found,
            sentence=" ".join([_trend_sentence(state, blocks, direction, changes), *(one.sentence for one in found)]),
        )

    def between(self, first: int, last: int) -> Slope | None:
        """The trend of the blocks between two steps; None with too few of them."""
        inside = [block for block in self._state.blocks if block.first >= first and block.last <= last]
        return theil_sen(inside) if len(inside) >= MIN_BLOCKS else None

    def level_at(self, first: int, last: int) -> tuple[float, float] | None:
        """Median level of the first and of the last third of the blocks between two steps; None with too few."""
        levels = [block.level for block in self._state.blocks if block.first >= first and block.last <= last]
        third = len(levels) // 3
        if len(levels) < MIN_BLOCKS:
            return None
        return statistics.median(levels[:third]), statistics.median(levels[-third:])

    def _take_loss(self, training_step: int, loss: float) -> list[LossFinding]:
        state = self._state
        spike = _spike("loss", loss, state.recent, training_step)
        in_a_row = state.in_a_row + 1 if spike is not None else 0
        found = [] if spike is None else [spike]
        if in_a_row == SPIKES_IN_A_ROW:
            found.append(_diverged(training_step, f"the last {SPIKES_IN_A_ROW} losses are all far above those before"))
        above = _above("loss", loss, state.recent, state.above, training_step=training_step, found=found)
        update: dict[str, Any] = {"in_a_row": in_a_row, "above": above, **_remembered(state, spike)}
        if loss > 0 and not in_a_row:  # a loss that ran away must not become the new usual
            update["recent"] = (*state.recent, (training_step, math.log(loss)))[-WINDOW:]
        update |= _with_loss(state, training_step, loss)
        self._state = state.model_copy(update=update)
        return found

    def _take_norm(self, training_step: int, norm: float) -> list[LossFinding]:
        state = self._state
        spike = _spike("gradient norm", norm, state.recent_norms, training_step)
        found = [] if spike is None else [spike]
        above = _above(
            "gradient norm", norm, state.recent_norms, state.norms_above, training_step=training_step, found=found
        )
        update = {**_remembered(state, spike), "norms_above": above}
        if norm > 0:
            update["recent_norms"] = (*state.recent_norms, (training_step, math.log(norm)))[-WINDOW:]
        self._state = state.model_copy(update=update)
        return found


def divided(trend: LossTrend, evaluations: Sequence[Evaluation], *, level: float = 0.05) -> LossFinding | None:
    """Whether the loss falls while pictures get worse, between the first and the last evaluation.

    The loss falls if its trend's interval lies below zero. Pictures get worse if a guard's harm rises along the
    course: a straight line through the screens' harms, weighted by their standard errors (widened where the harms
    scatter more than these say), one-sided, with Holm's procedure over the guards, and by half a margin at least.

    Args:
        trend: Fed with the loss of every step.
        evaluations: Of the same training; those without readings are passed over.
        level: Probability to say it of any guard while none gets worse, for one reading of one course.

    Returns:
        The finding at the last evaluation's step, or None. It is advice: no training is stopped by it.
    """
    judged = sorted((one for one in evaluations if one.screen), key=lambda one: one.training_step)
    if len(judged) < 3:
        return None
    first, last = judged[0].training_step, judged[-1].training_step
    slope, ends = trend.between(first, last), trend.level_at(first, last)
    if slope is None or ends is None or slope.high >= 0:
        return None
    worse = _getting_worse(judged, level=level)
    if not worse:
        return None
    guards = "; ".join(f"{gate} by {rise:.3g} (margin {margin:g})" for gate, (rise, margin) in worse.items())
    return LossFinding(
        kind=FindingKind.DIVIDED,
        training_step=last,
        sentence=(
            f"Between steps {first} and {last} the loss fell from {ends[0]:.4g} to {ends[1]:.4g} while pictures got "
            f"worse: {guards}. The adapter fits its training pictures better and the base's abilities less; a lower "
            f"loss is no reason to train on."
        ),
    )


def theil_sen(blocks: Sequence[Block], *, level: float = TREND_LEVEL) -> Slope:
    """Median of the slopes between all pairs of blocks, with an interval of 1 - level, in loss per step.

    Args:
        blocks: At least two, at different steps.
        level: Error of the interval, both sides together.
    """
    slopes = sorted((b.level - a.level) / (b.middle - a.middle) for i, a in enumerate(blocks) for b in blocks[i + 1 :])
    n, count = len(blocks), len(slopes)
    reach = NormalDist().inv_cdf(1 - level / 2) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((count - reach) / 2) - 1)
    high = min(count - 1, math.ceil((count + reach) / 2))
    return Slope(estimate=statistics.median(slopes), low=slopes[low], high=slopes[high])


def _interquartile_mean(values: Sequence[float]) -> float:
    cut = len(values) // 4
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def _with_loss(state: TrendState, training_step: int, loss: float) -> dict[str, Any]:
    """The block that is being filled, or one more block."""
    pending = (*state.pending, (training_step, loss))
    if len(pending) < state.block_size:
        return {"pending": pending}
    level = _interquartile_mean([value for _, value in pending])
    blocks = (*state.blocks, Block(first=pending[0][0], last=pending[-1][0], n=len(pending), level=level))
    if len(blocks) < MAX_BLOCKS:
        return {"pending": (), "blocks": blocks}
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return {"pending": (), "blocks": tuple(_merged(a, b) for a, b in pairs), "block_size": 2 * state.block_size}


def _merged(a: Block, b: Block) -> Block:
    return Block(first=a.first, last=b.last, n=a.n + b.n, level=(a.n * a.level + b.n * b.level) / (a.n + b.n))


def _set_back(state: TrendState, training_step: int) -> TrendState:
    """What was remembered before a step."""
    dropped = [spike for spike in state.spikes if spike.training_step >= training_step]
    broken = state.not_finite
    return state.model_copy(
        update={
            "blocks": tuple(block for block in state.blocks if block.last < training_step),
            "pending": tuple(item for item in state.pending if item[0] < training_step),
            "recent": tuple(item for item in state.recent if item[0] < training_step),
            "recent_norms": tuple(item for item in state.recent_norms if item[0] < training_step),
            "spikes": tuple(spike for spike in state.spikes if spike.training_step < training_step),
            "n_spikes": state.n_spikes - len(dropped),
            "in_a_row": 0,
            "above": 0,
            "norms_above": 0,
            "not_finite": None if broken is None or broken.training_step >= training_step else broken,
        }
    )


def _remembered(state: TrendState, spike: LossFinding | None) -> dict[str, Any]:
    if spike is None:
        return {}
    return {"spikes": (*state.spikes, spike)[-_REMEMBERED_SPIKES:], "n_spikes": state.n_spikes + 1}


def _spike(name: str, value: float, recent: Sequence[tuple[int, float]], training_step: int) -> LossFinding | None:
    """A value far above those before it, by a robust z of its logarithm."""
    if value <= 0 or len(recent) < MIN_WINDOW:
        return None
    logs = [log for _, log in recent]
    usual = statistics.median(logs)
    scale = max(1.4826 * statistics.median(abs(log - usual) for log in logs), _QUIETEST)
    above = math.log(value) - usual
    if above / scale < SPIKE_Z or above < math.log(SPIKE_FACTOR):
        return None
    times, normal = math.exp(above), math.exp(usual)
    sentence = f"The {name} of step {training_step} is {value:.4g}, {times:.1f} times the usual {normal:.4g}."
    return LossFinding(kind=FindingKind.SPIKE, training_step=training_step, sentence=sentence)


def _above(
    name: str,
    value: float,
    recent: Sequence[tuple[int, float]],
    before: int,
    *,
    training_step: int,
    found: list[LossFinding],
) -> int:
    """How many values in a row are now far above the running median; adds the finding to `found` when it is due."""
    if len(recent) < MIN_WINDOW:
        return 0
    values = [math.exp(log) for _, log in recent]
    usual = statistics.median(values)
    deviation = max(statistics.median(abs(one - usual) for one in values), _LEAST_DEVIATION * usual)
    if value <= usual + EXPLODING_DEVIATIONS * deviation:
        return 0
    if before + 1 == EXPLODING_STEPS:
        sentence = (
            f"The {name} explodes: for {EXPLODING_STEPS} steps up to step {training_step} it lay more than "
            f"{EXPLODING_DEVIATIONS:g} median deviations above its running median of {usual:.4g}, now {value:.4g}. "
            f"Go back to a checkpoint before it, with a lower learning rate or clipped gradients."
        )
        found.append(LossFinding(kind=FindingKind.EXPLODING, training_step=training_step, sentence=sentence))
    return before + 1


def _not_finite(name: str, value: float, training_step: int) -> LossFinding:
    sentence = (
        f"The {name} of step {training_step} is {value}: weights trained on it are lost. Go back to a checkpoint "
        f"before it, with a lower learning rate or another dtype."
    )
    return LossFinding(kind=FindingKind.NOT_FINITE, training_step=training_step, sentence=sentence)


def _diverged(training_step: int, why: str) -> LossFinding:
    sentence = f"The training diverges at step {training_step}: {why}. Lower the learning rate."
    return LossFinding(kind=FindingKind.DIVERGENCE, training_step=training_step, sentence=sentence)


def _findings(state: TrendState) -> tuple[LossFinding, ...]:
    found = [] if state.not_finite is None else [state.not_finite]
    if (divergence := _divergence(state)) is not None:
        found.append(divergence)
    return (*found, *state.spikes[-1:])


def _divergence(state: TrendState) -> LossFinding | None:
    """The loss is above where it began, by more than its noise and by enough to matter."""
    at = state.last_step or 0
    if state.in_a_row >= SPIKES_IN_A_ROW:
        return _diverged(at, f"the last {state.in_a_row} losses are all far above those before")
    levels = [block.level for block in state.blocks]
    if len(levels) < 2 * _END_BLOCKS:
        return None
    steps = [b - a for a, b in pairwise(levels)]
    middle = statistics.median(steps)
    noise = 1.4826 * statistics.median(abs(step - middle) for step in steps) / math.sqrt(2)
    start, now = statistics.fmean(levels[:_END_BLOCKS]), statistics.fmean(levels[-_END_BLOCKS:])
    if now <= DIVERGENCE_FACTOR * start or now - start <= DIVERGENCE_Z * noise * math.sqrt(2 / _END_BLOCKS):
        return None
    return _diverged(at, f"its loss is {now:.4g}, above the {start:.4g} it began with")


def _later_half(blocks: Sequence[Block]) -> Sequence[Block]:
    return blocks[-max(len(blocks) // 2, MIN_BLOCKS) :]


def _direction(low: float | None, high: float | None) -> Direction:
    if low is None or high is None:
        return Direction.UNKNOWN
    if low > -FLAT_SHARE and high < FLAT_SHARE:
        return Direction.FLAT
    if high < 0:
        return Direction.FALLING
    return Direction.RISING if low > 0 else Direction.UNKNOWN


def _trend_sentence(
    state: TrendState, blocks: Sequence[Block], direction: Direction, changes: tuple[float | None, ...]
) -> str:
    change, low, high = changes
    if change is None or low is None or high is None:
        needed = MIN_BLOCKS * state.block_size
        seen = sum(block.n for block in state.blocks) + len(state.pending)
        return f"Too few losses to see a trend ({seen} of {needed})."
    since = f"steps {blocks[0].first} to {blocks[-1].last}"
    interval = f"{change:+.1%}, interval {low:+.1%} to {high:+.1%}"
    match direction:
        case Direction.FLAT:
            return f"The loss has flattened: over {since} it changed by less than {FLAT_SHARE:.0%} ({interval})."
        case Direction.FALLING:
            return f"The loss is falling over {since} ({interval})."
        case Direction.RISING:
            return f"The loss is rising over {since} ({interval})."
        case Direction.UNKNOWN:
            return f"The loss's noise hides its trend over {since} ({interval})."


def _getting_worse(judged: Sequence[Evaluation], *, level: float) -> dict[str, tuple[float, float]]:
    """Guards whose harm rises along the course, to their rise and their margin."""
    courses: dict[str, list[tuple[int, GuardReading]]] = {}
    for one in judged:
        for reading in one.screen:
            courses.setdefault(reading.gate, []).append((one.training_step, reading))
    lines = {gate: _rise(points) for gate, points in courses.items() if len(points) >= 3}
    shown = holm({gate: p for gate, (_, p) in lines.items()}, level)
    margins = {gate: points[-1][1].margin for gate, points in courses.items()}
    return {
        gate: (rise, margins[gate])
        for gate, (rise, _) in lines.items()
        if shown[gate].rejected and rise >= _RISE_OF_A_MARGIN * margins[gate]
    }


def _rise(points: Sequence[tuple[int, GuardReading]]) -> tuple[float, NonNegativeFloat]:
    """Rise of a weighted straight line from the first to the last point, and its one-sided p-value."""
    known = [reading.standard_error for _, reading in points if reading.standard_error > 0]
    errors = [reading.standard_error or (min(known) if known else 1.0) for _, reading in points]
    weights = [1.0 / error**2 for error in errors]
    steps, harms = [float(step) for step, _ in points], [reading.harm for _, reading in points]
    total = sum(weights)
    x = sum(w * s for w, s in zip(weights, steps, strict=True)) / total
    y = sum(w * h for w, h in zip(weights, harms, strict=True)) / total
    spread = sum(w * (s - x) ** 2 for w, s in zip(weights, steps, strict=True))
    slope = sum(w * (s - x) * (h - y) for w, s, h in zip(weights, steps, harms, strict=True)) / spread
    misfit = sum(w * (h - y - slope * (s - x)) ** 2 for w, s, h in zip(weights, steps, harms, strict=True))
    widening = max(1.0, math.sqrt(misfit / (len(points) - 2))) if known else math.sqrt(misfit / (len(points) - 2))
    error = widening / math.sqrt(spread)
    p = float(slope <= 0) if error == 0 else NormalDist().cdf(-slope / error)
    return slope * (steps[-1] - steps[0]), p
