"""Has the candidate learned the training pictures' colours along with their technique?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.axis_indices import Axis, axis_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import Grid, Resampling, TrainingLook, case_means, common_seeds, resampled
from lorabench.metrics.palette import mean_training_distance
from lorabench.metrics.style_similarity import likeness_level, mean_cosine
from lorabench.metrics.training_palette import (
    BRAND_DISTANCE,
    LEAST_CASES,
    LEAST_TRAINING,
    TRAINING_PALETTE_DISTANCE,
    is_neutral,
    palette_axis_problem,
    training_level,
)
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.suite import PaletteCheck, Suite

Vectors = NDArray[np.float32]
ARMS: Final = (Arm.CANDIDATE, Arm.CONTROL)
WHOLE, FIGURE = 0, 1
"""Rows of a palette sketch."""
LEARNED: Final = 0.25
"""Share of the way to the training look from which a technique counts as learned."""


def training_palette_distance_of(
    features: Features,
    training: TrainingLook | None,
    *,
    suite: Suite,
    looks: Vectors | None,
    bleed: Comparison | Unmeasured,
    scale: float,
    resampling: Resampling,
) -> Comparison | Unmeasured:
    """How much of the control's distance to the training palette is left, where the technique has been learned.

    Read on neutral cases, with the even ground and without it, and the larger of the two that can be read is taken. A
    suite that names colours everywhere is read on its cases without a palette check, with the ground only: what a
    prompt asks for, its figures should show.

    Args:
        features: Palette sketches, and CLIP's vectors where there are any.
        training: Sketches of the training pictures; None without any.
        suite: Says which cases leave colours open.
        looks: CLIP's vectors of the training pictures, (m, d); None without CLIP.
        bleed: `photo_bleed` of the run, the other witness of technique.
        scale: The candidate's.
        resampling: How intervals are made.

    Returns:
        The index; unmeasured without training pictures, where their colours cannot be told from the control's, and
        where nothing shows that the technique was learned.
    """
    name = TRAINING_PALETTE_DISTANCE.name
    if training is None or len(training.sketches) < LEAST_TRAINING:
        n = 0 if training is None else len(training.sketches)
        reason = f"{name} needs at least {LEAST_TRAINING} training pictures; found {n}."
        return Unmeasured(metric=name, reason=reason)
    cases, rows = _cases(suite)
    grid = common_seeds(features, ARMS, of=features.sketches)
    chosen = {case: seeds for case, seeds in grid.items() if case in cases}
    axes, problems = _axes(features, training, chosen, rows=rows, scale=scale)
    if not axes:
        return Unmeasured(metric=name, reason=f"{name}: {' '.join(problems)}")
    learned = learned_share(features, chosen, looks=looks, bleed=bleed, scale=scale)
    if learned is None or learned < LEARNED:
        seen = "neither CLIP nor texture can tell" if learned is None else f"{max(learned, 0.0):.0%} of the way"
        reason = (
            f"{name} asks for colours where the technique is learned; that must be {LEARNED:.0%} of the way to the "
            f"training look or more: {seen}. Train longer, or read palette_pull."
        )
        return Unmeasured(metric=name, reason=reason)
    return _index(TRAINING_PALETTE_DISTANCE, axes, resampling=resampling)


def brand_distance_of(
    features: Features, training: TrainingLook | None, *, scale: float, resampling: Resampling
) -> Comparison | Unmeasured:
    """How much of the control's distance to the brand's palette is left where prompts ask for other colours.

    Args:
        features: Palette embeddings of the palette cases.
        training: Those of the training pictures, whose palette is the brand's.
        scale: The candidate's.
        resampling: How intervals are made.
    """
    name = BRAND_DISTANCE.name
    if training is None or len(training.palettes) < LEAST_TRAINING:
        n = 0 if training is None else len(training.palettes)
        reason = f"{name} needs at least {LEAST_TRAINING} training pictures; found {n}."
        return Unmeasured(metric=name, reason=reason)
    grid = common_seeds(features, ARMS, of=features.palette)
    level, error = training_level(training.palettes)

    def distance(vectors: Vectors) -> Any:
        return mean_training_distance(vectors, training.palettes)

    axis = axis_of(features, grid, of=features.palette, distance=distance, level=level, scale=scale)
    if problem := palette_axis_problem(axis.control, level, error):
        return Unmeasured(metric=name, reason=f"{name}, on palette cases: {problem}")
    return _index(BRAND_DISTANCE, [axis], resampling=resampling)


def learned_share(
    features: Features, grid: Grid, *, looks: Vectors | None, bleed: Comparison | Unmeasured, scale: float
) -> float | None:
    """How far the technique has come from the control to the training pictures, by the witness that sees more.

    Returns:
        1 less the share that is left by CLIP's likeness to the training pictures, or 1 less `photo_bleed`, whichever
        is larger; None where neither can be read.
    """
    shares = [] if isinstance(bleed, Unmeasured) else [1.0 - bleed.estimate]
    if looks is not None and len(looks) >= LEAST_TRAINING and len(grid) >= LEAST_CASES:
        level, error = likeness_level(looks)

        def distance(vectors: Vectors) -> Any:
            return 1.0 - mean_cosine(vectors, looks)

        axis = axis_of(features, grid, of=features.clip, distance=distance, level=1.0 - level, scale=scale)
        if palette_axis_problem(axis.control, axis.level, error) is None:
            shares.append(1.0 - axis.estimate)
    return max(shares, default=None)


def _cases(suite: Suite) -> tuple[frozenset[str], tuple[int, ...]]:
    """Cases to read colours on, and which rows of their sketches say something."""
    neutral = [case.id for case in suite.cases if is_neutral(case)]
    if len(neutral) >= LEAST_CASES:
        return frozenset(neutral), (WHOLE, FIGURE)
    return frozenset(_without_palette(suite)), (WHOLE,)


def _without_palette(suite: Suite) -> Iterable[str]:
    return (case.id for case in suite.cases if not any(isinstance(check, PaletteCheck) for check in case.checks))


def _axes(
    features: Features, training: TrainingLook, grid: Grid, *, rows: Sequence[int], scale: float
) -> tuple[list[Axis], list[str]]:
    """The readings on which control and training differ, and why the others cannot be used."""
    axes, problems = [], []
    for row in rows:
        trained = training.sketches[:, row]
        level, error = training_level(trained)
        of = {sha: sketch[row] for sha, sketch in features.sketches.items()}

        def distance(vectors: Vectors, trained: Vectors = trained) -> Any:
            return mean_training_distance(vectors, trained)

        axis = axis_of(features, grid, of=of, distance=distance, level=level, scale=scale)
        problem = palette_axis_problem(axis.control, level, error)
        if problem is None:
            axes.append(axis)
        else:
            problems.append(f"{'with' if row == WHOLE else 'without'} the even ground, {problem}")
    return axes, problems


def _index(metric: Metric, axes: Sequence[Axis], *, resampling: Resampling) -> Comparison | Unmeasured:
    """The largest share that is left over all readings, resampled by case."""
    data = [np.concatenate(cases, axis=1) for cases in zip(*(axis.data for axis in axes), strict=True)]

    def statistic(drawn: Any) -> Any:
        by_case = case_means(drawn)  # (r, k, 2 x readings)
        return np.max([axis.left(by_case[..., 2 * i : 2 * i + 2]) for i, axis in enumerate(axes)], axis=0)

    return resampled(metric, statistic, data, reference="training", resampling=resampling)
