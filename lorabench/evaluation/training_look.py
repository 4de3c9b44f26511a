"""The training pictures as a run needs them: held-out check, VAE round trip, embeddings, texture and palette."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lorabench.evaluation.indices import TrainingLook
from lorabench.metrics.memorisation import TrainingSet as EmbeddedSet
from lorabench.metrics.memorisation import training_set
from lorabench.metrics.palette import palette_embedding
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma
from lorabench.records.record import digest_of
from lorabench.records.results import TrainingPicture
from lorabench.storage.arrays import array_key
from lorabench.storage.heldout import check_held_out
from lorabench.storage.pictures import pixel_digest
from lorabench.storage.training_set import TrainingSet, read_training_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.judges.protocols import PerceptualEncoder
    from lorabench.records.config import TrainingSetConfig
    from lorabench.records.plan import StylePhrases
    from lorabench.records.suite import Suite
    from lorabench.storage.arrays import ArrayCache
    from lorabench.storage.pictures import PictureCache


class Training:
    """A training set, and what it looks like once it has been through the base's autoencoder."""

    def __init__(self, pictures: TrainingSet) -> None:
        self.pictures = pictures
        self._decoded: list[NDArray[np.uint8]] | None = None

    def pass_through(self, backend: Backend, *, pictures: PictureCache) -> None:
        """Send every picture through the base's autoencoder, once per base: it is kept in the picture cache."""
        fingerprint = dict(backend.fingerprint())
        keys = [
            digest_of({"round_trip": 1, "picture": sha, "backend": fingerprint}) for sha in self.pictures.digests
        ]
        stored = [pictures.get(key) for key in keys]
        found = [None if entry is None else entry.picture for entry in stored]
        missing = [index for index, picture in enumerate(found) if picture is None]
        if missing:
            made = backend.round_trip([self.pictures.pictures[index] for index in missing])
            for index, picture in zip(missing, made, strict=True):
                pictures.put(keys[index], picture, material={"round_trip": self.pictures.digests[index]})
                found[index] = picture
        self._decoded = [picture for picture in found if picture is not None]

    @property
    def decoded(self) -> list[NDArray[np.uint8]]:
        """The pictures after the round trip."""
        assert self._decoded is not None  # pass_through comes first
        return self._decoded

    def embedded(self, lpips: PerceptualEncoder | None, *, arrays: ArrayCache) -> EmbeddedSet | None:
        """Embeddings of the decoded pictures and their mirror images, without duplicates; None without LPIPS."""
        if lpips is None:
            return None
        plain = self.decoded
        mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in plain]
        both = [*plain, *mirrored]
        keys = [
            array_key(pixel_digest(picture), encoder=lpips.name, weights_digest=lpips.weights_digest)
            for picture in both
        ]
        rows = arrays.rows(keys, lambda missing: lpips.embed([both[index] for index in missing]))
        return training_set(rows[: len(plain)], rows[len(plain) :])

    def look(self) -> TrainingLook:
        """Texture and palette of the decoded pictures."""
        return TrainingLook(
            sigmas=np.array([smooth_zone_sigma(picture) for picture in self.decoded]),
            fractions=np.array([flat_fraction(picture) for picture in self.decoded]),
            palettes=np.stack([palette_embedding(picture, foreground_only=True) for picture in self.decoded]),
        )

    def records(self) -> tuple[TrainingPicture, ...]:
        """The pictures as results name them."""
        rows = zip(self.pictures.names, self.pictures.digests, self.pictures.captions, strict=True)
        return tuple(
            TrainingPicture(index=index, name=name, sha256=sha, caption=caption)
            for index, (name, sha, caption) in enumerate(rows)
        )


def open_training(
    config: TrainingSetConfig,
    *,
    suite: Suite,
    style: StylePhrases,
    line_of: Mapping[str, int] | None,
    size: tuple[int, int],
    observer: Observer,
) -> Training | None:
    """Read the configured training set and refuse a suite that is not held out from it.

    Returns:
        The training set; None where none is configured.

    Raises:
        MeasurementError: The pictures cannot be used.
        HeldOutError: A prompt equals a caption.
    """
    if config.folder is None:
        return None
    pictures = read_training_set(config.folder, config.captions, size=size)
    near = check_held_out(suite, pictures.caption_of, style=style, line_of=line_of)
    if near:
        observer.note(f"{len(near)} prompts share nine tenths of their words with a caption, first: {near[0]}")
    return Training(pictures)
