"""Copies of training pictures: is one training picture singled out, more than chance and style explain?

A style adapter draws nearer to all training pictures at once; a copy is near to one. So what is judged is the distance
to the nearest training picture over the mean distance to the next ones, against two nulls: each training picture among
the others, and the control's pictures, which never saw the training set.

References:
    N. Carlini et al., Extracting training data from diffusion models, USENIX Security 2023, arXiv 2301.13188 (the
    ratio, there with many neighbours); R. Zhang et al., LPIPS, CVPR 2018, arXiv 1801.03924 (the distance).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.errors import MeasurementError
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

NEAREST_TRAINING_DISTANCE: Final = Metric(
    name="nearest_training_distance",
    version=1,
    higher_is_better=True,
    unit="LPIPS",
    summary="distance to the nearest training picture or its mirror image; falls with style, too",
)
NEIGHBOUR_RATIO: Final = Metric(
    name="neighbour_ratio",
    version=1,
    higher_is_better=True,
    unit="ratio",
    summary="distance to the nearest training picture over the mean distance to the next ones",
)
COPY_RATE: Final = Metric(
    name="copy_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="1 where one training picture is nearer than chance and style explain",
)

MEMORISATION_GAP: Final = Metric(
    name="memorisation_gap",
    version=1,
    higher_is_better=False,
    unit="share",
    level="set",
    summary="copy rate on captions word for word less that on novel prompts, both over the control's",
)

LEAST_TRAINING: Final = 3
MOST_NEIGHBOURS: Final = 10
N_EXACT: Final = 5
"""Nearest neighbours whose distances are computed directly, free of cancellation."""
TAIL: Final = 0.01
"""Share of null pictures that may lie under the threshold."""
TAIL_CONFIDENCE: Final = 0.95
COARSE: Final = 30
"""Null values under which the tail is bounded, not estimated."""
PLENTY: Final = 100
"""Null values from which on the tail is read off directly."""
LEAST_LEAVE_ONE_OUT: Final = 10
"""Training pictures under which they give no null of their own."""
DUPLICATE_SHARE: Final = 0.02
"""Training pictures nearer to each other than this share of the median distance are one picture."""
_BLOCK_BYTES: Final = 1 << 27


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Embedded training pictures without duplicates.

    Attributes:
        vectors: (m, d); squared Euclidean distances are LPIPS.
        mirrored: The same pictures mirrored before embedding, (m, d).
        kept: Number of each picture in the folder it came from, (m,).
        n_duplicates: Pictures left out because an earlier one (or its mirror image) is the same.
    """

    vectors: Vectors
    mirrored: Vectors
    kept: tuple[int, ...]
    n_duplicates: int


@dataclass(frozen=True, slots=True)
class TrainingDistances:
    """Distances of pictures to a training set.

    Attributes:
        distances: To the picture or its mirror image, whichever is nearer, (n, m).
        mirrored: Whether that was the mirror image, (n, m).
    """

    distances: Floats
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CopyCalibration:
    """Under which ratio a picture counts as a copy.

    Attributes:
        threshold: The ratio.
        n_neighbours: Neighbours in the mean.
        training_null: Ratios of the training pictures among themselves, (m,); empty where there are too few.
        control_null: Ratios of the control's pictures, (n,).
        method: How the tails were found, for the report.
    """

    threshold: float
    n_neighbours: int
    training_null: Floats
    control_null: Floats
    method: str


@dataclass(frozen=True, slots=True)
class CopyReading:
    """One picture and its nearest training picture.

    Attributes:
        training_index: Number of that picture in the training folder.
        mirrored: Whether its mirror image is nearer.
        distance: LPIPS.
        ratio: Over the mean of the next neighbours; None without a calibration.
        is_copy: Whether the ratio is under the threshold; None without a calibration.
    """

    training_index: int
    mirrored: bool
    distance: float
    ratio: float | None
    is_copy: bool | None


