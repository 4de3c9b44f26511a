"""When to stop a training: pure rules from readings to a decision.

A screen looks at every checkpoint with few seeds and only raises an alarm. An alarmed checkpoint is looked at again
on fresh seeds, and only that second look can speak against it: it is tested against the margin, never against zero,
with Holm's procedure over its guards. One confirmed checkpoint is rejected; a training stops when several of the last
ones were confirmed, or at once where the harm is beyond doubt. `docs/stopping.md` says how often this is wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from lorabench.records.config import CourseConfig
from lorabench.records.course import Action, Decision, GuardReading, PolicyState, Reason
from lorabench.statistics.decisions import holm

COPY_METRIC: Final = "copy_rate"
"""The metric of `catastrophe_copy_rate`."""
CUSUM_LIMIT: Final = 2.0
"""Largest memory of a CUSUM, in multiples of its threshold. Without a limit one very bad checkpoint would have every
later one looked at twice; with it a guard that is back at its margin is trusted again after threshold / allowance
checkpoints, a healthy one sooner."""
HARD_REASONS: Final = frozenset(
    {
        Reason.NOT_FINITE,
        Reason.BROKEN_PICTURES,
        Reason.DEAD_ADAPTER,
        Reason.NOT_MEASURED,
    }
)
_HARD_WORDS: Final = {
    Reason.NOT_FINITE: "training has produced NaN or infinity",
    Reason.BROKEN_PICTURES: "the adapter's pictures are broken where the control's are whole",
    Reason.DEAD_ADAPTER: "the adapter changes nothing, or cannot be used",
    Reason.NOT_MEASURED: "the checkpoint could not be judged, and on_error asks to stop then",
}


def alarms(
    readings: Sequence[GuardReading], state: PolicyState, settings: CourseConfig
) -> tuple[tuple[str, ...], PolicyState]:
    """Which guards of a screen ask for a second look.

    A guard alarms if its mean harm is over `alarm_share` of its margin, or if its CUSUM
    max(0, C + (harm - margin) / standard error - allowance) is over its threshold. An alarm decides nothing.

    Args:
        readings: The screen's, one per guard. A guard without a reading keeps its CUSUM.
        state: What is remembered from the checkpoints before.
        settings: The `[course]` table.

    Returns:
        The alarmed guards in the order of the readings, and the state with the new CUSUMs.

    Raises:
        ValueError: A guard has two readings.

    References:
        E. S. Page, Continuous inspection schemes, Biometrika 41 (1954), 100-115.
    """
    _check_one_reading_each(readings)
    cusum = dict(state.cusum)
    alarmed = []
    for reading in readings:
        cusum[reading.gate] = _cumulated(reading, cusum.get(reading.gate, 0.0), settings)
        if reading.harm > settings.alarm_share * reading.margin or cusum[reading.gate] > settings.cusum_threshold:
            alarmed.append(reading.gate)
    return tuple(alarmed), state.model_copy(update={"cusum": cusum})


def confirmed(readings: Sequence[GuardReading], settings: CourseConfig) -> tuple[str, ...]:
    """Guards whose harm is shown to be beyond the margin, by Holm's procedure over all that were read.

    The probability to name any guard that is within its margin is at most `confirmation_level`, however the guards
    depend on each other.

    Args:
        readings: Those of the confirmation's fresh seeds, one per guard, of all guards and not of alarmed ones only.
        settings: The `[course]` table.

    Returns:
        The guards, in the order of the readings.

    Raises:
        ValueError: A guard has two readings.
    """
    _check_one_reading_each(readings)
    steps = holm({reading.gate: reading.p_beyond_margin for reading in readings}, settings.confirmation_level)
    return tuple(gate for gate, step in steps.items() if step.rejected)


def conclude(
    *,
    training_step: int,
    alarmed: Sequence[str],
    confirmed: Sequence[GuardReading],
    state: PolicyState,
    settings: CourseConfig,
) -> tuple[Decision, PolicyState]:
    """Decide on a checkpoint that was screened and, if it alarmed, looked at again.

    - CONTINUE: no alarm, or an alarm that fresh seeds did not confirm.
    - REJECT: confirmed beyond a margin, not yet often enough to stop.
    - STOP: confirmed now and at `confirmations` of the last `window` checkpoints, or a catastrophe: confirmed harm
      shown to be beyond `catastrophe_margins` margins at the level that two confirmations together have
      (`confirmation_level ** confirmations`), or a copy rate whose lower bound has risen by more than
      `catastrophe_copy_rate`. With `stop = false` a REJECT that says so.

    Args:
        training_step: Of the checkpoint.
        alarmed: Guards that `alarms` named.
        confirmed: Readings of the confirmation, empty if there was none. They go through Holm's procedure here, which
            changes nothing for a caller who passes only those that `confirmed()` named.
        state: From `alarms`.
        settings: The `[course]` table.

    Returns:
        The decision, and the state with this checkpoint in its window.

    Raises:
        ValueError: A guard has two readings.
    """
    beyond = _shown_beyond(confirmed, settings)
    against = [reading for reading in confirmed if reading.gate in beyond or _copies(reading, settings)]
    recent = (*state.confirmed, bool(against))[-settings.window :]
    after = state.model_copy(update={"confirmed": recent})
    if not against:
        return _standing(training_step, alarmed, confirmed, recent=recent), after
    disasters = [reading for reading in against if _is_catastrophe(reading, beyond, settings)]
    if disasters:
        decision = _catastrophe(training_step, disasters, against, settings)
    elif sum(recent) >= settings.confirmations:
        decision = _persistent(training_step, against, recent=recent, settings=settings)
    else:
        decision = _rejected(training_step, against, recent=recent, settings=settings)
    return _as_wanted(decision, settings), after


def hard_stop(reason: Reason, *, training_step: int, detail: str, settings: CourseConfig | None = None) -> Decision:
    """Decide without statistics, on what no number of pictures could excuse.

    Args:
        reason: One of `HARD_REASONS`.
        training_step: Where it was found.
        detail: What was found and where, in words.
        settings: The `[course]` table; with `stop = false` the decision is a REJECT. None stops.

    Returns:
        STOP, or REJECT where the settings only ask for advice.

    Raises:
        ValueError: The reason needs statistics.
    """
    if reason not in HARD_REASONS:
        known = ", ".join(sorted(HARD_REASONS))
        msg = f"a hard stop must have one of the reasons {known}; got {reason}. Use conclude() for the others."
        raise ValueError(msg)
    decision = Decision(
        action=Action.STOP,
        reason=reason,
        sentence=f"Stop: {_HARD_WORDS[reason]}: {detail.rstrip('.')}.",
        training_step=training_step,
    )
    return decision if settings is None else _as_wanted(decision, settings)


# -------------------------------------------------------------------------------------------------------- the rule


def _cumulated(reading: GuardReading, before: float, settings: CourseConfig) -> float:
    excess = reading.harm - reading.margin
    if reading.standard_error > 0:
        excess /= reading.standard_error
    elif excess:
        excess = math.copysign(math.inf, excess)  # no spread at all: beyond doubt, on one side or the other
    limit = CUSUM_LIMIT * settings.cusum_threshold
    return min(limit, max(0.0, before + excess - settings.cusum_allowance))


_shown_beyond = confirmed


def _copies(reading: GuardReading, settings: CourseConfig) -> bool:
    return reading.metric == COPY_METRIC and reading.low > settings.catastrophe_copy_rate


def _is_catastrophe(reading: GuardReading, beyond: Collection[str], settings: CourseConfig) -> bool:
    return _copies(reading, settings) or (reading.gate in beyond and _far_beyond(reading, settings))


def _far_beyond(reading: GuardReading, settings: CourseConfig) -> bool:
    """Whether one look shows as surely as the usual number of looks that the harm is beyond several margins."""
    limit = settings.catastrophe_margins * reading.margin
    if reading.low <= limit or reading.n_cases < 2:
        return False
    if reading.standard_error == 0:
        return True
    from scipy.special import stdtr

    p_value = float(stdtr(reading.n_cases - 1, -(reading.harm - limit) / reading.standard_error))
    return p_value <= settings.confirmation_level**settings.confirmations


def _as_wanted(decision: Decision, settings: CourseConfig) -> Decision:
    """Turn STOP into advice where the settings want no more."""
    if settings.stop or decision.action is not Action.STOP:
        return decision
    sentence = f"{decision.sentence} A stop was advised; stop = false keeps the training going."
    return decision.model_copy(update={"action": Action.REJECT, "sentence": sentence})


def _check_one_reading_each(readings: Sequence[GuardReading]) -> None:
    gates = [reading.gate for reading in readings]
    if len(set(gates)) < len(gates):
        twice = sorted(gate for gate, n in Counter(gates).items() if n > 1)
        msg = f"each guard must have one reading per look; got several of {', '.join(twice)}. Pool their pictures."
        raise ValueError(msg)


# ----------------------------------------------------------------------------------------------------------- words


def _standing(
    training_step: int, alarmed: Sequence[str], readings: Sequence[GuardReading], *, recent: Sequence[bool]
) -> Decision:
    if alarmed:
        found = f": {'; '.join(_read(reading) for reading in readings)}" if readings else ""
        sentence = (
            f"The screen alarmed ({', '.join(alarmed)}), but fresh seeds do not show harm beyond a margin{found}."
        )
    else:
        sentence = "No guard came near its margin."
    if any(recent):
        sentence += " What an earlier checkpoint showed did not show again here: so far a dip."
    return Decision(
        reason=Reason.ALARM if alarmed else Reason.HEALTHY,
        sentence=f"{sentence} The checkpoint stands, training goes on.",
        training_step=training_step,
    )


def _rejected(
    training_step: int, against: Sequence[GuardReading], *, recent: Sequence[bool], settings: CourseConfig
) -> Decision:
    sentence = (
        f"{_told(against)}, confirmed on fresh seeds. This checkpoint is rejected, training goes on; it stops when "
        f"{settings.confirmations} of {settings.window} checkpoints in a row are confirmed, so far {sum(recent)}."
    )
    return _against(Action.REJECT, Reason.CONFIRMED, sentence, training_step=training_step, against=against)


def _persistent(
    training_step: int, against: Sequence[GuardReading], *, recent: Sequence[bool], settings: CourseConfig
) -> Decision:
    sentence = (
        f"Stop: {_told(against)}, confirmed on fresh seeds at {sum(recent)} of the last {len(recent)} checkpoints "
        f"({settings.confirmations} of {settings.window} are enough). Go back to the best checkpoint before."
    )
    return _against(Action.STOP, Reason.PERSISTENT, sentence, training_step=training_step, against=against)


def _catastrophe(
    training_step: int, disasters: Sequence[GuardReading], against: Sequence[GuardReading], settings: CourseConfig
) -> Decision:
    limits = "; ".join(_limit(reading, settings) for reading in disasters)
    sentence = (
        f"Stop: {_told(against)}, confirmed on fresh seeds and beyond doubt ({limits}): no second checkpoint is "
        "needed. Go back to the best checkpoint before."
    )
    return _against(Action.STOP, Reason.CATASTROPHE, sentence, training_step=training_step, against=against)


def _against(
    action: Action, reason: Reason, sentence: str, *, training_step: int, against: Sequence[GuardReading]
) -> Decision:
    gates = tuple(reading.gate for reading in against)
    return Decision(action=action, reason=reason, sentence=sentence, training_step=training_step, gates=gates)


def _told(readings: Sequence[GuardReading]) -> str:
    return "; ".join(
        f"{reading.gate} is worse than the control by {reading.harm:.3g} {_between(reading)} in {reading.metric}, "
        f"where {reading.margin:.3g} is tolerated"
        for reading in readings
    )


def _read(reading: GuardReading) -> str:
    return f"{reading.gate} reads {reading.harm:+.3g} {_between(reading)} against a margin of {reading.margin:.3g}"


def _between(reading: GuardReading) -> str:
    return f"({reading.low:.3g} to {reading.high:.3g})"


def _limit(reading: GuardReading, settings: CourseConfig) -> str:
    if _copies(reading, settings):
        return (
            f"{reading.gate}: at least {reading.low:.3g} more copies, where {settings.catastrophe_copy_rate:.3g} end it"
        )
    far = settings.catastrophe_margins * reading.margin
    return f"{reading.gate}: more than {settings.catastrophe_margins:.3g} margins, {far:.3g}"
