"""The cache of detections: one small JSON file per picture and detector. May be deleted at any time."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lorabench.records.detection import Detection
from lorabench.storage.atomic import write_bytes

_DETECTIONS = TypeAdapter(tuple[Detection, ...])


class DetectionCache:
    """Detections under keys made by `storage.arrays.array_key`. A damaged entry counts as missing."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first entry is put."""
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a key's entry lies, if it is there."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> tuple[Detection, ...] | None:
        """The detections, or None if they are missing or damaged."""
        try:
            return _DETECTIONS.validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, detections: tuple[Detection, ...]) -> None:
        """Store what a detector saw in one picture.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        write_bytes(self.path(key), _DETECTIONS.dump_json(detections))
