"""Guards along strength: what is read at each strength, against what, and how it is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lorabench.evaluation.assembling import SELF_TEST_LEVEL
from lorabench.evaluation.comparing import compare
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.gates import Gate, configured_gates
from lorabench.evaluation.judging import judge
from lorabench.evaluation.measuring import detector_self_test, measure_copies, measure_foils, self_test
from lorabench.evaluation.sweep_estimates import as_comparison
from lorabench.evaluation.sweep_panel import Key, Look
from lorabench.evaluation.sweep_style import StyleAxis
from lorabench.metrics.reading import Missing
from lorabench.records.comparison import Comparison, Verdict
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.sweep import Estimated, GuardAt
from lorabench.registry import METRICS
from lorabench.statistics.intervals import DifferenceInterval

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Run
    from lorabench.evaluation.indices import Resampling

PROMPT_GUARDS: Final = ("prompt", "foils")
COPY_GUARD: Final = "copy"


@dataclass(frozen=True, slots=True)
class StrengthLooks:
    """Everything the strength axis is read from."""

    run: Run
    working: float
    control: Look
    candidates: Mapping[float, Look]
    """By strength, ascending, 0 first."""
    untouched: Look
    axis: StyleAxis | Missing
    resampling: Resampling

    @property
    def zero(self) -> Look:
        """Strength 0, adapter attached."""
        return self.candidates[0.0]

    @property
    def strengths(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(self.candidates)


@dataclass(frozen=True, slots=True)
class Guards:
    """Which guards are read at each strength, and against what."""

    looks: StrengthLooks
    gates: tuple[Gate, ...]
    control: Mapping[str, Mapping[Key, float]]
    """Metric to the control's values."""
    candidates: Mapping[float, Mapping[str, Mapping[Key, float]]]
    problems: Mapping[str, str]
    """Guard to why its sensor does not work here."""


def open_guards(looks: StrengthLooks) -> Guards:
    """Which guards are on, with the values that they read along the scale.

    Artefact gates of a run, its prompt, foil and copy gates, and the one on broken pictures. Gates of whole arms are
    not read: a panel is too small for them.

    Args:
        looks: The pictures.
    """
    run = looks.run
    wanted = configured_gates(run.config.gates, suite=run.suite, training=run.training is not None)
    gates = tuple(
        gate for gate in wanted if gate.name in (*PROMPT_GUARDS, COPY_GUARD, "broken") or gate.kind == "artifact"
    )
    control: dict[str, Mapping[Key, float]] = {}
    candidates: dict[float, dict[str, Mapping[Key, float]]] = {strength: {} for strength in looks.strengths}
    for gate in gates:
        control[gate.metric] = looks.control.values(gate.metric)
        for strength, look in looks.candidates.items():
            candidates[strength][gate.metric] = look.values(gate.metric)
    problems = _sensor_problems(looks)
    _add_foils(looks, control, candidates)
    _add_copies(looks, control, candidates, problems=problems)
    return Guards(looks, gates, control, candidates, problems)


def _sensor_problems(looks: StrengthLooks) -> dict[str, str]:
    """A detector that is at chance on the control's pictures measures nothing."""
    run = looks.run
    detector = run.judges.detector
    if detector is None:
        return {"prompt": run.judges.why_absent("detector")}
    tests = detector_self_test(looks.control.aside.images.made, looks.control.aside.features, rulers=run.rulers)
    blind = next((test for test in tests if not test.usable), None)
    if blind is None:
        return {}
    if blind.chance**blind.n_cases > SELF_TEST_LEVEL or blind.win_rate > blind.chance:
        return {
            "prompt": f"too few cases to trust the judge: on the control's pictures {blind.judge} prefers a picture's "
            f"own checks in {blind.win_rate:.0%} of {blind.n_cases} cases, which could be luck (chance "
            f"{blind.chance:.0%}). Add cases with --n-cases."
        }
    return {
        "prompt": f"judge at chance: on the control's pictures {blind.judge} prefers a picture's own checks in "
        f"{blind.win_rate:.0%} of {blind.n_cases} cases (chance {blind.chance:.0%})."
    }


def _add_foils(
    looks: StrengthLooks,
    control: dict[str, Mapping[Key, float]],
    candidates: Mapping[float, dict[str, Mapping[Key, float]]],
) -> None:
    rulers, aside = looks.run.rulers, looks.control.aside
    tests = self_test(aside.images.made, aside.features, rulers=rulers)
    name = "foil_accuracy_score"

    def values(look: Look) -> dict[Key, float]:
        found = measure_foils(look.aside.images.made, look.aside.features, rulers=rulers, tests=tests)
        return {(one.cell.case, one.cell.seed): one.value for one in found.measurements if one.metric == name}

    control[name] = values(looks.control)
    for strength, look in looks.candidates.items():
        candidates[strength][name] = values(look)


