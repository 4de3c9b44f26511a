"""Indices of whole arms: collapse, pull, bleed. Their zero is the reference, so they are differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorabench.errors import MeasurementError
from lorabench.evaluation.comparing import Reference, from_interval
from lorabench.evaluation.encoding import Features
from lorabench.metrics.palette import PALETTE_COLLAPSE, PALETTE_PULL, mean_training_distance
from lorabench.metrics.response import PromptResponse, collapse_problem, distance_matrix
from lorabench.metrics.structure import COMPOSITION_COLLAPSE
from lorabench.metrics.texture import PHOTO_BLEED, TextureAxis, axis_problem, texture_values
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric, SetMeasurement, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.statistics.intervals import DifferenceInterval
from lorabench.statistics.resampling import two_stage_bootstrap

Floats = NDArray[np.float64]
Grid = Mapping[str, tuple[int, ...]]
"""Case to the seeds that both arms have."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals of indices are made."""

    seed: int
    n_resamples: int
    confidence_level: float

    def rng(self, metric: str) -> np.random.Generator:
        """A generator of the metric's own: adding a metric does not move the intervals of the others."""
        return np.random.default_rng([self.seed, *metric.encode()])


@dataclass(frozen=True, slots=True)
class TrainingLook:
    """The training pictures as numbers, after a VAE round trip and the same resizing.

    Attributes:
        sigmas: Smooth-zone sigma of each, (m,), grey levels.
        fractions: Flat fraction of each, (m,).
        palettes: Palette embeddings, (m, d).
        structures: Structure descriptors, (m, d).
        readings: Name of each picture metric to its numbers, (k,), of those of the pictures that it can read.
        sketches: Palette sketches, with and without the even ground, (m, 2, d).
    """

    sigmas: Floats
    fractions: Floats
    palettes: Floats
    structures: NDArray[np.float32]
    readings: Mapping[str, Floats] = field(default_factory=dict)
    sketches: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2, 0), dtype=np.float32))


def palette_collapse_of(features: Features, *, scale: float, resampling: Resampling) -> Comparison | Unmeasured:
    """How much of the control's colour response the candidate has lost, over the palette cases."""
    return _collapse_of(PALETTE_COLLAPSE, features, of=features.palette, scale=scale, resampling=resampling)


def composition_collapse_of(features: Features, *, scale: float, resampling: Resampling) -> Comparison | Unmeasured:
    """How much of the control's response in composition the candidate has lost, over all cases."""
    return _collapse_of(COMPOSITION_COLLAPSE, features, of=features.structure, scale=scale, resampling=resampling)


def _collapse_of(
    metric: Metric,
    features: Features,
    *,
    of: Mapping[str, NDArray[np.float32]],
    scale: float,
    resampling: Resampling,
) -> Comparison | Unmeasured:
    grid = common_seeds(features, (Arm.CANDIDATE, Arm.CONTROL), of=of)
    if len(grid) < 2 or max(len(seeds) for seeds in grid.values()) < 2:
        reason = f"{metric.name} needs cases with two seeds or more; found {len(grid)} cases that it can read."
        return Unmeasured(metric=metric.name, reason=reason)
    arms = {}
    for arm in (Arm.CANDIDATE, Arm.CONTROL):
        vectors, cases = vectors_of(features, grid, of=of, arm=arm, scale=scale)
        equal = bool((vectors == vectors[0]).all())  # a matrix product would leave rounding between them
        distances = np.zeros((len(vectors), len(vectors))) if equal else distance_matrix(vectors)
        arms[arm] = PromptResponse(distances, cases)
    if problem := collapse_problem(arms[Arm.CONTROL]):
        return Unmeasured(metric=metric.name, reason=problem)
    if not arms[Arm.CANDIDATE].distances.any():
        return total_collapse(metric, n_cases=len(grid), n_pictures=len(cases), resampling=resampling)

    # Cases are drawn whole. With two seeds a second stage would draw one of them twice in every other case, and the
    # distances within cases, which the index needs, would be missing from some resamples altogether.
    def statistic(drawn: Any) -> Any:
        rows = np.asarray(drawn).reshape(len(drawn), -1)
        counts = np.stack([np.bincount(row, minlength=len(grid)) for row in rows])  # (r, k)
        weights = counts[:, cases]  # (r, n)
        return 1.0 - arms[Arm.CANDIDATE].of(weights) / arms[Arm.CONTROL].of(weights)

    data = [np.array([case]) for case in range(len(grid))]
    found = resampled(metric, statistic, data, reference="B1", resampling=resampling)
    return found.model_copy(update={"n_pairs": len(cases)}) if isinstance(found, Comparison) else found