def training_set(vectors: Vectors, mirrored: Vectors, *, share: float = DUPLICATE_SHARE) -> TrainingSet:
    """Take duplicates out of an embedded training set.

    Two copies of one picture would make each other's ratio 0 and that of a generated copy about 1. Of each group of
    duplicates the first is kept.

    Args:
        vectors: Embeddings, (m, d).
        mirrored: Embeddings of the mirrored pictures, (m, d).
        share: Pictures nearer than this share of the median distance are duplicates.

    Returns:
        The set.

    Raises:
        MeasurementError: There are no pictures.
        ValueError: Shapes differ.
    """
    if vectors.ndim != 2 or vectors.shape != mirrored.shape:
        msg = f"training pictures and mirror images must both be (m, d); got {vectors.shape} and {mirrored.shape}."
        raise ValueError(f"{msg} Embed each picture and its mirror image.")
    if len(vectors) == 0:
        msg = "memorisation needs training pictures; found none. Name the folder the adapter was trained on."
        raise MeasurementError(msg)
    everything = TrainingSet(vectors, mirrored, tuple(range(len(vectors))), 0)
    distances = training_distances(vectors, everything).distances
    limit = share * float(np.median(distances[~np.eye(len(vectors), dtype=bool)])) if len(vectors) > 1 else 0.0
    kept: list[int] = []
    for index in range(len(vectors)):
        if all(distances[index, other] > limit for other in kept):
            kept.append(index)
    return TrainingSet(vectors[kept], mirrored[kept], tuple(kept), len(vectors) - len(kept))


def training_distances(vectors: Vectors, training: TrainingSet) -> TrainingDistances:
    """Distances of embedded pictures to each training picture or its mirror image, whichever is nearer.

    Args:
        vectors: (n, d).
        training: The training set.

    Returns:
        (n, m). The five nearest of each row are exact; the others carry the rounding of a centred matrix product.
    """
    centre = training.vectors.mean(axis=0)
    plain = squared_distances(vectors, training.vectors, centre=centre)
    flipped = squared_distances(vectors, training.mirrored, centre=centre)
    plain, flipped = _sharpened(vectors, training, plain=plain, flipped=flipped)
    return TrainingDistances(distances=np.minimum(plain, flipped), mirrored=flipped < plain)


def squared_distances(a: NDArray[Any], b: NDArray[Any], *, centre: NDArray[Any]) -> Floats:
    """Squared Euclidean distances between rows, (n, d) and (m, d) to (n, m), by one matrix product.

    Both sides are moved by `centre` first, which keeps the digits that near duplicates need; rounding below zero is
    cut off.
    """
    left, right = a - centre, b - centre
    # Sums of 400,000 squares in float32 lose 1e-5, as much as the distance of a near duplicate.
    n_squares = np.einsum("nd,nd->n", left, left, dtype=np.float64)
    m_squares = np.einsum("md,md->m", right, right, dtype=np.float64)
    return np.asarray(np.maximum(n_squares[:, None] + m_squares[None, :] - 2.0 * (left @ right.T), 0.0))


def neighbour_count(n_training: int) -> int:
    """Neighbours to average over: at most 10, and two fewer than there are training pictures.

    Two fewer, so that a training picture among the others is averaged over as many as a generated one.
    """
    return min(MOST_NEIGHBOURS, n_training - 2)


def neighbour_ratios(distances: ArrayLike, *, n_neighbours: int) -> Floats:
    """Distance to the nearest over the mean distance to the next ones.

    >>> neighbour_ratios([[0.1, 0.4, 0.6]], n_neighbours=2).round(3).tolist()
    [0.2]

    Args:
        distances: (n, m), any order.
        n_neighbours: How many follow the nearest in the mean, at least 1, below m.

    Returns:
        (n,), 0 to 1: near 1 no training picture is singled out.

    Raises:
        ValueError: Too few distances.
        MeasurementError: All neighbours of a picture are at distance 0.
    """
    ordered = np.sort(np.asarray(distances, dtype=np.float64), axis=1)
    if not 1 <= n_neighbours < ordered.shape[1]:
        msg = f"a ratio over {n_neighbours} neighbours needs more distances than that; got {ordered.shape[1]}."
        raise ValueError(f"{msg} Use neighbour_count.")
    means = ordered[:, 1 : n_neighbours + 1].mean(axis=1)
    if np.any(means == 0):
        msg = "a ratio needs training pictures that differ; all neighbours of a picture are at distance 0."
        raise MeasurementError(f"{msg} Take duplicates out of the training set.")
    return np.asarray(ordered[:, 0] / means)


