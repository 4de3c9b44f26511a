"""Which checkpoint of a course to ship: the earliest of the best among those that are shown to be harmless.

Harm and style are never weighed against each other. A checkpoint passes if the upper end of every guard's interval of
harm is within its margin; style decides among those that pass, and differences smaller than a standard error do not.
The style of a checkpoint is the signal of that name in `Evaluation.signals`; its standard error is the signal
`<name>_se`. Where none that passes has both, the last that passes is chosen, since style is learned with time.

A small screen may show no checkpoint to be harmless, for want of pictures. Those that it does not speak against can
still be judged again on more, and are named as finalists.

The rule of one standard error is from L. Breiman, J. Friedman, R. Olshen, C. Stone, Classification and Regression
Trees (1984), section 3.4.3.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import FiniteFloat, NonNegativeInt

from lorabench.records.course import Action, Evaluation, GuardReading
from lorabench.records.record import Identifier, Record, UnitFloat

if TYPE_CHECKING:
    import numpy as np

MAX_FINALISTS: Final = 3


class Choice(Record):
    """The checkpoint to ship, or the guard that stood in the way of every one."""

    training_step: NonNegativeInt | None
    """None: no checkpoint passes."""
    sentence: str
    passing: tuple[NonNegativeInt, ...] = ()
    """Steps whose guards are all within their margins, in order."""
    equivalents: tuple[NonNegativeInt, ...] = ()
    """Passing steps within one standard error of the highest style, in order; the first is chosen."""
    finalists: tuple[NonNegativeInt, ...] = ()
    """Up to three steps to judge once more on unused seeds: passing ones, the chosen one first; where none passes,
    those whose harm is within every margin, but not yet shown to be."""
    obstacle: Identifier | None = None
    """The guard in the way of the nearest miss, where none passes."""
    nearest_miss: NonNegativeInt | None = None
    excess: FiniteFloat | None = None
    """How far the upper end of the obstacle's interval is beyond its margin, in the metric's unit."""
    pareto: tuple[NonNegativeInt, ...] = ()
    """Steps that no other beats in both style and prompt following, passing or not."""


class _Miss(Record):
    """Why a checkpoint does not pass."""

    training_step: NonNegativeInt
    rejected: bool
    guard: Identifier | None
    excess: FiniteFloat | None
    """None where the guard was not measured."""
    margins: FiniteFloat | None
    """`excess` in margins, by which misses are ordered."""
    plausible: bool = False
    """Every guard's harm is within its margin; only the interval is too wide."""
    reason: str


def choose(
    evaluations: Sequence[Evaluation],
    *,
    style_signal: str,
    guards: Collection[str] | None = None,
    prompt_gate: str = "prompt",
    higher_is_better: bool = True,
    n_standard_errors: float = 1.0,
) -> Choice:
    """Choose among the checkpoints of a course.

    Step 0 is the base and is never chosen. Where a checkpoint has a confirmation, its readings count instead of the
    screen's. A guard that was read at some checkpoint and not at this one does not pass.

    Args:
        evaluations: In any order, one per step; of several for a step the last counts.
        style_signal: Name in `Evaluation.signals`, with its standard error under `<name>_se`.
        guards: Gates that must be within their margins. None: all that any checkpoint has a reading of, and at
            least one. Empty: none is asked for.
        prompt_gate: The gate of the prompt axis of the Pareto set.
        higher_is_better: Of the style signal.
        n_standard_errors: Of the highest style; steps within so many are equivalent.

    Raises:
        ValueError: `n_standard_errors` is negative.
    """
    if n_standard_errors < 0:
        msg = f"n_standard_errors must not be negative, got {n_standard_errors}."
        raise ValueError(msg)
    latest = {one.training_step: one for one in evaluations if one.training_step > 0}
    course = [latest[step] for step in sorted(latest)]
    asked = _asked_for(course, guards)
    misses = [miss for one in course if (miss := _miss(one, asked, needed=guards is None)) is not None]
    missed = {miss.training_step for miss in misses}
    passing = tuple(one.training_step for one in course if one.training_step not in missed)
    styles = _styles(course, style_signal, sign=1.0 if higher_is_better else -1.0)
    pareto = _pareto_steps(course, styles, prompt_gate)
    if not course:
        return Choice(training_step=None, sentence="No checkpoint was evaluated yet.")
    if not passing:
        hopeful = [miss.training_step for miss in misses if miss.plausible]
        return _none_passes(misses, finalists=_by_style(hopeful, styles), pareto=pareto)
    rivals = {step: styles[step] for step in passing if step in styles}
    if not rivals:
        return _latest(passing, pareto=pareto, signal=style_signal)
    return _chosen(rivals, passing=passing, pareto=pareto, n_standard_errors=n_standard_errors, signal=style_signal)


