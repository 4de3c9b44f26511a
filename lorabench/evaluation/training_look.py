"""The training pictures as a run needs them: held-out check, VAE round trip, embeddings, texture and palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorabench.evaluation.indices import TrainingLook
from lorabench.evaluation.picture_readings import read_pictures
from lorabench.metrics.memorisation import TrainingSet as EmbeddedSet
from lorabench.metrics.memorisation import training_set
from lorabench.metrics.palette import palette_embedding
from lorabench.metrics.structure import structure_descriptor
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


@dataclass(frozen=True, slots=True)
class Training:
    """A training set, and what it looks like once it has been through the base's autoencoder.

    Attributes:
        pictures: As read from the folder.
        decoded: The same after the round trip, in the same order.
        embedded: Embeddings of the decoded pictures and their mirror images, without duplicates; None without LPIPS.
        look: Texture, palette and composition of the decoded pictures.
    """

    pictures: TrainingSet
    decoded: tuple[NDArray[np.uint8], ...]
    embedded: EmbeddedSet | None
    look: TrainingLook

    @property
    def compositions(self) -> NDArray[np.float32]:
        """Structure descriptors without those of pictures that LPIPS calls duplicates, (m, d)."""
        structures = self.look.structures
        return structures if self.embedded is None else structures[list(self.embedded.kept)]

    def records(self) -> tuple[TrainingPicture, ...]:
        """The pictures as results name them."""
        rows = zip(self.pictures.names, self.pictures.digests, self.pictures.captions, strict=True)
        return tuple(
            TrainingPicture(index=index, name=name, sha256=sha, caption=caption)
            for index, (name, sha, caption) in enumerate(rows)
        )


def look_at_training(
    training: TrainingSet,
    *,
    backend: Backend,
    pictures: PictureCache,
    lpips: PerceptualEncoder | None,
    arrays: ArrayCache,
) -> Training:
    """Send the training pictures through the base's autoencoder, embed what comes back and measure it.

    The first two are done once per base and kept in the caches.

    Args:
        training: The pictures, in the size of the run.
        backend: Has the autoencoder.
        pictures: Keeps decoded pictures.
        lpips: Embeds them; None leaves them without embeddings.
        arrays: Keeps embeddings.
    """
    decoded = _decoded(training, backend=backend, pictures=pictures)
    embedded = None if lpips is None else _embedded(decoded, lpips, arrays=arrays)
    return Training(training, decoded, embedded, look=_look(decoded, arrays=arrays))


def _decoded(training: TrainingSet, *, backend: Backend, pictures: PictureCache) -> tuple[NDArray[np.uint8], ...]:
    fingerprint = dict(backend.fingerprint())
    keys = [digest_of({"round_trip": 1, "picture": sha, "backend": fingerprint}) for sha in training.digests]
    found = {index: stored.picture for index, key in enumerate(keys) if (stored := pictures.get(key)) is not None}
    missing = [index for index in range(len(keys)) if index not in found]
    if missing:
        made = backend.round_trip([training.pictures[index] for index in missing])
        for index, picture in zip(missing, made, strict=True):
            pictures.put(keys[index], picture, material={"round_trip": training.digests[index]})
            found[index] = picture
    return tuple(found[index] for index in range(len(keys)))


def _look(decoded: Sequence[NDArray[np.uint8]], *, arrays: ArrayCache) -> TrainingLook:
    readings = read_pictures(decoded, [pixel_digest(picture) for picture in decoded], arrays=arrays)
    names = readings[0] if readings else ()
    found = {name: [value for row in readings if isinstance(value := row[name], float)] for name in names}
    return TrainingLook(
        sigmas=np.array([smooth_zone_sigma(picture) for picture in decoded]),
        fractions=np.array([flat_fraction(picture) for picture in decoded]),
        structures=np.stack([structure_descriptor(picture) for picture in decoded]),
        palettes=np.stack([palette_embedding(picture, foreground_only=True) for picture in decoded]),
        readings={name: np.array(values) for name, values in found.items()},
    )


def _embedded(plain: Sequence[NDArray[np.uint8]], lpips: PerceptualEncoder, *, arrays: ArrayCache) -> EmbeddedSet:
    both = [*plain, *(np.ascontiguousarray(picture[:, ::-1]) for picture in plain)]
    keys = [
        array_key(pixel_digest(picture), encoder=lpips.name, weights_digest=lpips.weights_digest) for picture in both
    ]
    rows = arrays.rows(keys, lambda missing: lpips.embed([both[index] for index in missing]))
    return training_set(rows[: len(plain)], rows[len(plain) :])


def open_training(
    config: TrainingSetConfig,
    *,
    suite: Suite,
    style: StylePhrases,
    line_of: Mapping[str, int] | None,
    size: tuple[int, int],
    observer: Observer,
) -> TrainingSet | None:
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
    return pictures
