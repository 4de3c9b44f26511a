"""Pictures for a page: shrunk, encoded as WebP, one entry per content."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image as PillowImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PictureSource: TypeAlias = "Callable[[str], NDArray[np.uint8] | None]"
"""SHA-256 of the pixels to the picture, uint8 (h, w, 3) RGB; None where the store no longer has it."""

LOSSY_QUALITY: Final = 82
EXACT_EDGE: Final = 256
"""Up to this edge a picture is kept at its own size, and exactly where that is the smaller file."""
EXACT_QUALITY: Final = 90


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One embedded picture.

    Attributes:
        sha256: Of the original pixels.
        width: Of the embedded picture, in pixels.
        height: Of the embedded picture, in pixels.
        uri: `data:image/webp;base64,...`
        shared: Whether the page shows it more than once; it is then embedded once and referred to.
    """

    sha256: str
    width: int
    height: int
    uri: str
    shared: bool

    @property
    def anchor(self) -> str:
        """Id under which a shared picture is embedded."""
        return f"px-{self.sha256[:20]}"


def encode_webp(pixels: NDArray[np.uint8], *, max_edge: int) -> tuple[bytes, int, int]:
    """Encode one picture for a page.

    A picture with no edge beyond 256 px and beyond `max_edge` keeps its size, and is stored at quality 90, or
    losslessly where it has few colours and that is the smaller file. Larger ones are shrunk (Lanczos) and stored at
    quality 82.

    Args:
        pixels: uint8 (h, w, 3), RGB.
        max_edge: Longest edge of the result, in pixels.

    Returns:
        File content, width, height.

    Raises:
        ValueError: `max_edge` is not positive.
    """
    if max_edge < 1:
        msg = f"the longest edge of a thumbnail must be at least 1 pixel, got {max_edge}. Give a size such as 256."
        raise ValueError(msg)
    picture = PillowImage.fromarray(pixels)
    if max(picture.size) <= min(EXACT_EDGE, max_edge):
        lossy = _webp(picture, quality=EXACT_QUALITY)
        exact = _webp(picture, lossless=True) if _has_few_colors(picture) else lossy
        return min(exact, lossy, key=len), picture.width, picture.height
    picture.thumbnail((max_edge, max_edge), PillowImage.Resampling.LANCZOS)
    return _webp(picture, quality=LOSSY_QUALITY), picture.width, picture.height


def make_thumbnails(shown: Iterable[str], *, picture: PictureSource, max_edge: int) -> Mapping[str, Thumbnail]:
    """Encode every picture of a page once.

    Args:
        shown: SHA-256 of each picture, as often as the page shows it.
        picture: Where pictures come from.
        max_edge: Longest edge, in pixels.

    Returns:
        SHA-256 to thumbnail; pictures that the source does not have are left out.
    """
    thumbnails = {}
    for sha256, times in Counter(shown).items():
        pixels = picture(sha256)
        if pixels is not None:
            content, width, height = encode_webp(pixels, max_edge=max_edge)
            uri = "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
            thumbnails[sha256] = Thumbnail(sha256, width, height, uri, shared=times > 1)
    return thumbnails


def large_pictures(wanted: Iterable[str], *, picture: PictureSource, beyond: int, max_edge: int) -> Mapping[str, str]:
    """Larger previews of some pictures.

    Args:
        wanted: SHA-256 of each.
        picture: Where pictures come from.
        beyond: Only of pictures with an edge longer than this, which are shrunk otherwise.
        max_edge: Longest edge, in pixels.

    Returns:
        SHA-256 to `data:image/webp;base64,...`.
    """
    found = {}
    for sha256 in wanted:
        pixels = picture(sha256)
        if pixels is not None and max(pixels.shape[:2]) > beyond:
            content, _, _ = encode_webp(pixels, max_edge=max_edge)
            found[sha256] = "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
    return found


def _has_few_colors(picture: PillowImage.Image) -> bool:
    """Whether a lossless file has a chance to be the smaller one; with grain it never is, and takes long to make."""
    return picture.getcolors(maxcolors=picture.width * picture.height // 8) is not None


def _webp(picture: PillowImage.Image, *, lossless: bool = False, quality: int = 75) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=4)
    return buffer.getvalue()