def leave_one_out(training: TrainingSet) -> Floats:
    """Distances of each training picture to the others or their mirror images, (m, m - 1)."""
    distances = training_distances(training.vectors, training).distances
    m = len(distances)
    return distances[~np.eye(m, dtype=bool)].reshape(m, m - 1)


def calibrate_copies(training: TrainingSet, control: Vectors) -> CopyCalibration | Missing:
    """As `calibrate_on_distances`, from embeddings of the control's pictures, (n, d)."""
    return calibrate_on_distances(training, training_distances(control, training).distances)


def calibrate_on_distances(training: TrainingSet, control: Floats) -> CopyCalibration | Missing:
    """Find the ratio under which a picture counts as a copy.

    Args:
        training: The training set.
        control: Distances of the control's pictures to the training pictures, (n, m): same prompts and seeds, base
            without adapter.

    Returns:
        The calibration: the lower of the two nulls' tails. Or why there is none: under three different training
        pictures, or under ten control pictures.
    """
    return calibrate_on_nulls(control=control, own=lambda: leave_one_out(training), n_duplicates=training.n_duplicates)


def calibrate_on_nulls(*, control: Floats, own: Callable[[], Floats], n_duplicates: int) -> CopyCalibration | Missing:
    """As `calibrate_on_distances`, for distances of any kind.

    Args:
        control: Distances of the control's pictures to the training pictures, (n, m).
        own: Gives the distances of the training pictures to each other, (m, m - 1); asked where there are enough.
        n_duplicates: Training pictures that were left out, for the message.
    """
    m = control.shape[1]
    if m < LEAST_TRAINING:
        return Missing(
            f"copies need at least {LEAST_TRAINING} different training pictures; found {m} "
            f"(and {n_duplicates} duplicates). Below that no picture can be singled out."
        )
    if len(control) < LEAST_LEAVE_ONE_OUT:
        return Missing(
            f"copies need at least {LEAST_LEAVE_ONE_OUT} control pictures for a null; found {len(control)}. "
            "Add cases or seeds."
        )
    k = neighbour_count(m)
    controls = neighbour_ratios(control, n_neighbours=k)
    threshold, method = lower_tail(controls), f"control: {_method(len(controls))}"
    training_null = np.empty(0)
    if m >= LEAST_LEAVE_ONE_OUT:
        training_null = neighbour_ratios(own(), n_neighbours=k)
        threshold, method = min(threshold, lower_tail(training_null)), f"{method}; training: {_method(m)}"
    return CopyCalibration(threshold, k, training_null=training_null, control_null=controls, method=method)


def read_copies(
    vectors: Vectors, training: TrainingSet, calibration: CopyCalibration | Missing
) -> tuple[CopyReading, ...]:
    """As `read_distances`, from embeddings of generated pictures, (n, d)."""
    return read_distances(training_distances(vectors, training), training, calibration)


def read_distances(
    found: TrainingDistances, training: TrainingSet, calibration: CopyCalibration | Missing
) -> tuple[CopyReading, ...]:
    """Find each picture's nearest training picture and say whether it is a copy of it.

    Args:
        found: Distances of n generated pictures to the training set.
        training: The training set.
        calibration: From `calibrate_copies`; without one, neither ratios nor copies are told.

    Returns:
        One reading per picture. None depends on the other pictures.
    """
    nearest = np.argmin(found.distances, axis=1)
    ratios: list[float | None] = [None] * len(nearest)
    if isinstance(calibration, CopyCalibration):
        ratios = neighbour_ratios(found.distances, n_neighbours=calibration.n_neighbours).tolist()
    return tuple(
        CopyReading(
            training_index=training.kept[column],
            mirrored=bool(found.mirrored[row, column]),
            distance=float(found.distances[row, column]),
            ratio=ratio,
            is_copy=_is_copy(ratio, calibration),
        )
        for row, (column, ratio) in enumerate(zip(nearest.tolist(), ratios, strict=True))
    )