def total_collapse(metric: Metric, *, n_cases: int, n_pictures: int, resampling: Resampling) -> Comparison:
    """All candidate pictures are equal in this: the index is 1 on any sample of them, and resampling adds nothing.

    The p-value is that of the sign-flip test where all cases have one sign.
    """
    interval = DifferenceInterval(
        estimate=1.0,
        low=1.0,
        high=1.0,
        n_clusters=n_cases,
        n_pairs=n_pictures,
        confidence_level=resampling.confidence_level,
        method="equal_cases",
        spread=0.0,
        p_lower=1.0,
        p_higher=0.5**n_cases,
    )
    return from_interval(metric, interval, candidate_arm=Arm.CANDIDATE, reference_name="B1")


def palette_pull_of(
    features: Features, training: TrainingLook | None, *, scale: float, resampling: Resampling
) -> Comparison | Unmeasured:
    """How far the candidate's colours have moved to the training pictures', over the palette cases."""
    grid = common_seeds(features, (Arm.CANDIDATE, Arm.CONTROL), of=features.palette)
    if training is None or not grid:
        reason = "a pull needs training pictures and palette cases; found none of one of them."
        return Unmeasured(metric=PALETTE_PULL.name, reason=reason)
    candidate, cases = vectors_of(features, grid, of=features.palette, arm=Arm.CANDIDATE, scale=scale)
    control, _ = vectors_of(features, grid, of=features.palette, arm=Arm.CONTROL, scale=scale)
    pairs = np.stack(
        [mean_training_distance(candidate, training.palettes), mean_training_distance(control, training.palettes)],
        axis=1,
    )  # (n, 2)
    data = [pairs[cases == case] for case in range(len(grid))]

    def statistic(drawn: Any) -> Any:
        means = _picture_means(drawn)  # (r, 2)
        return 1.0 - means[:, 0] / means[:, 1]

    return resampled(PALETTE_PULL, statistic, data, reference="B1", resampling=resampling)


def photo_bleed_of(
    features: Features, training: TrainingLook | None, *, scale: float, resampling: Resampling
) -> Comparison | Unmeasured:
    """Where the candidate's texture lies between training pictures (0) and base (1), the larger of two readings."""
    name = PHOTO_BLEED.name
    if training is None:
        return Unmeasured(metric=name, reason="a bleed needs training pictures; none are configured.")
    grid = common_seeds(features, (Arm.CANDIDATE, Arm.BASE), of=features.texture)
    if not grid:
        return Unmeasured(metric=name, reason="a bleed needs pictures of base (B0) and candidate; found none.")
    data = [_textures(features, case, seeds, scale=scale) for case, seeds in grid.items()]
    axes: dict[TextureAxis, Floats] = {"sigma": training.sigmas, "flat_fraction": training.fractions}
    means = np.stack([case.mean(axis=0) for case in data])  # (k, 4)
    problems = {axis: axis_problem(axes[axis], means[:, 2 * index + 1], axis=axis) for index, axis in enumerate(axes)}
    readable = [index for index, axis in enumerate(axes) if problems[axis] is None]
    if not readable:
        return Unmeasured(metric=name, reason=" ".join(str(problem) for problem in problems.values()))
    lows = [float(texture_values(values, axis=axis).mean()) for axis, values in axes.items()]

    def statistic(drawn: Any) -> Any:
        by_case = case_means(drawn)  # (r, k, 4)
        return np.max([_positions(by_case, index, lows[index]) for index in readable], axis=0)

    return resampled(PHOTO_BLEED, statistic, data, reference="training", resampling=resampling)


def set_measurement(comparison: Comparison, *, arm: Arm, scale: float, n_pictures: int) -> SetMeasurement:
    """An index as a measurement of the candidate's arm."""
    return SetMeasurement(
        metric=comparison.metric,
        metric_version=comparison.metric_version,
        arm=arm,
        scale=scale,
        value=comparison.estimate,
        low=comparison.low,
        high=comparison.high,
        confidence_level=comparison.confidence_level,
        n_cases=comparison.n_cases,
        n_pictures=n_pictures,
        method=comparison.method,
    )


