"""Measurements → Results: what needs the whole run is measured, compared and judged, and put into one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lorabench.evaluation.baseline_gates import compare_with_baseline
from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.gates import Gate
from lorabench.evaluation.indices import (
    Resampling,
    composition_collapse_of,
    palette_collapse_of,
    palette_pull_of,
    photo_bleed_of,
    set_measurement,
)
from lorabench.evaluation.judging import conclude, judge
from lorabench.evaluation.measuring import (
    CELL_METRICS,
    Measured,
    Rulers,
    detector_self_test,
    figures_found,
    measure_compositions,
    measure_copies,
    measure_foils,
    self_test,
)
from lorabench.metrics.anatomy import detector_problem
from lorabench.records.comparison import Comparison, Verdict
from lorabench.records.images import FailedCell, Image
from lorabench.records.measurement import Measurement, Metric, Neighbour, SelfTest, Unmeasured
from lorabench.records.plan import Arm, Plan
from lorabench.records.results import CellDetections, Results
from lorabench.registry import METRICS

if TYPE_CHECKING:
    from lorabench.evaluation.training_look import Training
    from lorabench.records.baseline import Baseline
    from lorabench.records.config import Config
    from lorabench.records.results import AdapterInfo, BaseInfo, Provenance
    from lorabench.records.suite import Suite

SHOWN_BY_FAMILY = ("prompt_following_score", "anatomy_score", "palette_compliance_score", "clip_text_similarity")
"""Cell metrics that are also compared family by family, for the reader."""
INDICES = ("palette_collapse", "composition_collapse", "palette_pull", "photo_bleed")
"""Metrics with one number per arm, in the order of reports."""
NO_CANDIDATE = "nothing can be compared with the control: no candidate is named ([candidate] lora)."
NO_TRAINING = "no training pictures are configured ([training_set] folder)"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run knows once its pictures are made and measured one by one.

    Attributes:
        config: Settings.
        suite: The held-out prompts.
        plan: The planned cells.
        gates: What is to be decided.
        images: Pictures of all arms.
        failed: Cells without a picture.
        measured: What each case gave.
        features: What is known of the pictures.
        rulers: What they were measured with.
        training: The training pictures, if there are any, after the round trip.
        adapter: The candidate; None for the base alone.
        baseline: Accepted numbers to compare with, if any.
    """

    config: Config
    suite: Suite
    plan: Plan
    gates: tuple[Gate, ...]
    images: tuple[Image, ...]
    failed: tuple[FailedCell, ...]
    measured: tuple[Measured, ...]
    features: Features
    rulers: Rulers
    training: Training | None
    adapter: AdapterInfo | None
    baseline: Baseline | None