def copy_sensitivity(planted: Vectors, training: TrainingSet, calibration: CopyCalibration) -> float:
    """Share of planted copies that are found: a check of the sensor itself.

    Args:
        planted: Embeddings of known copies (training pictures after a decoder round trip, say), (n, d).
        training: The training set.
        calibration: The calibration to test.

    Returns:
        Share, 0 to 1.

    Raises:
        ValueError: Nothing was planted.
    """
    if len(planted) == 0:
        msg = "sensitivity needs planted copies; got none. Pass embeddings of altered training pictures."
        raise ValueError(msg)
    readings = read_copies(planted, training, calibration)
    return sum(bool(reading.is_copy) for reading in readings) / len(readings)


def lower_tail(null: ArrayLike) -> float:
    """The ratio under which 1 % of a null lies, from few values.

    From 100 values on their 1st percentile. From 30 on the 1st percentile of a Gaussian kernel estimate on the
    logarithms. With fewer, a lower tolerance limit of the logarithms (normal theory): with 95 % confidence at most
    1 % of the null lies under it, so few values make the threshold lower, never higher.

    Args:
        null: Positive ratios, (n,), at least 2.

    Returns:
        The threshold; 0 where the null itself holds zeros.
    """
    values = np.asarray(null, dtype=np.float64)
    if np.any(values <= 0):
        return 0.0
    if len(values) >= PLENTY:
        return float(np.quantile(values, TAIL))
    logs = np.log(values)
    if len(values) >= COARSE:
        return math.exp(_kernel_quantile(logs))
    return math.exp(float(logs.mean()) - _tolerance_factor(len(logs)) * float(logs.std(ddof=1)))


def _is_copy(ratio: float | None, calibration: CopyCalibration | Missing) -> bool | None:
    if ratio is None or isinstance(calibration, Missing):
        return None
    return ratio < calibration.threshold or ratio == 0.0


def _method(n: int) -> str:
    if n >= PLENTY:
        return f"1st percentile of {n}"
    if n >= COARSE:
        return f"1st percentile of a kernel estimate on {n}"
    return f"tolerance limit on {n}, coarse"


def _kernel_quantile(logs: Floats) -> float:
    from scipy.optimize import brentq
    from scipy.special import ndtr

    n, spread = len(logs), float(logs.std(ddof=1))
    if spread == 0.0:
        return float(logs[0])
    width = 1.06 * spread * n**-0.2
    low, high = float(logs.min()) - 6 * width, float(np.median(logs)) + 6 * width
    return float(brentq(lambda x: float(ndtr((x - logs) / width).mean()) - TAIL, low, high))


def _tolerance_factor(n: int) -> float:
    from scipy.special import nctdtrit, ndtri  # scipy.stats has the same functions and takes a second to import

    return float(nctdtrit(n - 1, ndtri(1 - TAIL) * math.sqrt(n), TAIL_CONFIDENCE)) / math.sqrt(n)


def _sharpened(vectors: Vectors, training: TrainingSet, *, plain: Floats, flipped: Floats) -> tuple[Floats, Floats]:
    """Recompute the nearest neighbours' distances directly."""
    nearest = np.argsort(np.minimum(plain, flipped), axis=1, kind="stable")[:, :N_EXACT]
    for row, columns in enumerate(nearest):
        for matrix, references in ((plain, training.vectors), (flipped, training.mirrored)):
            for column in columns:
                difference = vectors[row] - references[column]
                matrix[row, column] = float(np.dot(difference, difference))
    return plain, flipped
