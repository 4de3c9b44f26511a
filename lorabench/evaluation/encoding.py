"""Images → Features: what the judges and the pixel measures say of each picture, each distinct picture read once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.content_encoding import ContentEncoder
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.evaluation.observer import Observer
from lorabench.evaluation.picture_readings import Readings, read_pictures
from lorabench.judges.protocols import TiledEncoder
from lorabench.metrics.broken import broken_reason
from lorabench.metrics.color import dominant_colors
from lorabench.metrics.descriptor_copies import picture_views
from lorabench.metrics.memorisation import TrainingSet, training_distances
from lorabench.metrics.palette import palette_embedding
from lorabench.metrics.structure import structure_descriptor
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma
from lorabench.metrics.tile_copies import GRID, tile_distances
from lorabench.metrics.training_palette import TRAINING_PALETTE_DISTANCE, palette_sketch
from lorabench.records.detection import Detection, Lettering
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell
from lorabench.records.record import digest_of
from lorabench.records.suite import Case, PaletteCheck, Suite
from lorabench.storage.arrays import array_key
from lorabench.storage.detections import DetectionCache

if TYPE_CHECKING:
    from lorabench.judges.protocols import CopyEncoder
    from lorabench.storage.arrays import ArrayCache

Picture = NDArray[np.uint8]
Vector = NDArray[np.float32]

STAGE = "encoding"
VIEWS_VERSION = 1
"""Of how a picture is cut into the views that the copy descriptor sees."""
CHUNK = 64
"""Pictures read at a time: bounds memory, and how much a crash loses."""


@dataclass(slots=True)
class Features:
    """Everything known of the pictures of a run, by pixel digest. Grows as cases are encoded; values never change."""

    digest_of: dict[Cell, str] = field(default_factory=dict)
    """Cell to the digest of its picture."""
    broken: dict[str, str | None] = field(default_factory=dict)
    """Why a picture is unusable, None if it is whole."""
    texture: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Smooth-zone sigma in grey levels, flat fraction in 0 to 1."""
    readings: dict[str, Readings] = field(default_factory=dict)
    """Metric name to number or reason, of all metrics that need nothing but the picture."""
    colors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Dominant colours, most frequent first, as `#rrggbb`."""
    detections: dict[str, tuple[Detection, ...]] = field(default_factory=dict)
    """What the detector saw; empty where there is no detector."""
    surroundings: dict[str, tuple[Detection, ...]] = field(default_factory=dict)
    """All that the detector sees when asked for everything it knows, on pictures whose cases name everything."""
    lettering: dict[str, tuple[Lettering, ...]] = field(default_factory=dict)
    """All that looks like lettering; empty where there is no text reader."""
    clip: dict[str, Vector] = field(default_factory=dict)
    """Unit vectors (d,) of the pictures; empty where there is no CLIP judge."""
    texts: dict[str, Vector] = field(default_factory=dict)
    """Unit vectors (d,) of sentences."""
    palette: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Palette embeddings of the pictures of palette cases, without the even background, which varies by seed."""
    structure: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Structure descriptors: where edges run, whatever the colours."""
    distances: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """LPIPS distances to the training pictures and whether the mirror image was nearer (0 or 1), (2, m); empty where
    there is no LPIPS judge."""
    tiles: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """LPIPS distances to the training pictures tile by tile, (16, m); empty where the judge knows no tiles."""
    views: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Copy descriptors of the views of control's and candidate's pictures, (6, d); empty where there is no copy
    descriptor or no training set."""
    sketches: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Palette sketches of control's and candidate's pictures, with and without the even ground, (2, d); empty where
    there are no training pictures to compare colours with."""


class Encoder:
    """Fills `Features`, asking the array cache before a judge."""

    def __init__(
        self,
        *,
        suite: Suite,
        judges: JudgeSet,
        arrays: ArrayCache,
        read_picture: Callable[[Image], Picture],
        size: tuple[int, int],
        training: TrainingSet | None,
        observer: Observer,
        describes: bool = True,
        sketches: bool = False,
        base_neighbours: bool = False,
    ) -> None:
        """Set up for one suite.

        Args:
            suite: Says what detectors look for and which cases are about palettes.
            judges: The networks.
            arrays: Cache of feature arrays.
            read_picture: From image record to pixels.
            size: Height and width every picture must have.
            training: Embedded training pictures; None where there are none, or no LPIPS judge.
            observer: Hears of each encoded picture.
            describes: Whether there are training pictures for the copy descriptor to compare with.
            sketches: Whether there are training pictures to compare colours with.
            base_neighbours: Whether the base's own pictures are compared with the training pictures, too; no gate of a
                run asks for it, and it is a third of the work.
        """
        self.features = Features()
        self.labels = labels_of(suite)
        self._cases = {case.id: case for case in suite.cases}
        self._judges, self._arrays, self._read = judges, arrays, read_picture
        self._detections = DetectionCache(arrays.folder.parent / "detections")
        self._content = ContentEncoder(suite, judges=judges, labels=self.labels, folder=arrays.folder.parent)
        self._size, self._training, self._observer = size, training, observer
        self._sketches = sketches
        self._base_neighbours = base_neighbours
        self._describes = describes and judges.descriptor is not None
        self._tiles = None if training is None else tiles_of(judges.lpips)
        self._training_digest = "" if training is None else hashlib.sha256(training.vectors.tobytes()).hexdigest()

    def encode(self, images: Iterable[Image]) -> None:
        """Encode pictures and remember which cell shows which."""
        fresh: dict[str, Image] = {}
        for image in images:
            if image.cell in self.features.digest_of:
                continue
            self.features.digest_of[image.cell] = image.sha256
            # The base's picture asks for less than the same picture of another arm.
            if self._is_new(image) and (image.sha256 not in fresh or fresh[image.sha256].cell.arm is Arm.BASE):
                fresh[image.sha256] = image
        todo = list(fresh.values())
        with self._observer.stage(STAGE, len(todo)):
            for start in range(0, len(todo), CHUNK):
                chunk = todo[start : start + CHUNK]
                self._encode_chunk(chunk, [self._read(image) for image in chunk])
                self._observer.advanced(STAGE, len(chunk))

    def encode_texts(self, texts: Iterable[str]) -> None:
        """Encode sentences for CLIP, each once."""
        clip = self._judges.clip
        new = sorted(set(texts) - self.features.texts.keys())
        if clip is None or not new:
            return
        keys = [self._key(digest_of(text), clip.name, clip.weights_digest, kind="text") for text in new]
        with self._observer.stage(STAGE):
            rows = self._arrays.rows(keys, lambda missing: clip.encode_texts([new[index] for index in missing]))
        self.features.texts.update(zip(new, rows, strict=True))

    def _is_new(self, image: Image) -> bool:
        needs_palette = self._wants_palette(image) and image.sha256 not in self.features.palette
        needs_views = self._wants_views(image) and image.sha256 not in self.features.views
        needs_sketch = self._wants_sketch(image) and image.sha256 not in self.features.sketches
        needs_distances = self._wants_distances(image) and image.sha256 not in self.features.distances
        features = self.features
        needs_content = self._content.is_missing(
            image, lettering=features.lettering, surroundings=features.surroundings
        )
        needs_more = needs_palette or needs_views or needs_sketch or needs_distances or needs_content
        return image.sha256 not in self.features.broken or needs_more

    def _wants_distances(self, image: Image) -> bool:
        if self._training is None or self._judges.lpips is None:
            return False
        return self._base_neighbours or image.cell.arm is not Arm.BASE

    def _wants_sketch(self, image: Image) -> bool:
        return self._sketches and image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)

    def _wants_views(self, image: Image) -> bool:
        return self._describes and image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)

    def _wants_palette(self, image: Image) -> bool:
        return any(isinstance(check, PaletteCheck) for check in self._cases[image.cell.case].checks)

    def _encode_chunk(self, images: Sequence[Image], pictures: Sequence[Picture]) -> None:
        for image, picture in zip(images, pictures, strict=True):
            self._measure_pixels(image, picture)
        digests = [image.sha256 for image in images]
        self.features.readings.update(zip(digests, read_pictures(pictures, digests, arrays=self._arrays), strict=True))
        self._detect(images, pictures)
        self.features.lettering.update(self._content.lettering(images, pictures))
        self.features.surroundings.update(self._content.surroundings(images, pictures))
        clip = self._judges.clip
        if clip is not None:
            rows = self._rows(images, pictures, clip.name, clip.weights_digest, clip.encode_images)
            self.features.clip.update({image.sha256: row for image, row in zip(images, rows, strict=True)})
        compared = [index for index, image in enumerate(images) if self._wants_distances(image)]
        self._compare_with_training([images[index] for index in compared], [pictures[index] for index in compared])
        self._describe(images, pictures)
        wanted = [index for index, image in enumerate(images) if self._wants_sketch(image)]
        if wanted:
            digests = [images[index].sha256 for index in wanted]
            rows = sketched([pictures[index] for index in wanted], digests, arrays=self._arrays)
            self.features.sketches.update(zip(digests, rows, strict=True))

    def _measure_pixels(self, image: Image, picture: Picture) -> None:
        sha, features = image.sha256, self.features
        features.broken[sha] = broken_reason(picture, size=self._size)
        if min(picture.shape[:2]) >= 8:
            features.texture[sha] = smooth_zone_sigma(picture), flat_fraction(picture)
        features.colors[sha] = tuple(dominant_colors(picture))
        features.structure[sha] = structure_descriptor(picture)
        if self._wants_palette(image):
            features.palette[sha] = palette_embedding(picture, foreground_only=True).astype(np.float32)

    def _detect(self, images: Sequence[Image], pictures: Sequence[Picture]) -> None:
        detector = self._judges.detector
        if detector is None or not self.labels:
            return
        parameters = {"labels": list(self.labels)}
        name, digest = detector.name, detector.weights_digest
        keys = [array_key(image.sha256, encoder=name, weights_digest=digest, parameters=parameters) for image in images]
        seen = [self._detections.get(key) for key in keys]
        missing = [index for index, found in enumerate(seen) if found is None]
        made = detector.detect([pictures[index] for index in missing], labels=self.labels) if missing else []
        for index, detections in zip(missing, made, strict=True):
            self._detections.put(keys[index], detections)
            seen[index] = detections
        self.features.detections.update(
            {image.sha256: found for image, found in zip(images, seen, strict=True) if found is not None}
        )

    def _compare_with_training(self, images: Sequence[Image], pictures: Sequence[Picture]) -> None:
        lpips, training = self._judges.lpips, self._training
        if lpips is None or training is None or not images:
            return

        def compute(missing: list[int]) -> NDArray[np.float32]:
            vectors = lpips.embed([pictures[index] for index in missing])
            found = training_distances(vectors, training)
            parts = [found.distances[:, None], found.mirrored[:, None]]
            if self._tiles is not None:
                parts.append(tile_distances(vectors, training, tiles=self._tiles))
            return np.concatenate(parts, axis=1).astype(np.float32)

        name, kind = f"{lpips.name}-to-{self._training_digest}", "training" if self._tiles is None else "training-tiles"
        keys = [self._key(image.sha256, name, lpips.weights_digest, kind=kind) for image in images]
        rows = self._arrays.rows(keys, compute).astype(np.float64)
        self.features.distances.update({image.sha256: row[:2] for image, row in zip(images, rows, strict=True)})
        if self._tiles is not None:
            self.features.tiles.update({image.sha256: row[2:] for image, row in zip(images, rows, strict=True)})

    def _describe(self, images: Sequence[Image], pictures: Sequence[Picture]) -> None:
        descriptor = self._judges.descriptor
        wanted = [index for index, image in enumerate(images) if self._wants_views(image)]
        if descriptor is None or not wanted:
            return
        rows = described(
            [pictures[index] for index in wanted],
            [images[index].sha256 for index in wanted],
            descriptor=descriptor,
            arrays=self._arrays,
            views=picture_views,
        )
        self.features.views.update({images[index].sha256: row for index, row in zip(wanted, rows, strict=True)})

    def _rows(
        self,
        images: Sequence[Image],
        pictures: Sequence[Picture],
        name: str,
        weights_digest: str,
        make: Callable[[Sequence[Picture]], Vector],
    ) -> Vector:
        keys = [self._key(image.sha256, name, weights_digest, kind="picture") for image in images]
        return self._arrays.rows(keys, lambda missing: make([pictures[index] for index in missing]))

    @staticmethod
    def _key(content: str, name: str, weights_digest: str, *, kind: str) -> str:
        return array_key(content, encoder=name, weights_digest=weights_digest, parameters={"of": kind})


def sketched(pictures: Sequence[Picture], digests: Sequence[str], *, arrays: ArrayCache) -> NDArray[np.float32]:
    """Palette sketches of pictures, (n, 2, d), asking the cache first."""
    version = {"metric": TRAINING_PALETTE_DISTANCE.version}
    keys = [array_key(sha, encoder="palette-sketch", weights_digest="", parameters=version) for sha in digests]
    return arrays.rows(keys, lambda missing: np.stack([palette_sketch(pictures[index]) for index in missing]))


def tiles_of(encoder: object) -> NDArray[np.intp] | None:
    """The tile that each coordinate of a perceptual encoder's embeddings belongs to; None where it knows no tiles."""
    return encoder.tiles(GRID) if isinstance(encoder, TiledEncoder) else None