def settle(
    choice: Choice,
    reestimates: Sequence[Evaluation],
    *,
    evaluations: Sequence[Evaluation],
    style_signal: str,
    guards: Collection[str] | None = None,
    prompt_gate: str = "prompt",
    higher_is_better: bool = True,
    n_standard_errors: float = 1.0,
) -> Choice:
    """The final choice, from the finalists judged again on seeds that had no part in making them finalists.

    The highest of several noisy numbers is too high; only fresh ones may be reported. The old numbers of the finalists
    are not used any more.

    Args:
        choice: That named the finalists.
        reestimates: One evaluation per finalist.
        evaluations: Those that `choice` was made from.
        style_signal: As for `choose`.
        guards: As for `choose`.
        prompt_gate: As for `choose`.
        higher_is_better: As for `choose`.
        n_standard_errors: As for `choose`.

    Raises:
        ValueError: A finalist without re-estimate, a re-estimate of another step, or a seed that was used before.
    """
    steps = sorted(one.training_step for one in reestimates)
    if steps != sorted(choice.finalists):
        msg = f"every finalist needs one re-estimate; finalists are {sorted(choice.finalists)}, re-estimated {steps}."
        raise ValueError(msg)
    used = {seed for one in evaluations for seed in (*one.seeds, *one.confirmation_seeds)}
    again = sorted(used & {seed for one in reestimates for seed in (*one.seeds, *one.confirmation_seeds)})
    if again:
        msg = f"finalists must be re-estimated on unused seeds; {again} were used to find them. Take others."
        raise ValueError(msg)
    return choose(
        reestimates,
        style_signal=style_signal,
        guards=guards,
        prompt_gate=prompt_gate,
        higher_is_better=higher_is_better,
        n_standard_errors=n_standard_errors,
    )


def pareto_probabilities(
    evaluations: Sequence[Evaluation],
    *,
    style_signal: str,
    rng: np.random.Generator,
    prompt_gate: str = "prompt",
    higher_is_better: bool = True,
    n_draws: int = 2000,
) -> dict[int, UnitFloat]:
    """How sure each checkpoint's place in the Pareto set is: the share of draws in which no other beats it in both.

    Style and harm are drawn as independent normals around what was measured, with the measured standard errors.

    Args:
        evaluations: Those without style or prompt reading are left out.
        style_signal: As for `choose`.
        rng: Draws.
        prompt_gate: As for `choose`.
        higher_is_better: As for `choose`.
        n_draws: Number of draws.

    Returns:
        Step to probability, in order.
    """
    import numpy as np

    latest = {one.training_step: one for one in evaluations if one.training_step > 0}
    course = [latest[step] for step in sorted(latest)]
    points = _points(course, _styles(course, style_signal, sign=1.0 if higher_is_better else -1.0), prompt_gate)
    if not points:
        return {}
    steps, values = list(points), np.array(list(points.values()))  # (n, 4): style, its error, prompt, its error
    drawn = values[:, ::2] + values[:, 1::2] * rng.standard_normal((n_draws, len(steps), 2))  # (draws, n, 2)
    members = np.array([_undominated([tuple(map(float, point)) for point in one]) for one in drawn])
    return {step: float(share) for step, share in zip(steps, members.mean(axis=0), strict=True)}


