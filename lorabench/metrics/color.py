"""Colours as people see them: OKLab, chroma and hue, the background, dominant colours.

References:
    B. Ottosson, A perceptual color space for image processing (2020), https://bottosson.github.io/posts/oklab/.
    sRGB transfer curve: IEC 61966-2-1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Picture = NDArray[np.uint8]
"""One picture: (height, width, 3), RGB."""
Floats = NDArray[np.float64]

CHROMATIC: Final = 0.03
"""OKLCh chroma above which a pixel counts as coloured."""
BACKGROUND_DISTANCE: Final = 0.1
"""Largest OKLab distance from the border's colour at which a pixel still belongs to the background."""
BACKGROUND_LEAST: Final = 0.25
"""Share of the picture that an even area must cover to be called background."""
FOREGROUND_LEAST: Final = 0.005
"""Share of the picture that must be left over beside the background."""

_TO_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_LUMA: Final = np.array([0.299, 0.587, 0.114])
_BIN_BITS: Final = 5
_MOST_BINS: Final = 512
_ROUNDS: Final = 20


def check_picture(picture: NDArray[Any]) -> None:
    """Refuse what is no uint8 RGB picture.

    Raises:
        ValueError: Wrong type or shape.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        msg = (
            f"a picture must be a uint8 array of shape (height, width, 3); got {picture.dtype} {picture.shape}. "
            "Decode it to RGB first."
        )
        raise ValueError(msg)


def oklab(colors: ArrayLike) -> Floats:
    """OKLab coordinates of sRGB colours.

    >>> [round(float(value), 3) for value in oklab([1.0, 0.0, 0.0])]
    [0.628, 0.225, 0.126]

    Args:
        colors: sRGB, shape (..., 3), 0 to 1.

    Returns:
        L, a, b; shape (..., 3). L is 0 to 1; a and b stay within about 0.33.
    """
    encoded = np.asarray(colors, dtype=np.float64)
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return _oklab_of_linear(linear)


def picture_oklab(picture: Picture) -> Floats:
    """OKLab coordinates of a picture's pixels, shape (height, width, 3)."""
    check_picture(picture)
    levels = np.arange(256) / 255.0
    curve = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return _oklab_of_linear(np.asarray(curve[picture]))


def chroma(lab: Floats) -> Floats:
    """OKLCh chroma of OKLab colours: (..., 3) to (...)."""
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]))


def hue(lab: Floats) -> Floats:
    """OKLCh hue of OKLab colours in degrees, 0 to below 360: (..., 3) to (...)."""
    return np.asarray(np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360.0)


def luma(picture: NDArray[Any]) -> Floats:
    """Rec. 601 luma of RGB pixels in the picture's own unit: (height, width, 3) to (height, width)."""
    return np.asarray(np.asarray(picture, dtype=np.float64) @ _LUMA)