def described(
    pictures: Sequence[Picture],
    digests: Sequence[str],
    *,
    descriptor: CopyEncoder,
    arrays: ArrayCache,
    views: Callable[[Picture], list[Picture]],
) -> NDArray[np.float32]:
    """Copy descriptors of the views of each picture, (n, v, d), asking the cache first.

    Args:
        pictures: RGB, 0 to 255, at least one.
        digests: Of their pixels.
        descriptor: The network.
        arrays: Keeps the descriptors.
        views: `picture_views` or `training_views`.
    """
    parameters = {"of": views.__name__, "views": VIEWS_VERSION}
    name, weights = descriptor.name, descriptor.weights_digest
    keys = [array_key(digest, encoder=name, weights_digest=weights, parameters=parameters) for digest in digests]

    def compute(missing: list[int]) -> NDArray[np.float32]:
        return np.stack([descriptor.embed(views(pictures[index])) for index in missing])

    return arrays.rows(keys, compute)


def labels_of(suite: Suite) -> tuple[str, ...]:
    """Classes that the checks of a suite name, sorted: what a detector is asked to look for."""
    return tuple(sorted({label for case in suite.cases for label in _case_labels(case)}))


def _case_labels(case: Case) -> Iterable[str]:
    for check in case.checks:
        for name in ("label", "subject", "object"):
            label = getattr(check, name, None)
            if label is not None:
                yield label
        yield from getattr(check, "allowed", ())