SELF_TEST_LEVEL = 0.05
"""Significance level of the judges' self-tests."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    measurements: tuple[Measurement, ...]
    unmeasured: tuple[Unmeasured, ...]
    neighbours: tuple[Neighbour, ...]
    self_tests: tuple[SelfTest, ...]
    indices: tuple[Comparison | Unmeasured, ...]


def assemble(evidence: Evidence, *, run_id: str, base: BaseInfo, provenance: Provenance) -> Results:
    """Measure what needs the whole run, compare, judge, and put everything into one record.

    Args:
        evidence: What was made and measured.
        run_id: Name of the run.
        base: The base it was made with.
        provenance: Versions, times, judges.

    Returns:
        The results; equal evidence gives equal results but for the provenance.
    """
    numbers = _numbers_of(evidence)
    gates, verdicts = _decided(evidence, numbers)
    missing = what_is_missing(evidence)
    features = evidence.features
    gated = [verdict.comparison for verdict in verdicts if verdict.comparison is not None]
    return Results(
        run_id=run_id,
        suite=evidence.suite,
        style=evidence.config.style,
        settings=evidence.config.generation,
        base=base,
        candidate=evidence.adapter,
        plan=evidence.plan.cells,
        images=evidence.images,
        failed=evidence.failed,
        training=() if evidence.training is None else evidence.training.records(),
        metrics=_metrics(numbers, verdicts),
        measurements=numbers.measurements,
        set_measurements=tuple(
            set_measurement(item, arm=Arm.CANDIDATE, scale=evidence.config.candidate.scale, n_pictures=item.n_pairs)
            for item in numbers.indices
            if isinstance(item, Comparison)
        ),
        unmeasured=numbers.unmeasured,
        neighbours=numbers.neighbours,
        detections=tuple(
            CellDetections(cell=image.cell, detections=features.detections[image.sha256])
            for image in evidence.images
            if image.sha256 in features.detections
        ),
        checks=tuple(item for part in evidence.measured for item in part.checks),
        palettes={image.cell.key: features.colors[image.sha256] for image in evidence.images},
        self_tests=numbers.self_tests,
        comparisons=(*gated, *_shown(evidence, numbers)),
        gates=verdicts,
        verdict=conclude(
            verdicts,
            gates,
            complete=missing is None,
            missing=missing,
            identical=identical_pictures(evidence.images),
        ),
        provenance=provenance,
    )


def identical_pictures(images: Sequence[Image]) -> bool:
    """Whether there are candidate pictures and each is bit-equal to its control."""
    control = {(i.cell.case, i.cell.seed): i.sha256 for i in images if i.cell.arm is Arm.CONTROL}
    candidate = {(i.cell.case, i.cell.seed): i.sha256 for i in images if i.cell.arm is Arm.CANDIDATE}
    return bool(candidate) and candidate == control


def what_is_missing(evidence: Evidence) -> str | None:
    """What is missing from a complete run, in words; None if nothing is."""
    n_cases = len({cell.cell.case for cell in evidence.plan.cells})
    if n_cases < len(evidence.suite.cases):
        return f"{n_cases} of {len(evidence.suite.cases)} cases"
    if evidence.failed:
        return f"{len(evidence.failed)} of {len(evidence.plan.cells)} pictures could not be made"
    return None


def _numbers_of(evidence: Evidence) -> _Numbers:
    images, features, rulers, training = evidence.images, evidence.features, evidence.rulers, evidence.training
    clip_tests = self_test(images, features, rulers=rulers)
    why_no_copies = NO_TRAINING if training is None else rulers.judges.why_absent("lpips")
    copied, neighbours = measure_copies(
        images, features, training=None if training is None else training.embedded, why_not=why_no_copies
    )
    composed = measure_compositions(
        images, features, training=None if training is None else training.compositions, why_not=NO_TRAINING
    )
    foils = measure_foils(images, features, rulers=rulers, tests=clip_tests)
    parts = [*evidence.measured, copied, composed, foils]
    indices = _indices(evidence)
    unmeasured = [item for part in parts for item in part.unmeasured]
    return _Numbers(
        measurements=tuple(item for part in parts for item in part.measurements),
        unmeasured=(*unmeasured, *(item for item in indices if isinstance(item, Unmeasured))),
        neighbours=tuple(neighbours),
        self_tests=(*clip_tests, *detector_self_test(images, features, rulers=rulers)),
        indices=indices,
    )


def _indices(evidence: Evidence) -> tuple[Comparison | Unmeasured, ...]:
    if evidence.adapter is None:
        return ()
    statistics = evidence.config.statistics
    resampling = Resampling(statistics.seed, statistics.n_resamples, statistics.confidence_level)
    features, scale = evidence.features, evidence.config.candidate.scale
    look = None if evidence.training is None else evidence.training.look
    return (
        palette_collapse_of(features, scale=scale, resampling=resampling),
        composition_collapse_of(features, scale=scale, resampling=resampling),
        palette_pull_of(features, look, scale=scale, resampling=resampling),
        photo_bleed_of(features, look, scale=scale, resampling=resampling),
    )


def _decided(evidence: Evidence, numbers: _Numbers) -> tuple[tuple[Gate, ...], tuple[Verdict, ...]]:
    """All gates, those against the baseline last, and their verdicts."""
    statistics = evidence.config.statistics
    problems = {gate.name: problem for gate in evidence.gates if (problem := _sensor_problem(gate, evidence, numbers))}
    found = {gate.name: _found(gate, evidence, numbers, problem=problems.get(gate.name)) for gate in evidence.gates}
    verdicts = judge(evidence.gates, found, significance_level=statistics.significance_level)
    if evidence.baseline is None or evidence.adapter is None:
        return evidence.gates, verdicts
    against, found_against = compare_with_baseline(
        evidence.baseline,
        numbers.measurements,
        images=evidence.images,
        gates=evidence.gates,
        problems=problems,
        confidence_level=statistics.confidence_level,
    )
    more = judge(against, found_against, significance_level=statistics.significance_level)
    return (*evidence.gates, *against), (*verdicts, *more)


def _found(gate: Gate, evidence: Evidence, numbers: _Numbers, *, problem: str | None) -> Comparison | Unmeasured:
    """What a gate against the control decides on, or why there is nothing."""
    if evidence.adapter is None:
        return Unmeasured(metric=gate.metric, reason=NO_CANDIDATE)
    for item in numbers.indices:
        if item.metric == gate.metric:
            return item
    if problem is not None:
        return Unmeasured(metric=gate.metric, reason=problem)
    comparison = _compared(
        gate.metric,
        evidence,
        numbers,
        reference="B1",
        support=gate.support,
        same_pictures=identical_pictures(evidence.images),
        only_harm=gate.hard,
        allowed=_allowed(gate, evidence),
    )
    if isinstance(comparison, Comparison):
        return _saturated(gate, comparison) or comparison
    reasons = (item.reason for item in numbers.unmeasured if item.metric == gate.metric)
    return comparison.model_copy(update={"reason": next(reasons, comparison.reason)})


def _allowed(gate: Gate, evidence: Evidence) -> float | None:
    """Level of the training pictures that the candidate may have; None where the gate allows none, or it is unknown."""
    if gate.allowance == "none" or evidence.training is None:
        return None
    levels = evidence.training.look.readings.get(gate.metric)
    if levels is None or not len(levels):
        return None
    if gate.allowance == "training_mean":
        return float(levels.mean())
    higher_is_better = METRICS.load(gate.metric).higher_is_better
    return float(np.quantile(levels, 0.05 if higher_is_better else 0.95))


def _saturated(gate: Gate, comparison: Comparison) -> Unmeasured | None:
    """A rate that is high in the control already has no room in which harm could be seen."""
    control = comparison.reference_mean
    if gate.metric != "composition_copy_rate" or control is None or control <= 0.5:
        return None
    reason = (
        f"in {control:.0%} of the control's pictures the composition is like some training picture's: the training set "
        "is too varied for this sensor."
    )
    return Unmeasured(metric=gate.metric, reason=reason)


def _shown(evidence: Evidence, numbers: _Numbers) -> list[Comparison]:
    """Comparisons that no gate decides on: with the base, and family by family."""
    found = [_compared(metric.name, evidence, numbers, reference="B0") for metric in CELL_METRICS]
    found += [
        _compared(name, evidence, numbers, reference="B1", family=family)
        for name in SHOWN_BY_FAMILY
        for family in evidence.suite.families
    ]
    return [item for item in found if isinstance(item, Comparison)]


def _compared(
    name: str,
    evidence: Evidence,
    numbers: _Numbers,
    *,
    reference: Literal["B0", "B1"],
    family: str | None = None,
    support: tuple[float, float] | None = None,
    same_pictures: bool = False,
    only_harm: bool = False,
    allowed: float | None = None,
) -> Comparison | Unmeasured:
    cases = {case.id for case in evidence.suite.cases if family is None or case.family == family}
    chosen = [item for item in numbers.measurements if item.cell.case in cases]
    candidate = values_of(chosen, metric=name, arm=Arm.CANDIDATE)
    control = values_of(chosen, metric=name, arm=Arm(reference))
    if only_harm:
        # A picture that is whole where its control is broken must not make up for one that is broken.
        control = {key: min(value, candidate.get(key, value)) for key, value in control.items()}
    metric = METRICS.load(name)
    if allowed is not None:
        worse = min if metric.higher_is_better else max
        control = {key: worse(value, allowed) for key, value in control.items()}
    return compare(
        metric,
        candidate,
        control,
        candidate_arm=Arm.CANDIDATE,
        reference_name=reference,
        family=family,
        confidence_level=evidence.config.statistics.confidence_level,
        support=support,
        same_pictures=same_pictures,
    )


def _sensor_problem(gate: Gate, evidence: Evidence, numbers: _Numbers) -> str | None:
    """Why the gate's sensor does not work on the control's pictures; None if it does, or has no self-test."""
    detector = evidence.rulers.judges.detector
    if detector is None:
        return None
    if gate.kind == "prompt":
        test = next((test for test in numbers.self_tests if test.judge == detector.name), None)
        if test is not None and not test.usable and test.chance**test.n_cases > SELF_TEST_LEVEL:
            return (
                f"too few cases to test the judge: {test.n_cases} with checks on objects, and even {test.n_cases} of "
                f"{test.n_cases} could be luck (chance {test.chance:.0%}). Add cases."
            )
        if test is not None and not test.usable:
            return (
                f"judge at chance: on the control's pictures {detector.name} prefers a picture's own checks in "
                f"{test.win_rate:.0%} of {test.n_cases} cases (chance {test.chance:.0%})."
            )
    if gate.kind == "anatomy":
        found = figures_found(evidence.images, evidence.features, rulers=evidence.rulers)
        return detector_problem(found, where="the control's pictures")
    return None


def _metrics(numbers: _Numbers, verdicts: Sequence[Verdict]) -> tuple[Metric, ...]:
    used = {item.metric for item in numbers.measurements} | {verdict.metric for verdict in verdicts} | set(INDICES)
    names = [*(metric.name for metric in CELL_METRICS), *INDICES]
    return tuple(METRICS.load(name) for name in names if name in used)
