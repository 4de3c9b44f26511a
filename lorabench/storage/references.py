"""Held-out pictures of a character or thing: what a candidate's pictures of it must be like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.errors import SpecError
from lorabench.storage.training_set import TrainingSet, read_training_set

if TYPE_CHECKING:
    from pathlib import Path


class ReferencesError(SpecError):
    """The references are no held-out pictures."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"[training_set] references must be a folder of pictures that were not trained on, beside the training "
            f"folder; {folder}: {found}. Hold pictures back from training and put them there."
        )
        self.folder = folder


def read_references(folder: Path, *, training: TrainingSet | None, size: tuple[int, int]) -> TrainingSet:
    """Read the references and refuse any that was trained on.

    A candidate that copies its training pictures is as like them as can be: only pictures it has not seen show that it
    knows the character.

    Args:
        folder: The pictures.
        training: What was trained on.
        size: (height, width) in pixels.

    Raises:
        ReferencesError: No training pictures are configured to hold them against, or a reference is one of them.
        MeasurementError: A picture cannot be used.
    """
    if training is None:
        raise ReferencesError(folder, "no training folder is configured to hold them against")
    references = read_training_set(folder, size=size)
    trained = dict(zip(training.digests, training.names, strict=True))
    both = [
        (name, trained[sha]) for name, sha in zip(references.names, references.digests, strict=True) if sha in trained
    ]
    if both:
        name, other = both[0]
        found = f"{len(both)} of {len(references.names)} are training pictures, first {name} (as {other})"
        raise ReferencesError(folder, found)
    return references
