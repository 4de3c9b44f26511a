"""Measurements → Results: what needs the whole run is measured, compared and judged, and put into one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lorabench.evaluation.baseline_gates import compare_with_baseline
from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.content_measuring import is_compared_on, measure_content
from lorabench.evaluation.copy_indices import copy_rates_by_kind, has_caption_cases, memorisation_gap_of
from lorabench.evaluation.copy_measuring import measure_descriptor_copies, measure_part_copies
from lorabench.evaluation.density_index import ambient_position_of
from lorabench.evaluation.diversity_indices import diversity_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.gates import Gate
from lorabench.evaluation.identity_indices import identity_consistency_of, identity_drift_of
from lorabench.evaluation.indices import (
    Resampling,
    composition_collapse_of,
    palette_collapse_of,
    palette_pull_of,
    photo_bleed_of,
    set_measurement,
)
from lorabench.evaluation.judging import conclude, judge
from lorabench.evaluation.look_measuring import NO_REFERENCES, measure_looks, photo_levels
from lorabench.evaluation.measuring import (
    CELL_METRICS,
    Measured,
    Rulers,
    broken_named,
    detector_self_test,
    figures_found,
    measure_compositions,
    measure_copies,
    measure_foils,
    self_test,
)
from lorabench.evaluation.slice_indices import SCORES as SLICE_SCORES
from lorabench.evaluation.slice_indices import worst_subject_slice_of
from lorabench.evaluation.style_color_indices import brand_distance_of, training_palette_distance_of
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
INDICES = (
    "palette_collapse",
    "composition_collapse",
    "palette_pull",
    "photo_bleed",
    "ambient_position",
    "memorisation_gap",
    "seed_collapse",
    "case_spread_ratio",
    "eta_squared",
    "vendi_ratio",
    "worst_subject_slice",
    "training_palette_distance",
    "brand_distance",
    "identity_drift",
    "identity_consistency",
)
"""Metrics with one number per arm, in the order of reports."""
NO_CANDIDATE = "nothing can be compared with the control: no candidate is named ([candidate] lora)."
NO_EMPTY_SCENES = (
    "emptiness can be judged only where it is asked for, in the family sparse_scene and by no_extra checks; the suite "
    "has no such case."
)
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
    seen: Mapping[str, str]
    """Metric to what the candidate's pictures show, in words, where numbers do not say it."""


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
        images=broken_named(evidence.images, features),
        failed=evidence.failed,
        training=() if evidence.training is None else evidence.training.records(),
        metrics=_metrics(numbers, verdicts),
        measurements=numbers.measurements,
        set_measurements=(
            *(
                set_measurement(item, arm=Arm.CANDIDATE, scale=evidence.config.candidate.scale, n_pictures=item.n_pairs)
                for item in numbers.indices
                if isinstance(item, Comparison)
            ),
            *copy_rates_by_kind(
                numbers.measurements,
                suite=evidence.suite,
                scale=evidence.config.candidate.scale,
                confidence_level=evidence.config.statistics.confidence_level,
            ),
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
    embedded = None if training is None else training.embedded
    nulls = evidence.suite.novel_cases or {case.id for case in evidence.suite.cases}
    copied, neighbours = measure_copies(images, features, training=embedded, why_not=why_no_copies, null_cases=nulls)
    edited = measure_descriptor_copies(
        images,
        features,
        training=None if training is None else training.described,
        why_not=NO_TRAINING if training is None else rulers.judges.why_absent("descriptor"),
        null_cases=nulls,
    )
    in_part = measure_part_copies(
        images,
        features,
        training=embedded,
        encoder=rulers.judges.lpips,
        why_not=why_no_copies,
        null_cases=nulls,
    )
    composed = measure_compositions(
        images, features, training=None if training is None else training.compositions, why_not=NO_TRAINING
    )
    foils = measure_foils(images, features, rulers=rulers, tests=clip_tests)
    looks = measure_looks(images, features, rulers=rulers, training=training, why_not=NO_TRAINING)
    content = measure_content(images, features, rulers=rulers, training=training)
    parts = [*evidence.measured, copied, edited, in_part, composed, foils, looks, *content.parts]
    detections = detector_self_test(images, features, rulers=rulers)
    indices = (*_indices(evidence), *_gap(evidence, copied), *_worst_slice(evidence, parts, tests=detections))
    unmeasured = [item for part in parts for item in part.unmeasured]
    return _Numbers(
        measurements=tuple(item for part in parts for item in part.measurements),
        unmeasured=(*unmeasured, *(item for item in indices if isinstance(item, Unmeasured))),
        neighbours=tuple(neighbours),
        self_tests=(*clip_tests, *detections),
        indices=indices,
        seen=content.seen,
    )


def _gap(evidence: Evidence, copied: Measured) -> tuple[Comparison | Unmeasured, ...]:
    """The gap between verbatim and novel prompts, where the suite has verbatim ones."""
    if evidence.adapter is None or not has_caption_cases(evidence.suite):
        return ()
    resampling = _resampling(evidence)
    return (memorisation_gap_of(copied.measurements, suite=evidence.suite, resampling=resampling),)


def _resampling(evidence: Evidence) -> Resampling:
    statistics = evidence.config.statistics
    return Resampling(statistics.seed, statistics.n_resamples, statistics.confidence_level)


def _of_novel_cases(features: Features, suite: Suite) -> Features:
    """Without the pictures of prompts made from captions, which decide nothing."""
    if not has_caption_cases(suite):
        return features
    novel = suite.novel_cases
    return replace(features, digest_of={cell: sha for cell, sha in features.digest_of.items() if cell.case in novel})


def _indices(evidence: Evidence) -> tuple[Comparison | Unmeasured, ...]:
    if evidence.adapter is None:
        return ()
    resampling = _resampling(evidence)
    features, scale = _of_novel_cases(evidence.features, evidence.suite), evidence.config.candidate.scale
    look = None if evidence.training is None else evidence.training.look
    bleed = photo_bleed_of(features, look, scale=scale, resampling=resampling)
    return (
        palette_collapse_of(features, scale=scale, resampling=resampling),
        composition_collapse_of(features, scale=scale, resampling=resampling),
        palette_pull_of(features, look, scale=scale, resampling=resampling),
        bleed,
        ambient_position_of(features, look, scale=scale, resampling=resampling),
        *diversity_of(features, scale=scale, resampling=resampling),
        *_of_training(evidence, bleed=bleed),
    )


def _of_training(evidence: Evidence, *, bleed: Comparison | Unmeasured) -> tuple[Comparison | Unmeasured, ...]:
    """Have its colours been learned, and the character that it shows?"""
    training, config = evidence.training, evidence.config
    resampling, scale = _resampling(evidence), config.candidate.scale
    features = _of_novel_cases(evidence.features, evidence.suite)
    look, looks = (None, None) if training is None else (training.look, training.looks)
    references = None if training is None else training.references
    why_not = NO_REFERENCES if config.training_set.references is None else evidence.rulers.judges.why_absent("clip")
    colors = training_palette_distance_of(
        features, look, suite=evidence.suite, looks=looks, bleed=bleed, scale=scale, resampling=resampling
    )
    brand = (
        (brand_distance_of(features, look, scale=scale, resampling=resampling),)
        if config.training_set.brand_palette
        else ()
    )
    level = config.statistics.confidence_level
    return (
        colors,
        *brand,
        identity_drift_of(features, references, why_not=why_not, scale=scale, resampling=resampling),
        identity_consistency_of(features, references, why_not=why_not, scale=scale, confidence_level=level),
    )


def _worst_slice(
    evidence: Evidence, parts: Sequence[Measured], *, tests: Sequence[SelfTest]
) -> tuple[Comparison | Unmeasured, ...]:
    """The worst kind of subject; a detector at chance has no say."""
    if evidence.adapter is None:
        return ()
    blind = any(not test.usable for test in tests)
    measurements = [
        item
        for part in parts
        for item in part.measurements
        if item.metric in SLICE_SCORES and not (blind and item.metric == "prompt_following_score")
    ]
    return (
        worst_subject_slice_of(
            evidence.suite,
            measurements,
            confidence_level=evidence.config.statistics.confidence_level,
            same_pictures=identical_pictures(evidence.images),
        ),
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
        [item for item in numbers.measurements if item.cell.case in evidence.suite.novel_cases],
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
        shown = comparison.model_copy(update={"seen": numbers.seen.get(gate.metric, "")})
        return _saturated(gate, comparison) or shown
    reasons = (item.reason for item in numbers.unmeasured if item.metric == gate.metric)
    return comparison.model_copy(update={"reason": next(reasons, comparison.reason)})


def _allowed(gate: Gate, evidence: Evidence) -> float | None:
    """Level of the training pictures that the candidate may have; None where the gate allows none, or it is unknown."""
    if gate.allowance == "none" or evidence.training is None:
        return None
    levels = evidence.training.look.readings.get(gate.metric)
    if gate.metric == "photo_probability":
        levels = _photo_levels(evidence)
    if levels is None or not len(levels):
        return None
    if gate.allowance == "training_mean":
        return float(levels.mean())
    higher_is_better = METRICS.load(gate.metric).higher_is_better
    return float(np.quantile(levels, 0.05 if higher_is_better else 0.95))


def _photo_levels(evidence: Evidence) -> Any:
    """Photo probability of the training pictures, if CLIP has seen them."""
    clip, training = evidence.rulers.judges.clip, evidence.training
    if clip is None or training is None or training.looks is None:
        return None
    return photo_levels(evidence.features, training.looks, logit_scale=clip.logit_scale)


def _saturated(gate: Gate, comparison: Comparison) -> Unmeasured | None:
    """A rate that is high in the control already has no room in which harm could be seen."""
    control = comparison.reference_mean
    if gate.metric == "photo_probability" and control is not None and control > 1.0 - gate.margin:
        reason = (
            f"the control's pictures look like photographs already (mean probability {control:.2f}): no room is left."
        )
        return Unmeasured(metric=gate.metric, reason=reason)
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
    novel = evidence.suite.novel_cases
    cases = {
        case.id
        for case in evidence.suite.cases
        if case.id in novel and family in (None, case.family) and is_compared_on(name, case, rulers=evidence.rulers)
    }
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
    if gate.metric == "empty_space_clutter" and not any(
        is_compared_on(gate.metric, case, rulers=evidence.rulers) for case in evidence.suite.cases
    ):
        return NO_EMPTY_SCENES
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
