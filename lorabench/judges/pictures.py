"""Pictures at a judge's door: uint8 or nothing, resized in one way only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorabench.judges.protocols import Picture


def check_pictures(pictures: Sequence[Picture]) -> None:
    """Refuse anything but uint8 RGB pictures, so that no value can be rescaled twice.

    Raises:
        ValueError: Another type or shape; says which picture.
    """
    for index, picture in enumerate(pictures):
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
            found = picture.dtype if isinstance(picture, np.ndarray) else type(picture).__name__
            msg = (
                f"pictures must be uint8 arrays, 0 to 255; found {found} at index {index}. Convert it where it is made."
            )
            raise ValueError(msg)
        if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            msg = f"pictures must have shape (height, width, 3), RGB; found {picture.shape} at index {index}."
            raise ValueError(msg)


def resized(picture: Picture, *, size: int) -> Picture:
    """The picture as `size` × `size` pixels, by Pillow's antialiased bicubic filter; itself where it has that size."""
    if picture.shape[:2] == (size, size):
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