def readings_of(evaluation: Evaluation) -> dict[str, GuardReading]:
    """What is known of each guard: the confirmation's reading where there is one, else the screen's."""
    found = {reading.gate: reading for reading in evaluation.screen}
    return found | {reading.gate: reading for reading in evaluation.confirmation}


def _asked_for(course: Sequence[Evaluation], guards: Collection[str] | None) -> tuple[str, ...]:
    if guards is not None:
        return tuple(dict.fromkeys(guards))
    return tuple(dict.fromkeys(gate for one in course for gate in readings_of(one)))


def _miss(evaluation: Evaluation, guards: Sequence[str], *, needed: bool) -> _Miss | None:
    """Why a checkpoint does not pass; None if it does."""
    step, readings, decision = evaluation.training_step, readings_of(evaluation), evaluation.decision
    worst = max((readings[gate] for gate in guards if gate in readings), key=_margins, default=None)
    absent = next((gate for gate in guards if gate not in readings), None)
    if decision.action is not Action.CONTINUE:
        guard = decision.gates[0] if decision.gates else (worst.gate if worst is not None else None)
        reading = readings.get(guard) if guard is not None else None
        reason = f"it was rejected ({decision.reason.value})"
        return _as_miss(step, reading, guard=guard, rejected=True, reason=reason)
    if absent is not None:
        why = evaluation.unmeasured.get(absent, decision.sentence)
        return _as_miss(step, None, guard=absent, rejected=False, reason=f"{absent} was not measured ({why})")
    if needed and worst is None:
        return _as_miss(step, None, guard=None, rejected=False, reason=f"no guard was measured ({decision.sentence})")
    if worst is not None and worst.high > worst.margin:
        plausible = all(readings[gate].harm <= readings[gate].margin for gate in guards)
        miss = _as_miss(step, worst, guard=worst.gate, rejected=False, reason=_in_the_way(worst))
        return miss.model_copy(update={"plausible": plausible})
    return None


def _as_miss(step: int, reading: GuardReading | None, *, guard: str | None, rejected: bool, reason: str) -> _Miss:
    return _Miss(
        training_step=step,
        rejected=rejected,
        guard=guard,
        excess=None if reading is None else reading.high - reading.margin,
        margins=None if reading is None else _margins(reading),
        reason=reason,
    )


def _margins(reading: GuardReading) -> float:
    """How far the upper end of harm is beyond the margin, in margins."""
    return (reading.high - reading.margin) / reading.margin


def _in_the_way(reading: GuardReading) -> str:
    interval = (
        f"harm {reading.harm:+.3g}, interval {reading.low:+.3g} to {reading.high:+.3g}, margin {reading.margin:g}"
    )
    if reading.low > reading.margin:
        return f"{reading.gate} is beyond its margin ({interval})"
    if reading.harm > reading.margin:
        return f"{reading.gate} is probably beyond its margin ({interval})"
    return f"{reading.gate} is not shown to be within its margin ({interval}); more prompts or seeds would tell"


def _by_style(steps: Sequence[int], styles: Mapping[int, tuple[float, float]]) -> tuple[int, ...]:
    """Up to three steps, those with the most style first; of those without style the latest."""
    known = sorted((step for step in steps if step in styles), key=lambda step: (-styles[step][0], step))
    return tuple(known or sorted(steps, reverse=True))[:MAX_FINALISTS]


def _latest(passing: tuple[int, ...], *, pareto: tuple[int, ...], signal: str) -> Choice:
    """Without a style to compare, the one that learned longest."""
    sentence = (
        f"Step {passing[-1]}: {_many(passing)} within all margins, and it is the latest of them. How much style each "
        f"has taken on is not known, since {signal} is not measured; training pictures would tell."
    )
    finalists = passing[::-1][:MAX_FINALISTS]
    return Choice(
        training_step=passing[-1],
        sentence=sentence,
        passing=passing,
        equivalents=passing,
        finalists=finalists,
        pareto=pareto,
    )