def hex_to_srgb(code: str) -> Floats:
    """sRGB, 0 to 1, of a colour written as `#rrggbb`.

    Raises:
        ValueError: Not of that form.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", code):
        msg = f"a colour must be written #rrggbb; got {code!r}. Write six hexadecimal digits."
        raise ValueError(msg)
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0


def background_mask(picture: Picture) -> NDArray[np.bool_]:
    """Pixels of an even background: like the border in colour, and connected with it.

    An area under a quarter of the picture is no background, and neither is one that leaves next to nothing over;
    then no pixel is marked.

    Args:
        picture: RGB, uint8.

    Returns:
        (height, width), True on the background.
    """
    from scipy.ndimage import label

    lab = picture_oklab(picture)
    height, width = lab.shape[:2]
    rim = max(1, round(0.03 * min(height, width)))
    border = np.ones((height, width), dtype=bool)
    border[rim : height - rim, rim : width - rim] = False
    even = np.linalg.norm(lab - np.median(lab[border], axis=0), axis=-1) <= BACKGROUND_DISTANCE
    areas, _ = label(even)
    touching = np.unique(areas[border & even])
    mask = np.isin(areas, touching[touching > 0])
    if mask.mean() < BACKGROUND_LEAST or mask.mean() > 1 - FOREGROUND_LEAST:
        return np.zeros_like(mask)
    return np.asarray(mask)


@dataclass(frozen=True, slots=True)
class ColorClusters:
    """A few colours that stand for a picture's.

    Attributes:
        lab: Centres in OKLab, (n, 3).
        srgb: The same centres as mean sRGB, 0 to 1, (n, 3).
        weights: Shares of the pixels, (n,), falling, sum 1.
    """

    lab: Floats
    srgb: Floats
    weights: Floats


def color_clusters(pixels: Picture, *, n: int) -> ColorClusters:
    """Group colours by k-means in OKLab, from fixed starting points: equal pixels, equal answer.

    Works on the means of the 512 most frequent 5-bit colours. The first centre is the most frequent one; each next
    one the colour whose share times squared distance to the centres so far is greatest.

    Args:
        pixels: RGB, uint8, shape (..., 3).
        n: Most clusters wanted.

    Returns:
        At most `n` clusters; fewer where the pixels have fewer colours.

    Raises:
        ValueError: No pixels, or no clusters asked for.
    """
    if pixels.size == 0 or n < 1:
        msg = f"clusters need pixels and n >= 1; got {pixels.size // 3} pixels and n = {n}. Pass a picture."
        raise ValueError(msg)
    srgb, weights = _binned(pixels.reshape(-1, 3))
    lab = oklab(srgb)
    centres = _starting_points(lab, weights, n=n)
    for _ in range(_ROUNDS):
        member = _nearest(lab, centres)
        centres = _means(lab, weights, member=member, n=len(centres))
    member = _nearest(lab, centres)
    shares = np.bincount(member, weights=weights, minlength=len(centres))
    order = np.argsort(-shares, kind="stable")
    order = order[shares[order] > 0]
    colors = _means(srgb, weights, member=member, n=len(centres))
    return ColorClusters(lab=centres[order], srgb=colors[order], weights=shares[order] / shares.sum())


def dominant_colors(picture: Picture, n: int = 6) -> list[str]:
    """The main colours of a picture as `#rrggbb`, most frequent first.

    >>> dominant_colors(np.full((4, 4, 3), 255, dtype=np.uint8))
    ['#ffffff']

    Args:
        picture: RGB, uint8, (height, width, 3).
        n: Most colours wanted.

    Returns:
        At most `n` colours, without repetition.
    """
    check_picture(picture)
    levels = np.rint(color_clusters(picture, n=n).srgb * 255).astype(int)
    return list(dict.fromkeys("#" + "".join(f"{level:02x}" for level in color) for color in levels))


def _oklab_of_linear(linear: Floats) -> Floats:
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T, dtype=np.float64)


def _binned(pixels: Picture) -> tuple[Floats, Floats]:
    coarse = (pixels >> (8 - _BIN_BITS)).astype(np.int64)
    codes = (coarse[:, 0] << (2 * _BIN_BITS)) | (coarse[:, 1] << _BIN_BITS) | coarse[:, 2]
    used, member, counts = np.unique(codes, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(member, weights=pixels[:, c], minlength=len(used)) for c in range(3)], axis=1)
    kept = np.argsort(-counts, kind="stable")[:_MOST_BINS]
    return sums[kept] / counts[kept, None] / 255.0, counts[kept].astype(np.float64)


def _starting_points(lab: Floats, weights: Floats, *, n: int) -> Floats:
    chosen = [int(np.argmax(weights))]
    squared = np.sum((lab - lab[chosen[0]]) ** 2, axis=1)
    while len(chosen) < n and np.any(squared > 0):
        chosen.append(int(np.argmax(weights * squared)))
        squared = np.minimum(squared, np.sum((lab - lab[chosen[-1]]) ** 2, axis=1))
    return np.asarray(lab[chosen])


def _nearest(points: Floats, centres: Floats) -> NDArray[np.intp]:
    return np.asarray(np.argmin(np.sum((points[:, None] - centres[None]) ** 2, axis=-1), axis=1))


def _means(points: Floats, weights: Floats, *, member: NDArray[np.intp], n: int) -> Floats:
    totals = np.bincount(member, weights=weights, minlength=n)
    sums = np.stack([np.bincount(member, weights=weights * points[:, c], minlength=n) for c in range(3)], axis=1)
    return np.asarray(sums / np.maximum(totals, 1e-300)[:, None])