def case_means(drawn: Any) -> Floats:
    """Means over seeds, (r, k, c), of resamples (r, k, s, c), or of one list of k arrays (s, c) each."""
    if isinstance(drawn, np.ndarray):
        return np.asarray(drawn.mean(axis=2))
    return np.stack([[case.mean(axis=0) for case in sample] for sample in drawn])


def _picture_means(drawn: Any) -> Floats:
    """Means over all pictures, (r, c), of the same."""
    if isinstance(drawn, np.ndarray):
        return np.asarray(drawn.reshape(len(drawn), -1, drawn.shape[-1]).mean(axis=1))
    return np.stack([np.concatenate(sample).mean(axis=0) for sample in drawn])


def _positions(means: Floats, index: int, low: float) -> Floats:
    """Positions (r,) of the candidate between training (`low`) and base.

    `means` is (r, k, 4): sigma of candidate and base, flat fraction of candidate and base.
    """
    axis: TextureAxis = "sigma" if index == 0 else "flat_fraction"
    candidate, base = (_row_means(texture_values(means[..., 2 * index + side], axis=axis)) for side in (0, 1))
    return (candidate - low) / (base - low)


def _row_means(values: Floats) -> Floats:
    """Means of rows laid out one after the other: one row alone gives the same bits as among others."""
    return np.asarray(np.ascontiguousarray(values).mean(axis=1))


def resampled(
    metric: Metric, statistic: Any, data: Sequence[Any], *, reference: Reference, resampling: Resampling
) -> Comparison | Unmeasured:
    """Bootstrap an index of resamples stacked in one array, or, where cases differ in their seeds, of lists."""
    vectorized = len({len(case) for case in data}) == 1
    whole = statistic if vectorized else _one_by_one(statistic)
    try:
        interval: DifferenceInterval = two_stage_bootstrap(
            whole,
            data,
            rng=resampling.rng(metric.name),
            confidence_level=resampling.confidence_level,
            n_resamples=resampling.n_resamples,
            vectorized=vectorized,
        )
    except MeasurementError as error:
        return Unmeasured(metric=metric.name, reason=str(error))
    return from_interval(metric, interval, candidate_arm=Arm.CANDIDATE, reference_name=reference)


def _one_by_one(statistic: Any) -> Any:
    def one(sample: Any) -> float:
        return float(statistic([sample])[0])

    return one


def common_seeds(features: Features, arms: tuple[Arm, Arm], *, of: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Cases and seeds of which both arms' pictures have the feature; cases in order."""
    seeds: dict[Arm, dict[str, set[int]]] = {arm: {} for arm in arms}
    for cell, sha in features.digest_of.items():
        if cell.arm in seeds and sha in of:
            seeds[cell.arm].setdefault(cell.case, set()).add(cell.seed)
    first, second = (seeds[arm] for arm in arms)
    common = {case: tuple(sorted(first[case] & second[case])) for case in sorted(first.keys() & second.keys())}
    return {case: both for case, both in common.items() if both}


def digest_in(features: Features, arm: Arm, case: str, seed: int, *, scale: float) -> str:
    """Digest of an arm's picture of a case and a seed."""
    return features.digest_of[Cell(arm=arm, case=case, seed=seed, scale=scale if arm.uses_adapter else 0.0)]


def vectors_of(
    features: Features, grid: Grid, *, of: Mapping[str, NDArray[np.float32]], arm: Arm, scale: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """One feature of an arm's pictures, (n, d), and the number of each picture's case, (n,)."""
    vectors, cases = [], []
    for number, (case, seeds) in enumerate(grid.items()):
        for seed in seeds:
            vectors.append(of[digest_in(features, arm, case, seed, scale=scale)])
            cases.append(number)
    return np.asarray(vectors), np.asarray(cases, dtype=np.intp)


def _textures(features: Features, case: str, seeds: Sequence[int], *, scale: float) -> Floats:
    """(s, 4): sigma of candidate and base, flat fraction of candidate and base."""
    rows = []
    for seed in seeds:
        candidate = features.texture[digest_in(features, Arm.CANDIDATE, case, seed, scale=scale)]
        base = features.texture[digest_in(features, Arm.BASE, case, seed, scale=scale)]
        rows.append([candidate[0], base[0], candidate[1], base[1]])
    return np.asarray(rows)
