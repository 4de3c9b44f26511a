"""Features → Measurements: edited copies, and copies of a part."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.encoding import Features, tiles_of
from lorabench.evaluation.measuring import Measured
from lorabench.metrics.descriptor_copies import (
    DESCRIPTOR_COPY_RATE,
    DESCRIPTOR_RATIO,
    DescribedSet,
    calibrate_descriptors,
    read_descriptors,
)
from lorabench.metrics.memorisation import TrainingSet
from lorabench.metrics.reading import Missing
from lorabench.metrics.tile_copies import (
    LARGEST_TILE_DISTANCE,
    PART_COPY_RATE,
    TILE_COPY_SHARE,
    TileCalibration,
    calibrate_tiles,
    read_tiles,
    tile_distances,
)
from lorabench.records.images import Image
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm


def measure_descriptor_copies(
    images: Iterable[Image],
    features: Features,
    *,
    training: DescribedSet | None,
    why_not: str,
    null_cases: Collection[str],
) -> Measured:
    """Say of each picture of control and candidate whether copy descriptors single out one training picture.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        training: The described training pictures, if there are any.
        why_not: The reason if there are none.
        null_cases: Cases whose control pictures are null and background.
    """
    done = Measured()
    if training is None:
        done.unmeasured.append(Unmeasured(metric=DESCRIPTOR_COPY_RATE.name, reason=why_not))
        return done
    judged = [image for image in images if image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)]
    control = [image for image in judged if image.cell.arm is Arm.CONTROL and image.cell.case in null_cases]
    control_views = _views(control, features, training)
    control_cases = np.array([image.cell.case for image in control])
    calibration = calibrate_descriptors(training, control_views)
    if isinstance(calibration, Missing):
        done.unmeasured.append(Unmeasured(metric=DESCRIPTOR_COPY_RATE.name, reason=calibration.reason))
        return done
    readings = read_descriptors(
        _views(judged, features, training),
        training,
        calibration,
        cases=np.array([image.cell.case for image in judged]),
        control=control_views,
        control_cases=control_cases,
    )
    for image, reading in zip(judged, readings, strict=True):
        done.add(DESCRIPTOR_RATIO, image.cell, reading.ratio)
        done.add(DESCRIPTOR_COPY_RATE, image.cell, float(reading.is_copy))
    return done


def measure_part_copies(
    images: Iterable[Image],
    features: Features,
    *,
    training: TrainingSet | None,
    encoder: object,
    why_not: str,
    null_cases: Collection[str],
) -> Measured:
    """Say of each picture of control and candidate which part of it comes from one training picture.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        training: The embedded training pictures, if there are any.
        encoder: What embedded them.
        why_not: The reason if there are none.
        null_cases: Cases whose control pictures are one of the two nulls.
    """
    done = Measured()
    judged = [image for image in images if image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)]
    control = [image for image in judged if image.cell.arm is Arm.CONTROL and image.cell.case in null_cases]
    tiles = None if training is None else tiles_of(encoder)
    calibration: TileCalibration | Missing = Missing(why_not)
    if training is not None and tiles is not None:
        own = tile_distances(training.vectors, training, tiles=tiles)
        theirs = np.stack(_tiles(control, features)) if control else np.empty((0, *own.shape[1:]))
        calibration = calibrate_tiles(own, theirs)
    elif training is not None:
        calibration = Missing("the perceptual judge knows no tiles, so copies of a part cannot be told.")
    if training is None or isinstance(calibration, Missing):
        reason = calibration.reason if isinstance(calibration, Missing) else why_not
        done.unmeasured.append(Unmeasured(metric=PART_COPY_RATE.name, reason=reason))
        return done
    readings = read_tiles(np.stack(_tiles(judged, features)), training, calibration)
    for image, reading in zip(judged, readings, strict=True):
        done.add(TILE_COPY_SHARE, image.cell, reading.share)
        done.add(PART_COPY_RATE, image.cell, float(reading.is_part_copy))
        done.add(LARGEST_TILE_DISTANCE, image.cell, reading.largest_distance)
    return done


def _views(images: list[Image], features: Features, training: DescribedSet) -> NDArray[np.float32]:
    """Copy descriptors, (n, v, d); no row where there are no pictures."""
    if not images:
        return np.empty((0, 1, training.views.shape[2]), dtype=np.float32)
    return np.stack([features.views[image.sha256] for image in images])


def _tiles(images: list[Image], features: Features) -> list[NDArray[np.float64]]:
    return [features.tiles[image.sha256] for image in images]
