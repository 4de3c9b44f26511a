"""The training pictures as a run needs them: held-out check, VAE round trip, embeddings, texture and palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lorabench.evaluation.content_encoding import read_lettering
from lorabench.evaluation.encoding import described, sketched
from lorabench.evaluation.indices import TrainingLook
from lorabench.evaluation.picture_readings import read_pictures
from lorabench.metrics.descriptor_copies import DescribedSet, described_set, training_views
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
from lorabench.storage.references import read_references
from lorabench.storage.training_set import TrainingSet, read_training_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.judges.protocols import CopyEncoder, ImageTextEncoder, PerceptualEncoder, TextReader
    from lorabench.records.config import Config, TrainingSetConfig
    from lorabench.records.detection import Lettering
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
        described: Copy descriptors of the decoded pictures, without duplicates; None without that judge.
        looks: CLIP's vectors of the decoded pictures, (m, d); None without CLIP.
        references: The same of the held-out references after the round trip; None without any, or without CLIP.
        lettering: What a text reader reads on the pictures as they are; None without one.
    """

    pictures: TrainingSet
    decoded: tuple[NDArray[np.uint8], ...]
    embedded: EmbeddedSet | None
    look: TrainingLook
    described: DescribedSet | None = None
    looks: NDArray[np.float32] | None = None
    references: NDArray[np.float32] | None = None
    lettering: tuple[tuple[Lettering, ...], ...] | None = None

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
    descriptor: CopyEncoder | None = None,
    clip: ImageTextEncoder | None = None,
    references: TrainingSet | None = None,
    reader: TextReader | None = None,
) -> Training:
    """Send the training pictures through the base's autoencoder, embed what comes back and measure it.

    The first two are done once per base and kept in the caches.

    Args:
        training: The pictures, in the size of the run.
        backend: Has the autoencoder.
        pictures: Keeps decoded pictures.
        lpips: Embeds them; None leaves them without embeddings.
        arrays: Keeps embeddings.
        descriptor: Describes them for the search for edited copies; None leaves that out.
        clip: Sees their look; None leaves that out.
        references: Held-out pictures of what was trained, in the size of the run.
        reader: Reads their lettering, before the round trip; None leaves that out.
    """
    decoded = _decoded(training, backend=backend, pictures=pictures)
    embedded = None if lpips is None else _embedded(decoded, lpips, arrays=arrays)
    copies = None if descriptor is None else _described(decoded, descriptor, arrays=arrays)
    found = Training(training, decoded, embedded, look=_look(decoded, arrays=arrays), described=copies)
    if reader is not None:
        folder = arrays.folder.parent
        read = read_lettering(training.pictures, training.digests, reader=reader, folder=folder)
        found = replace(found, lettering=tuple(read))
    if clip is None:
        return found
    held_out = None if references is None else _decoded(references, backend=backend, pictures=pictures)
    return replace(
        found,
        looks=_seen(decoded, clip, arrays=arrays),
        references=None if held_out is None else _seen(held_out, clip, arrays=arrays),
    )


def _seen(decoded: Sequence[NDArray[np.uint8]], clip: ImageTextEncoder, *, arrays: ArrayCache) -> NDArray[np.float32]:
    keys = [
        array_key(
            pixel_digest(picture), encoder=clip.name, weights_digest=clip.weights_digest, parameters={"of": "picture"}
        )
        for picture in decoded
    ]
    return arrays.rows(keys, lambda missing: clip.encode_images([decoded[index] for index in missing]))


def _described(decoded: Sequence[NDArray[np.uint8]], descriptor: CopyEncoder, *, arrays: ArrayCache) -> DescribedSet:
    digests = [pixel_digest(picture) for picture in decoded]
    return described_set(described(decoded, digests, descriptor=descriptor, arrays=arrays, views=training_views))


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
    digests = [pixel_digest(picture) for picture in decoded]
    readings = read_pictures(decoded, digests, arrays=arrays)
    names = readings[0] if readings else ()
    found = {name: [value for row in readings if isinstance(value := row[name], float)] for name in names}
    return TrainingLook(
        sigmas=np.array([smooth_zone_sigma(picture) for picture in decoded]),
        fractions=np.array([flat_fraction(picture) for picture in decoded]),
        structures=np.stack([structure_descriptor(picture) for picture in decoded]),
        palettes=np.stack([palette_embedding(picture, foreground_only=True) for picture in decoded]),
        readings={name: np.array(values) for name, values in found.items()},
        sketches=sketched(decoded, digests, arrays=arrays),
    )


def _embedded(plain: Sequence[NDArray[np.uint8]], lpips: PerceptualEncoder, *, arrays: ArrayCache) -> EmbeddedSet:
    both = [*plain, *(np.ascontiguousarray(picture[:, ::-1]) for picture in plain)]
    keys = [
        array_key(pixel_digest(picture), encoder=lpips.name, weights_digest=lpips.weights_digest) for picture in both
    ]
    rows = arrays.rows(keys, lambda missing: lpips.embed([both[index] for index in missing]))
    return training_set(rows[: len(plain)], rows[len(plain) :])


def open_references(config: Config, *, training: TrainingSet | None) -> TrainingSet | None:
    """Read the configured held-out references; None where none are configured.

    Raises:
        ReferencesError: One of them was trained on, or no training set is configured.
        MeasurementError: The pictures cannot be used.
    """
    folder = config.training_set.references
    if folder is None:
        return None
    return read_references(folder, training=training, size=(config.generation.height, config.generation.width))


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