def _none_passes(misses: Sequence[_Miss], *, finalists: tuple[int, ...], pareto: tuple[int, ...]) -> Choice:
    """No checkpoint passes: name the guard of the one that came nearest."""
    nearest = min(misses, key=lambda miss: (miss.rejected, math.inf if miss.margins is None else miss.margins))
    return Choice(
        training_step=None,
        sentence=(
            f"No checkpoint passes ({len(misses)} judged). The nearest is step {nearest.training_step}: "
            f"{nearest.reason}."
        ),
        obstacle=nearest.guard,
        finalists=finalists,
        nearest_miss=nearest.training_step,
        excess=nearest.excess,
        pareto=pareto,
    )


def _chosen(
    rivals: dict[int, tuple[float, float]],
    *,
    passing: tuple[int, ...],
    pareto: tuple[int, ...],
    n_standard_errors: float,
    signal: str,
) -> Choice:
    """The earliest of those within a standard error of the highest style."""
    top = max(rivals, key=lambda step: (rivals[step][0], -step))
    floor = rivals[top][0] - n_standard_errors * rivals[top][1]
    equivalents = tuple(step for step, (style, _) in rivals.items() if style >= floor)
    first = equivalents[0]
    by_style = sorted(rivals, key=lambda step: (-rivals[step][0], step))
    finalists = tuple(dict.fromkeys((first, *by_style)))[:MAX_FINALISTS]
    sentence = f"Step {first}: {_many(passing)} within all margins; "
    if first == top:
        sentence += f"it has the highest {signal} and none before it comes within one standard error."
    else:
        sentence += (
            f"step {top} has the highest {signal}, and step {first} is the earliest within "
            f"{_errors(n_standard_errors)} of it."
        )
    return Choice(
        training_step=first,
        sentence=sentence,
        passing=passing,
        equivalents=equivalents,
        finalists=finalists,
        pareto=pareto,
    )


def _many(passing: Sequence[int]) -> str:
    return "1 checkpoint is" if len(passing) == 1 else f"{len(passing)} checkpoints are"


def _errors(n_standard_errors: float) -> str:
    return "one standard error" if n_standard_errors == 1 else f"{n_standard_errors:g} standard errors"


def _styles(course: Sequence[Evaluation], signal: str, *, sign: float) -> dict[int, tuple[float, float]]:
    """Step to style (higher is better) and its standard error, in order; those without both are left out."""
    return {
        one.training_step: (sign * one.signals[signal], one.signals[f"{signal}_se"])
        for one in course
        if signal in one.signals and f"{signal}_se" in one.signals
    }


def _points(
    course: Sequence[Evaluation], styles: dict[int, tuple[float, float]], prompt_gate: str
) -> dict[int, tuple[float, float, float, float]]:
    """Step to style, its error, prompt following (harm, oriented up) and its error."""
    prompts = {one.training_step: readings_of(one).get(prompt_gate) for one in course}
    return {
        step: (*style, -prompt.harm, prompt.standard_error)
        for step, style in styles.items()
        if (prompt := prompts[step]) is not None
    }


def _pareto_steps(
    course: Sequence[Evaluation], styles: dict[int, tuple[float, float]], prompt_gate: str
) -> tuple[int, ...]:
    points = _points(course, styles, prompt_gate)
    members = _undominated([(style, prompt) for style, _, prompt, _ in points.values()])
    return tuple(step for step, member in zip(points, members, strict=True) if member)


def _undominated(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether no other point is at least as good in both and better in one."""
    return [
        not any(other != point and all(o >= p for o, p in zip(other, point, strict=True)) for other in points)
        for point in points
    ]