def _add_copies(
    looks: StrengthLooks,
    control: dict[str, Mapping[Key, float]],
    candidates: Mapping[float, dict[str, Mapping[Key, float]]],
    *,
    problems: dict[str, str],
) -> None:
    training = looks.run.training
    embedded = None if training is None else training.embedded
    why_not = looks.run.judges.why_absent("lpips")
    for strength, look in looks.candidates.items():
        features = Features(
            distances={**looks.control.aside.features.distances, **look.aside.features.distances},
        )
        images = (*looks.control.aside.images.made, *look.aside.images.made)
        found, _ = measure_copies(images, features, training=embedded, why_not=why_not)
        sides: dict[Arm, dict[Key, float]] = {Arm.CONTROL: {}, Arm.CANDIDATE: {}}
        for one in found.measurements:
            if one.metric == "copy_rate":
                sides[one.cell.arm][one.cell.case, one.cell.seed] = one.value
        control["copy_rate"], candidates[strength]["copy_rate"] = sides[Arm.CONTROL], sides[Arm.CANDIDATE]
        if found.unmeasured:
            problems[COPY_GUARD] = found.unmeasured[0].reason


def verdicts_at(
    guards: Guards, strength: float, *, from_zero: bool, names: Sequence[str] | None = None
) -> tuple[Verdict, ...]:
    """Every guard's verdict at one strength, Holm over all of them.

    Args:
        guards: What is read.
        strength: Where.
        from_zero: Against strength 0 (damage that sets in along the scale) instead of the control.
        names: Only these.
    """
    gates = [gate for gate in guards.gates if names is None or gate.name in names]
    together = [gate if gate.hard else replace(gate, kind="strength") for gate in gates]
    found = {gate.name: _harm(guards, gate, strength, from_zero=from_zero) for gate in gates}
    level = guards.looks.run.config.statistics.significance_level
    return judge(together, found, significance_level=level)


def _harm(guards: Guards, gate: Gate, strength: float, *, from_zero: bool) -> Comparison | Unmeasured:
    """Candidate against its reference.

    That is strength 0 for the prompt's curve, and for artefacts the worst of control, strength 0 and training level:
    a style may be soft, and a base noisy.
    """
    if gate.name in guards.problems:
        return Unmeasured(metric=gate.metric, reason=guards.problems[gate.name])
    candidate = guards.candidates[strength][gate.metric]
    zero, control = guards.candidates[0.0][gate.metric], guards.control[gate.metric]
    metric = METRICS.load(gate.metric)
    reference = zero if from_zero and gate.name in PROMPT_GUARDS else control
    if gate.kind == "artifact":
        reference = _most_allowed(guards, gate, zero=zero, control=control)
    if gate.hard:
        reference = {key: min(value, candidate.get(key, value)) for key, value in control.items()}
    if not candidate:
        look = guards.looks.candidates[strength]
        return Unmeasured(metric=gate.metric, reason=look.reason(gate.metric) or "no picture of the panel has a value.")
    return compare(
        metric,
        candidate,
        reference,
        candidate_arm=Arm.CANDIDATE,
        reference_name="B1",
        family=None,
        confidence_level=guards.looks.run.config.statistics.confidence_level,
        support=gate.support,
    )


def _most_allowed(
    guards: Guards, gate: Gate, *, zero: Mapping[Key, float], control: Mapping[Key, float]
) -> dict[Key, float]:
    worst = min if METRICS.load(gate.metric).higher_is_better else max
    training = guards.looks.run.training
    levels = None if training is None else training.look.readings.get(gate.metric)
    allowed = [] if levels is None or not len(levels) else [float(np.mean(levels))]
    return {key: worst([zero[key], control[key], *allowed]) for key in zero.keys() & control.keys()}


def guard_at(verdict: Verdict) -> GuardAt:
    """A guard's verdict as a sweep records it: harm positive."""
    found = verdict.comparison
    harm = None
    if found is not None:
        gain, low, high = found.oriented()
        harm = Estimated(value=-gain, low=-high, high=-low, n_cases=found.n_cases)
    return GuardAt(
        guard=verdict.gate,
        metric=verdict.metric,
        outcome=verdict.outcome,
        harm=harm,
        margin=verdict.margin,
        p_harm=1.0 if found is None else found.p_harm if verdict.p_adjusted is None else verdict.p_adjusted,
        reason=verdict.reason,
    )


def worst_of(
    guards: Guards, names: Sequence[str], *, strength: float, metric: str, from_zero: bool
) -> Comparison | Unmeasured:
    """The largest of several guards' harms in margins; p-value of the largest beyond its margin, times their number."""
    gates = [gate for gate in guards.gates if gate.name in names]
    found = [(gate, _harm(guards, gate, strength, from_zero=from_zero)) for gate in gates]
    measured = [(gate, one) for gate, one in found if isinstance(one, Comparison)]
    if not measured:
        reasons = [one.reason for _, one in found if isinstance(one, Unmeasured)]
        return Unmeasured(metric=metric, reason=next(iter(reasons), "no guard of this kind is on."))
    harms = []
    for gate, one in measured:
        gain, low, high = one.oriented()
        harms.append((-gain / gate.margin, -high / gate.margin, -low / gate.margin, one))
    estimate, low, _, worst = max(harms, key=lambda row: row[0])
    beyond = [one.p_harm for share, _, _, one in harms if share > 1]
    p = min(1.0, len(harms) * min(beyond, default=worst.p_harm))
    kept = DifferenceInterval(
        estimate=estimate,
        low=low,
        high=max(row[2] for row in harms),
        n_clusters=worst.n_cases,
        n_pairs=worst.n_pairs,
        confidence_level=worst.confidence_level,
        method=worst.method,
        p_lower=1.0,
        p_higher=p,
    )
    return as_comparison(METRICS.load(metric), kept)
