"""The cache of features: one float32 array per picture (or sentence) and encoder. May be deleted at any time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorabench.records.record import digest_of
from lorabench.storage.atomic import write_bytes
from lorabench.storage.pictures import CacheInfo

Array = NDArray[np.float32]

_DIGEST_BYTES = 32


def array_key(content: str, *, encoder: str, weights_digest: str, parameters: Mapping[str, Any] | None = None) -> str:
    """Key of one feature array.

    Args:
        content: Digest of the picture's pixels, or of the sentence.
        encoder: Name of the judge.
        weights_digest: Digest of the judge's weights.
        parameters: Whatever else changes the numbers; plain JSON types.

    Returns:
        SHA-256, hex.
    """
    return digest_of(
        {
            "content": content,
            "encoder": encoder,
            "weights": weights_digest,
            "parameters": dict(parameters or {}),
            "array": 1,
        }
    )


class ArrayCache:
    """Arrays under keys made by `array_key`. Entries carry a digest; a damaged one counts as missing."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first array is put."""
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a key's entry lies, if it is there."""
        return self.folder / key[:2] / f"{key}.npy"

    def get(self, key: str) -> Array | None:
        """The array, or None if it is missing or damaged."""
        try:
            content = self.path(key).read_bytes()
        except OSError:
            return None
        body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            return None
        try:
            array = np.load(io.BytesIO(body), allow_pickle=False)
        except ValueError:
            return None
        return np.asarray(array, dtype=np.float32)

    def put(self, key: str, array: Array) -> None:
        """Store an array of any shape as float32, with a digest behind it.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        stream = io.BytesIO()
        np.save(stream, np.asarray(array, dtype=np.float32), allow_pickle=False)
        body = stream.getvalue()
        write_bytes(self.path(key), body + hashlib.sha256(body).digest(), durable=False)

    def rows(self, keys: Sequence[str], make: Callable[[list[int]], Array]) -> Array:
        """The arrays of all keys, stacked; those that are missing are made together and stored.

        Args:
            keys: One key per picture, (n,).
            make: Gives the arrays (m, ...) of the m positions that it is handed, in that order.

        Returns:
            (n, ...), in the order of the keys.

        Raises:
            ValueError: No keys.
        """
        if not keys:
            msg = "there must be at least one key to stack rows; got none. Ask only for pictures that exist."
            raise ValueError(msg)
        found = [self.get(key) for key in keys]
        missing = [index for index, array in enumerate(found) if array is None]
        if missing:
            made = make(missing)
            for index, row in zip(missing, made, strict=True):
                self.put(keys[index], row)
                found[index] = np.asarray(row, dtype=np.float32)
        return np.stack([array for array in found if array is not None])

    def info(self) -> CacheInfo:
        """How much the cache holds."""
        sizes = [path.stat().st_size for path in self.folder.glob("??/*.npy")]
        return CacheInfo(len(sizes), sum(sizes), self.folder)

    def prune(self, max_bytes: int) -> int:
        """Remove entries, oldest first, until at most `max_bytes` are held. Returns how many were removed."""
        entries = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self.folder.glob("??/*.npy"))
        left, removed = sum(size for _, size, _ in entries), 0
        for _, size, path in entries:
            if left <= max_bytes:
                break
            path.unlink(missing_ok=True)
            left -= size
            removed += 1
        return removed

    def clear(self) -> int:
        """Remove all entries. Returns how many there were."""
        paths = list(self.folder.glob("??/*.npy"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)
