"""The caches of what was seen and read: one small JSON file per picture and judge. May be deleted at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from lorabench.records.detection import Detection, Lettering
from lorabench.records.record import Record
from lorabench.storage.atomic import write_bytes

Seen = TypeVar("Seen", bound=Record)


class _SeenCache(Generic[Seen]):
    """Tuples of records under keys made by `storage.arrays.array_key`. A damaged entry counts as missing."""

    adapter: TypeAdapter[tuple[Seen, ...]]

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first entry is put."""
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a key's entry lies, if it is there."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> tuple[Seen, ...] | None:
        """What was seen, or None if it is missing or damaged."""
        try:
            return self.adapter.validate_json(self.path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def put(self, key: str, seen: tuple[Seen, ...]) -> None:
        """Store what a judge saw in one picture.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        write_bytes(self.path(key), self.adapter.dump_json(seen), durable=False)

    def rows(
        self, keys: Sequence[str], make: Callable[[Sequence[int]], Sequence[tuple[Seen, ...]]]
    ) -> list[tuple[Seen, ...]]:
        """What was seen under all keys; what is missing is made together and stored.

        Args:
            keys: One per picture.
            make: Gives what was seen at the positions that it is handed, in that order.

        Returns:
            In the order of the keys.
        """
        found = {index: seen for index, key in enumerate(keys) if (seen := self.get(key)) is not None}
        missing = [index for index in range(len(keys)) if index not in found]
        if missing:
            for index, seen in zip(missing, make(missing), strict=True):
                self.put(keys[index], seen)
                found[index] = seen
        return [found[index] for index in range(len(keys))]


class DetectionCache(_SeenCache[Detection]):
    """What detectors saw."""

    adapter = TypeAdapter(tuple[Detection, ...])


class LetteringCache(_SeenCache[Lettering]):
    """What text readers read."""

    adapter = TypeAdapter(tuple[Lettering, ...])
