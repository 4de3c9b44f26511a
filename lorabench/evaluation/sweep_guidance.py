"""Looks along guidance → findings: does the candidate still answer to it, haze, figures at low guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.comparing import compare
from lorabench.evaluation.measuring import figures_found
from lorabench.evaluation.sweep_estimates import as_comparison, estimated, interval_of, table
from lorabench.evaluation.sweep_panel import Key, Look, pair_distances
from lorabench.evaluation.sweep_style import curve_of
from lorabench.metrics.anatomy import ANATOMY_SCORE, detector_problem
from lorabench.metrics.guidance import (
    ANATOMY_GUIDANCE_LOSS,
    GUIDANCE_COLLAPSE,
    GUIDANCE_HAZE,
    contrast_losses,
    guidance_collapse,
    log_slope,
    neighbour_response,
    response_problem,
)
from lorabench.metrics.reading import Missing
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.sweep import Curve, Dial, Estimated, GuidanceFindings, Side

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Run
    from lorabench.evaluation.indices import Resampling
    from lorabench.records.images import Image

Floats = NDArray[np.float64]
CONTRAST: Final = "rms_contrast"
CURVES: Final = ("mean_chroma", CONTRAST, "prompt_following_score", "clip_text_similarity")
"""Drawn along guidance, with their slopes."""


@dataclass(frozen=True, slots=True)
class GuidanceLooks:
    """Everything the guidance axis is read from."""

    run: Run
    dial: Dial
    usual: float | None
    candidate: Mapping[float, Look]
    """By guidance, ascending."""
    control: Mapping[float, Look]
    figures: tuple[Look, Look, Look, Look] | None
    """Cases with figures: candidate and control at low guidance, candidate and control at the usual one."""
    resampling: Resampling


@dataclass(frozen=True, slots=True)
class GuidanceRead:
    """What the guidance axis gives."""

    findings: GuidanceFindings
    curves: tuple[Curve, ...]
    found: Mapping[str, Comparison | Unmeasured]


def read_guidance(looks: GuidanceLooks) -> GuidanceRead:
    """Read the guidance axis.

    Args:
        looks: The pictures of candidate and control.
    """
    candidate, distance = _responses(looks, looks.candidate)
    control, _ = _responses(looks, looks.control)
    data = table([candidate, control])
    collapse = _collapse(data, looks)
    responses = [
        interval_of(table([values]), lambda means: means[:, 0], name="guidance_response", resampling=looks.resampling)
        for values in (candidate, control)
    ]
    haze = _haze(looks)
    anatomy = _anatomy(looks)
    findings = GuidanceFindings(
        dial=looks.dial,
        usual=looks.usual,
        distance=distance,
        response=estimated(responses[0]),
        control_response=estimated(responses[1]),
        collapse=_estimated(collapse),
        haze=_estimated(haze),
        anatomy=_estimated(anatomy),
        n_anatomy_cases=anatomy.n_cases if isinstance(anatomy, Comparison) else 0,
    )
    found = {"guidance": collapse, "haze": haze, "anatomy-guidance": anatomy}
    return GuidanceRead(findings, _curves(looks), found)


def _responses(looks: GuidanceLooks, side: Mapping[float, Look]) -> tuple[dict[Key, float], str]:
    """(case, seed) to the mean distance between pictures at neighbouring guidances."""
    images = [look.image_of() for look in side.values()]
    keys = sorted(set.intersection(*(set(one) for one in images)))
    pairs: list[tuple[Image, Image]] = [(before[key], after[key]) for key in keys for before, after in pairwise(images)]
    distances, name = pair_distances(looks.run, pairs)
    rows = neighbour_response(distances.reshape(len(keys), -1)) if keys else np.empty(0)
    return dict(zip(keys, rows.tolist(), strict=True)), name


def _collapse(data: tuple[Floats, ...], looks: GuidanceLooks) -> Comparison | Unmeasured:
    name = GUIDANCE_COLLAPSE.name
    if not data:
        return Unmeasured(metric=name, reason="no case has pictures of both sides at every guidance.")
    if problem := response_problem(np.concatenate(data)[:, 1], dial=looks.dial):
        return Unmeasured(metric=name, reason=problem)
    found = interval_of(
        data, lambda means: guidance_collapse(means[:, 0], means[:, 1]), name=name, resampling=looks.resampling
    )
    return as_comparison(GUIDANCE_COLLAPSE, found)


def _haze(looks: GuidanceLooks) -> Comparison | Unmeasured:
    """Contrast that is missing at the guidance where least of it is."""
    metric = GUIDANCE_HAZE
    training = looks.run.training
    levels = None if training is None else training.look.readings.get(CONTRAST)
    level = None if levels is None or not len(levels) else float(np.mean(levels))
    columns = []
    for guidance, look in looks.candidate.items():
        own, control = look.values(CONTRAST), looks.control[guidance].values(CONTRAST)
        keys = sorted(own.keys() & control.keys())
        losses = contrast_losses([own[key] for key in keys], [control[key] for key in keys], training=level)
        columns.append(dict(zip(keys, losses.tolist(), strict=True)))
    data = table(columns)
    if not data:
        return Unmeasured(metric=metric.name, reason=f"{CONTRAST} has no value on any case at every guidance.")
    found = interval_of(data, lambda means: means.min(axis=1), name=metric.name, resampling=looks.resampling)
    return as_comparison(metric, found)


def _anatomy(looks: GuidanceLooks) -> Comparison | Unmeasured:
    """What figures lose at low guidance against the base, beyond what they lose at the usual one."""
    metric = ANATOMY_GUIDANCE_LOSS
    if looks.figures is None:
        reason = "figures need two cases with figures in the suite, and a usual guidance above the lowest; found none."
        return Unmeasured(metric=metric.name, reason=reason)
    low, low_control, usual, usual_control = looks.figures
    run = looks.run
    if run.judges.detector is None:
        return Unmeasured(metric=metric.name, reason=run.judges.why_absent("detector"))
    aside = usual_control.aside
    seen = figures_found(aside.images.made, aside.features, rulers=run.rulers)
    if problem := detector_problem(seen, where="the control's pictures"):
        return Unmeasured(metric=metric.name, reason=problem)
    return compare(
        metric,
        _lost(low, low_control),
        _lost(usual, usual_control),
        candidate_arm=Arm.CANDIDATE,
        reference_name="none",
        family=None,
        confidence_level=run.config.statistics.confidence_level,
        support=(-2.0, 2.0),
    )


def _lost(candidate: Look, control: Look) -> dict[Key, float]:
    own, base = candidate.values(ANATOMY_SCORE.name), control.values(ANATOMY_SCORE.name)
    return {key: base[key] - own[key] for key in own.keys() & base.keys()}


def _curves(looks: GuidanceLooks) -> tuple[Curve, ...]:
    curves = []
    for name in CURVES:
        for side, by_guidance in ((Side.CANDIDATE, looks.candidate), (Side.CONTROL, looks.control)):
            rows = {guidance: look.values(name) for guidance, look in by_guidance.items()}
            curve = curve_of(name, rows, axis="guidance", side=side, confidence_level=looks.resampling.confidence_level)
            if curve is not None:
                curves.append(curve.model_copy(update={"slope": _slope(name, rows, looks)}))
    return tuple(curves)


def _slope(name: str, rows: Mapping[float, Mapping[Key, float]], looks: GuidanceLooks) -> Estimated | None:
    guidances = list(rows)
    if isinstance(log_slope(guidances, np.zeros((1, len(guidances)))), Missing):
        return None
    data = table(list(rows.values()))
    if not data:
        return None
    found = interval_of(
        data, lambda means: log_slope(guidances, means), name=f"{name}_slope", resampling=looks.resampling
    )
    return estimated(found)


def _estimated(found: Comparison | Unmeasured) -> Estimated | None:
    if isinstance(found, Unmeasured):
        return None
    return Estimated(value=found.estimate, low=found.low, high=found.high, n_cases=found.n_cases)
