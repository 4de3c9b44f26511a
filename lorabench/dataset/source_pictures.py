"""Training pictures as they lie in their folder: full size, file format, compression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorabench.storage.pictures import pixel_digest
from lorabench.storage.training_set import open_upright, picture_paths, read_captions

Picture = NDArray[np.uint8]

LOOK_EDGE: Final = 512
"""Longest edge, in pixels, at which compositions, palettes and flatness are read."""
_STANDARD_LUMA: Final = 57.625
"""Mean of the luma quantisation table of the JPEG standard at quality 50."""


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """One file of the folder.

    Attributes:
        name: Path below the folder, with forward slashes.
        pixels: RGB, uint8, (height, width, 3), in its own size.
        small: The same with a longest edge of at most 512 pixels.
        sha256: Digest of `pixels`.
        file_format: As Pillow names it: `PNG`, `JPEG`, ...
        jpeg_quality: 1 to 100 on the scale of the Independent JPEG Group; None for other formats.
        caption: Its caption, if it has one.
    """

    name: str
    pixels: Picture
    small: Picture
    sha256: str
    file_format: str
    jpeg_quality: int | None
    caption: str | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)


def read_sources(folder: Path, captions: Path | None = None) -> Iterator[SourcePicture]:
    """Read the pictures of a folder one by one, in the order of their names.

    Args:
        folder: The pictures; hidden files are passed over.
        captions: Captions as JSON lines; without, as `read_training_set` finds them.

    Raises:
        TrainingFolderError: No folder, or no picture in it.
        TrainingPictureError: A picture is broken, animated, 16-bit, CMYK or too large.
        CaptionsError: A caption file is wrong, or names a picture that is not there.
    """
    texts = read_captions(folder, captions)
    for name, path in picture_paths(folder).items():
        upright = open_upright(path)
        pixels = np.asarray(upright, dtype=np.uint8)
        file_format, quality = _file_facts(path)
        yield SourcePicture(
            name=name,
            pixels=pixels,
            small=_small(upright, pixels),
            sha256=pixel_digest(pixels),
            file_format=file_format,
            jpeg_quality=quality,
            caption=texts.get(name),
        )


def quality_of_table(luma: list[int]) -> int:
    """Quality that made a luma quantisation table, on the scale of the Independent JPEG Group.

    The standard table is scaled by 50 / q below 50 and by 2 - q / 50 above, so the mean tells q.

    >>> quality_of_table([16] * 64)
    86

    Args:
        luma: 64 divisors.

    Returns:
        1 to 100.
    """
    scale = sum(luma) / len(luma) / _STANDARD_LUMA
    quality = 50 / scale if scale > 1 else 100 - 50 * scale
    return int(min(max(round(quality), 1), 100))


def _small(upright: Image.Image, pixels: Picture) -> Picture:
    longest = max(upright.size)
    if longest <= LOOK_EDGE:
        return pixels
    size = tuple(max(round(edge * LOOK_EDGE / longest), 1) for edge in upright.size)
    return np.asarray(upright.resize((size[0], size[1]), Image.Resampling.LANCZOS), dtype=np.uint8)


def _file_facts(path: Path) -> tuple[str, int | None]:
    with Image.open(path) as picture:
        tables = getattr(picture, "quantization", None)
        luma = list(tables[0]) if isinstance(tables, dict) and 0 in tables else None
        return picture.format or "unknown", quality_of_table(luma) if luma else None
