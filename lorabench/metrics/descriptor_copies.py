"""Copies that a network trained on copies finds: mirrored, cropped, recoloured, laid over, in part.

Read like the distances of `memorisation`: the nearest training picture over the next ones, against the training
pictures among themselves and the control's pictures. Each picture is seen as several views, so that a part can be found
in a whole; the nulls are seen as the same views, or the largest of many likenesses alone would make copies.

References:
    E. Pizzi et al., CVPR 2022, arXiv 2202.10261 (the descriptor, and likeness against that to a background); N. Carlini
    et al., USENIX Security 2023, arXiv 2301.13188 (the ratio).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.errors import MeasurementError
from lorabench.metrics.memorisation import CopyCalibration, calibrate_on_nulls, neighbour_ratios
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

DESCRIPTOR_RATIO: Final = Metric(
    name="descriptor_ratio",
    version=1,
    higher_is_better=True,
    unit="ratio",
    summary="copy descriptors: distance to the nearest training picture over the mean distance to the next ones",
)
DESCRIPTOR_COPY_RATE: Final = Metric(
    name="descriptor_copy_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="1 where copy descriptors single out one training picture, also mirrored, cropped or recoloured",
)

PART: Final = 0.6
"""Share of each side that a view of a part shows."""
PLACES: Final = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
"""Where parts lie: the corners, then the centre; 0 is the upper or left edge, 1 the lower or right one."""
N_VIEWS: Final = 1 + len(PLACES)
N_BACKGROUND: Final = 3
"""Likenesses to the background that are averaged."""
DUPLICATE_SHARE: Final = 0.1
"""Training pictures nearer to each other than this share of the median distance are one picture. Five times that of
LPIPS: a JPEG copy has about 5 % of the distance of unrelated pictures here."""


@dataclass(frozen=True, slots=True)
class DescribedSet:
    """Described training pictures without duplicates.

    Attributes:
        views: Unit vectors of the views of each picture and of its mirror image, (m, 2 v, d).
        kept: Number of each picture in the folder it came from, (m,).
        n_duplicates: Pictures left out because an earlier one shows the same.
    """

    views: NDArray[np.float32]
    kept: tuple[int, ...]
    n_duplicates: int


@dataclass(frozen=True, slots=True)
class DescriptorReading:
    """One picture and the training picture most like it.

    Attributes:
        training_index: Number of that picture in the training folder.
        similarity: Largest cosine of their views.
        ratio: Distance to it over the mean distance to the next ones.
        is_copy: Whether the ratio is under the threshold, and the picture more like that one than like the background.
    """

    training_index: int
    similarity: float
    ratio: float
    is_copy: bool


def picture_views(picture: Pixels) -> list[Pixels]:
    """The picture, its four corners and its centre, 60 % of each side.

    Args:
        picture: (height, width, 3).

    Returns:
        Six pictures.
    """
    height, width = picture.shape[:2]
    tall, wide = max(1, round(PART * height)), max(1, round(PART * width))
    parts = []
    for down, right in PLACES:
        top, left = round(down * (height - tall)), round(right * (width - wide))
        parts.append(np.ascontiguousarray(picture[top : top + tall, left : left + wide]))
    return [picture, *parts]


def training_views(picture: Pixels) -> list[Pixels]:
    """Views of a picture and of its mirror image, twelve pictures."""
    return [*picture_views(picture), *picture_views(np.ascontiguousarray(picture[:, ::-1]))]


def view_similarities(views: NDArray[Any], references: NDArray[Any]) -> Floats:
    """Largest cosine between any view of one picture and any of another.

    Args:
        views: Unit vectors, (n, v, d).
        references: Unit vectors, (m, w, d).

    Returns:
        (n, m), -1 to 1.
    """
    n, v, d = views.shape
    m, w, _ = references.shape
    cosines = views.reshape(n * v, d) @ references.reshape(m * w, d).T
    return np.asarray(cosines.reshape(n, v, m, w).max(axis=(1, 3)), dtype=np.float64)


def described_set(views: NDArray[np.float32], *, share: float = DUPLICATE_SHARE) -> DescribedSet:
    """Take duplicates out of a described training set; of each group the first is kept.

    Args:
        views: As `DescribedSet.views`.
        share: Pictures nearer than this share of the median distance are duplicates.

    Raises:
        MeasurementError: There are no pictures.
    """
    m = len(views)
    if m == 0:
        msg = "memorisation needs training pictures; found none. Name the folder the adapter was trained on."
        raise MeasurementError(msg)
    distances = 2.0 - 2.0 * view_similarities(views[:, :N_VIEWS], views)
    limit = share * float(np.median(distances[~np.eye(m, dtype=bool)])) if m > 1 else 0.0
    kept: list[int] = []
    for index in range(m):
        if all(distances[index, other] > limit for other in kept):
            kept.append(index)
    return DescribedSet(views[kept], tuple(kept), m - len(kept))


def background_level(similarities: NDArray[Any]) -> Floats:
    """How like a background each picture is: mean of its three largest likenesses, never under 0.

    Some descriptors (of flat, empty pictures) are like all others. What is no more like a training picture than like
    pictures that never saw one is no copy.

    Args:
        similarities: To pictures that have nothing to do with the training set, (n, b); NaN where a picture is no
            background for the other (itself, or the same prompt).

    Returns:
        (n,); 0 where there is no background.
    """
    values = np.where(np.isnan(similarities), -np.inf, np.asarray(similarities, dtype=np.float64))
    largest = -np.sort(-values, axis=1)[:, :N_BACKGROUND]
    usable = np.isfinite(largest)
    total = np.where(usable, largest, 0.0).sum(axis=1)
    return np.asarray(np.maximum(total / np.maximum(usable.sum(axis=1), 1), 0.0))


def calibrate_descriptors(training: DescribedSet, control: NDArray[Any]) -> CopyCalibration | Missing:
    """Find the ratio under which a picture counts as a copy; see `memorisation.calibrate_on_nulls`.

    Args:
        training: The training set.
        control: Views of the control's pictures, (n, v, d).
    """

    def own() -> Floats:
        distances = 2.0 - 2.0 * view_similarities(training.views[:, :N_VIEWS], training.views)
        m = len(distances)
        return distances[~np.eye(m, dtype=bool)].reshape(m, m - 1)

    distances = np.empty((0, len(training.kept)))
    if len(control):
        distances = 2.0 - 2.0 * view_similarities(control, training.views)
    return calibrate_on_nulls(control=distances, own=own, n_duplicates=training.n_duplicates)


def read_descriptors(
    views: NDArray[Any],
    training: DescribedSet,
    calibration: CopyCalibration,
    *,
    cases: NDArray[Any],
    control: NDArray[Any],
    control_cases: NDArray[Any],
) -> tuple[DescriptorReading, ...]:
    """Find the training picture most like each generated one and say whether it was copied.

    Args:
        views: Of generated pictures, (n, v, d).
        training: The training set.
        calibration: From `calibrate_descriptors`.
        cases: The case of each generated picture, (n,).
        control: Views of the control's pictures, (b, v, d).
        control_cases: The case of each, (b,); pictures of a picture's own case are no background for it.

    Returns:
        One reading per picture; none depends on the other generated pictures.
    """
    similarities = view_similarities(views, training.views)
    level = _level(views, control, cases=cases, control_cases=control_cases)
    ratios = neighbour_ratios(2.0 - 2.0 * similarities, n_neighbours=calibration.n_neighbours)
    nearest = np.argmax(similarities, axis=1)
    return tuple(
        DescriptorReading(
            training_index=training.kept[column],
            similarity=float(similarities[row, column]),
            ratio=float(ratio),
            is_copy=bool((ratio < calibration.threshold or ratio == 0.0) and similarities[row, column] > level[row]),
        )
        for row, (column, ratio) in enumerate(zip(nearest.tolist(), ratios, strict=True))
    )


def _level(views: NDArray[Any], control: NDArray[Any], *, cases: NDArray[Any], control_cases: NDArray[Any]) -> Floats:
    """Background level of pictures over the control's pictures of other cases."""
    similarities = view_similarities(views, control)
    same = np.asarray(cases)[:, None] == np.asarray(control_cases)[None, :]
    return background_level(np.where(same, np.nan, similarities))
