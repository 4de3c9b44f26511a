"""Images → Features, the part about content nobody asked for: lettering, and all that a detector sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.invented import names_everything
from lorabench.records.detection import Detection, Lettering
from lorabench.records.plan import Arm
from lorabench.records.suite import TextCheck
from lorabench.storage.arrays import array_key
from lorabench.storage.detections import DetectionCache, LetteringCache

if TYPE_CHECKING:
    from pathlib import Path

    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.judges.protocols import Detector, TextReader
    from lorabench.records.images import Image
    from lorabench.records.suite import Case, Suite

Picture = NDArray[np.uint8]
ARMS = (Arm.CONTROL, Arm.CANDIDATE)
"""Arms that are compared; the others are read only where a check asks for it."""


class ContentEncoder:
    """Reads lettering and looks for things nobody asked for, each distinct picture once, asking the cache first."""

    def __init__(self, suite: Suite, *, judges: JudgeSet, labels: Sequence[str], folder: Path) -> None:
        """Set up for one suite.

        Args:
            suite: Says which cases name everything, and which ask for lettering.
            judges: Reader and detector; without them nothing is read.
            labels: Classes that the suite's checks name.
            folder: Where the caches lie.
        """
        self._cases = {case.id: case for case in suite.cases}
        self._reader, self._detector = judges.reader, judges.detector
        self._everything = everything_for(judges, labels=labels)
        self._world = judges.world_classes is not None
        self._folder = folder

    def wants_lettering(self, image: Image) -> bool:
        """Whether the lettering of this picture is of use."""
        asked = any(isinstance(check, TextCheck) for check in self._case(image).checks)
        return self._reader is not None and (image.cell.arm in ARMS or asked)

    def wants_surroundings(self, image: Image) -> bool:
        """Whether it is of use what else is in this picture."""
        complete = names_everything(self._case(image), world=self._world)
        return bool(self._everything) and image.cell.arm in ARMS and complete

    def lettering(self, images: Sequence[Image], pictures: Sequence[Picture]) -> dict[str, tuple[Lettering, ...]]:
        """Digest to lettering, of those of the pictures whose lettering is of use."""
        kept = [index for index, image in enumerate(images) if self.wants_lettering(image)]
        if self._reader is None or not kept:
            return {}
        digests = [images[index].sha256 for index in kept]
        read = read_lettering([pictures[index] for index in kept], digests, reader=self._reader, folder=self._folder)
        return dict(zip(digests, read, strict=True))

    def surroundings(self, images: Sequence[Image], pictures: Sequence[Picture]) -> dict[str, tuple[Detection, ...]]:
        """Digest to all that the detector sees, of those of the pictures of which it is of use."""
        kept = [index for index, image in enumerate(images) if self.wants_surroundings(image)]
        if self._detector is None or not kept:
            return {}
        digests = [images[index].sha256 for index in kept]
        seen = _look_around(
            [pictures[index] for index in kept],
            digests,
            detector=self._detector,
            labels=self._everything,
            folder=self._folder,
        )
        return dict(zip(digests, seen, strict=True))

    def is_missing(self, image: Image, *, lettering: Mapping[str, object], surroundings: Mapping[str, object]) -> bool:
        """Whether something of use is not yet known of this picture."""
        return (self.wants_lettering(image) and image.sha256 not in lettering) or (
            self.wants_surroundings(image) and image.sha256 not in surroundings
        )

    def _case(self, image: Image) -> Case:
        return self._cases[image.cell.case]


def everything_for(judges: JudgeSet, *, labels: Sequence[str]) -> tuple[str, ...]:
    """What the detector is asked to look for when the question is what else is there; empty where it cannot be asked.

    Args:
        judges: Detector and vocabulary.
        labels: Classes that the suite's checks name.
    """
    if judges.detector is None:
        return ()
    if judges.world_classes is not None:
        return tuple(sorted(judges.world_classes))
    return tuple(sorted({*labels, *judges.vocabulary.nouns})) if judges.vocabulary is not None else ()


def read_lettering(
    pictures: Sequence[Picture], digests: Sequence[str], *, reader: TextReader, folder: Path
) -> list[tuple[Lettering, ...]]:
    """The lettering of pictures, asking the cache first.

    Args:
        pictures: RGB, 0 to 255.
        digests: Of their pixels.
        reader: The text reader.
        folder: Where the caches lie.
    """
    cache = LetteringCache(folder / "lettering")
    keys = [array_key(sha, encoder=reader.name, weights_digest=reader.weights_digest) for sha in digests]

    def make(missing: Sequence[int]) -> list[tuple[Lettering, ...]]:
        return reader.read([pictures[index] for index in missing])

    return cache.rows(keys, make)


def _look_around(
    pictures: Sequence[Picture], digests: Sequence[str], *, detector: Detector, labels: Sequence[str], folder: Path
) -> list[tuple[Detection, ...]]:
    cache = DetectionCache(folder / "detections")
    name, weights, parameters = detector.name, detector.weights_digest, {"labels": list(labels)}
    keys = [array_key(sha, encoder=name, weights_digest=weights, parameters=parameters) for sha in digests]

    def make(missing: Sequence[int]) -> list[tuple[Detection, ...]]:
        return detector.detect([pictures[index] for index in missing], labels=labels)

    return cache.rows(keys, make)
