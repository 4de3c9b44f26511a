"""Pictures for a page: shrunk, encoded as WebP, one entry per content."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image as PillowImage

from lorabench.report.forms import Form, OneFile

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
class Preview:
    """An encoded picture, not yet part of a page.

    Attributes:
        content: WebP file.
        width: In pixels.
        height: In pixels.
    """

    content: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One picture of a page.

    Attributes:
        sha256: Of the original pixels.
        width: Of the embedded picture, in pixels.
        height: Of the embedded picture, in pixels.
        uri: `data:image/webp;base64,...`, or the file beside the page.
        shared: Whether the page holds it once and refers to it, since it shows it more than once.
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


def make_thumbnails(
    shown: Iterable[str], *, picture: PictureSource, max_edge: int, form: Form | None = None
) -> Mapping[str, Thumbnail]:
    """Encode every picture of a page once.

    Args:
        shown: SHA-256 of each picture, as often as the page shows it.
        picture: Where pictures come from.
        max_edge: Longest edge, in pixels.
        form: Of the page; None for one file.

    Returns:
        SHA-256 to thumbnail; pictures that the source does not have are left out.
    """
    times = Counter(shown)
    return place(make_previews(times, picture=picture, max_edge=max_edge), times, form=form or OneFile())


def make_previews(
    wanted: Iterable[str], *, picture: PictureSource, max_edge: int, beyond: int = 0
) -> Mapping[str, Preview]:
    """Encode pictures.

    Args:
        wanted: SHA-256 of each.
        picture: Where pictures come from.
        max_edge: Longest edge, in pixels.
        beyond: Only of pictures with an edge longer than this.

    Returns:
        SHA-256 to preview; pictures that the source does not have are left out.
    """
    found = {}
    for sha256 in wanted:
        pixels = picture(sha256)
        if pixels is not None and max(pixels.shape[:2]) > beyond:
            found[sha256] = Preview(*encode_webp(pixels, max_edge=max_edge))
    return found


def place(previews: Mapping[str, Preview], times: Mapping[str, int], *, form: Form) -> Mapping[str, Thumbnail]:
    """Give previews their places in a page.

    Args:
        previews: By SHA-256.
        times: SHA-256 to how often the page shows it.
        form: Of the page.

    Returns:
        SHA-256 to thumbnail.
    """
    return {
        sha256: Thumbnail(
            sha256,
            one.width,
            one.height,
            form.picture(one.content),
            shared=form.shares and times.get(sha256, 0) > 1,
        )
        for sha256, one in previews.items()
    }


def _has_few_colors(picture: PillowImage.Image) -> bool:
    """Whether a lossless file has a chance to be the smaller one; with grain it never is, and takes long to make."""
    return picture.getcolors(maxcolors=picture.width * picture.height // 8) is not None


def _webp(picture: PillowImage.Image, *, lossless: bool = False, quality: int = 75) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=4)
    return buffer.getvalue()
