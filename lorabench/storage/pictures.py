"""The cache of pictures: key to lossless PNG, with what the key was made of. May be deleted at any time.

Each entry is two files under `<first two letters of the key>/<key>`: `.png`, and `.json` with the digest of the
pixels and the key's material. An entry counts only if both are there and the pixels have that digest; anything else
is made again. Files are written by rename, so several processes may share one cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lorabench.storage.atomic import link_or_copy, write_bytes, write_json

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPicture:
    """A picture from the cache, its pixels checked against its digest."""

    picture: Picture
    """(height, width, 3), uint8, RGB."""
    sha256: str
    """See `pixel_digest`."""
    broken: str | None = None
    """What was wrong with it when it was made."""


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How much a cache holds."""

    n_entries: int
    n_bytes: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which a key differs from the nearest one in the cache; None where a side lacks the field."""

    field: str
    wanted: str | None
    cached: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a key is in the cache or not."""

    key: str
    hit: bool
    nearest: str | None
    """Key of the entry with the fewest differences; None where the cache is empty."""
    differences: tuple[Difference, ...]

    def sentence(self) -> str:
        """The explanation in words."""
        if self.hit:
            return f"{self.key[:12]} is in the cache."
        if self.nearest is None:
            return f"{self.key[:12]} is not in the cache, which is empty."
        if not self.differences:
            return f"{self.key[:12]} was in the cache, but its entry is damaged; it will be made again."
        fields = "; ".join(f"{one.field}: wanted {one.wanted}, cached {one.cached}" for one in self.differences)
        return f"{self.key[:12]} is not in the cache; the nearest entry {self.nearest[:12]} differs in {fields}."


def pixel_digest(picture: Picture) -> str:
    """SHA-256 (hex) over shape and pixels of a picture (height, width, 3), uint8; independent of any file format."""
    digest = hashlib.sha256(f"{picture.shape}\0".encode())
    digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()


def to_png(picture: Picture) -> bytes:
    """A picture (height, width, 3), uint8, RGB, as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=3)
    return stream.getvalue()


class PictureCache:
    """Pictures under keys made by `generation.cache_key`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when the first picture is put."""
        self.folder = folder

    @staticmethod
    def pixel_digest(picture: Picture) -> str:
        """See the function of this name."""
        return pixel_digest(picture)

    def path(self, key: str) -> Path:
        """Where a key's PNG lies, if it is there."""
        return self.folder / key[:2] / f"{key}.png"

    def has(self, key: str) -> bool:
        """Whether an entry is there; does not read the pixels."""
        return self.path(key).is_file() and self._facts_path(key).is_file()

    def get(self, key: str) -> StoredPicture | None:
        """The picture, or None if it is missing or damaged. Marks the entry as used."""
        facts = self._facts(key)
        try:
            with Image.open(self.path(key)) as image:
                picture = np.asarray(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, UnidentifiedImageError):
            return None
        sha256 = pixel_digest(picture)
        if facts is None or sha256 != facts.get("sha256"):
            return None
        self._touch(key)
        broken = facts.get("broken")
        return StoredPicture(picture, sha256, broken if isinstance(broken, str) else None)

    def put(self, key: str, picture: Picture, *, material: Mapping[str, Any], broken: str | None = None) -> str:
        """Store a picture.

        Args:
            key: Its key.
            picture: (height, width, 3), uint8, RGB.
            material: What the key was made of, plain JSON types; kept for `explain`.
            broken: What was wrong with it when it was made; kept beside it.

        Returns:
            The digest of its pixels.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        sha256 = pixel_digest(picture)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_bytes(self.path(key), to_png(picture), durable=False)
        facts = {"sha256": sha256, "created": created, "material": dict(material)}
        write_json(self._facts_path(key), facts if broken is None else {**facts, "broken": broken}, durable=False)
        return sha256

    def export(self, key: str, target: Path) -> bool:
        """Put an entry's PNG where it outlives the cache: linked, or copied where it cannot be; not decoded.

        Returns:
            Whether the entry was there.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        try:
            link_or_copy(self.path(key), target)
        except FileNotFoundError:
            return False
        return True

    def explain(self, key: str, *, material: Mapping[str, Any]) -> Explanation:
        """Say whether a key would be found, and in which fields it differs from the nearest entry if not."""
        if self.get(key) is not None:
            return Explanation(key, hit=True, nearest=key, differences=())
        wanted = _flat(material)
        nearest: tuple[str, tuple[Difference, ...]] | None = None
        for other in sorted(self.keys()):
            facts = self._facts(other)
            if facts is None:
                continue
            differences = _differences(wanted, _flat(facts.get("material", {})))
            if nearest is None or len(differences) < len(nearest[1]):
                nearest = other, differences
        if nearest is None:
            return Explanation(key, hit=False, nearest=None, differences=())
        return Explanation(key, hit=False, nearest=nearest[0], differences=nearest[1])

    def material(self, key: str) -> dict[str, Any] | None:
        """What an entry was made of; None where it is missing or its facts are damaged."""
        facts = self._facts(key)
        material = None if facts is None else facts.get("material")
        return material if isinstance(material, dict) else None

    def keys(self) -> Iterator[str]:
        """Keys of all entries, in no order."""
        return (path.stem for path in self.folder.glob("??/*.png"))

    def info(self) -> CacheInfo:
        """How much the cache holds."""
        sizes = [path.stat().st_size for path in self.folder.glob("??/*.*") if path.is_file()]
        return CacheInfo(sum(1 for _ in self.keys()), sum(sizes), self.folder)

    def prune(self, max_bytes: int) -> int:
        """Remove entries, the one not used for longest first, until the cache holds at most `max_bytes`.

        Returns:
            How many entries were removed.
        """
        entries = sorted((path.stat().st_mtime_ns, path.stem) for path in self.folder.glob("??/*.png"))
        left = self.info().n_bytes
        removed = 0
        for _, key in entries:
            if left <= max_bytes:
                break
            left -= self._remove(key)
            removed += 1
        return removed

    def clear(self) -> int:
        """Remove all entries. Returns how many there were."""
        keys = list(self.keys())
        for key in keys:
            self._remove(key)
        return len(keys)

    def _remove(self, key: str) -> int:
        freed = 0
        for path in (self.path(key), self._facts_path(key)):
            if path.is_file():
                freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def _facts_path(self, key: str) -> Path:
        return self.path(key).with_suffix(".json")

    def _facts(self, key: str) -> dict[str, Any] | None:
        try:
            facts = json.loads(self._facts_path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def _touch(self, key: str) -> None:
        """Last use is the PNG's modification time. A cache that can only be read has no last use to keep."""
        try:
            os.utime(self.path(key))
        except OSError:
            return


def _flat(value: Any, *, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat.update(_flat(inner, name=f"{name}.{key}" if name else str(key)))
        return flat
    return {name: json.dumps(value, ensure_ascii=False)}


def _differences(wanted: Mapping[str, str], cached: Mapping[str, str]) -> tuple[Difference, ...]:
    fields = sorted(wanted.keys() | cached.keys())
    return tuple(
        Difference(name, wanted.get(name), cached.get(name)) for name in fields if wanted.get(name) != cached.get(name)
    )
