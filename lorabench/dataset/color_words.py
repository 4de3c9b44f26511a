"""Colour words of captions, and which of those colours a picture shows."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import background_mask, chroma, hue, picture_oklab

Floats = NDArray[np.float64]

WORDS: Final = MappingProxyType(
    {
        word: classes
        for classes, words in {
            ("red",): "red crimson scarlet maroon burgundy ruby",
            ("orange",): "orange amber apricot",
            ("yellow",): "yellow golden lemon mustard",
            ("green",): "green lime olive emerald mint",
            ("cyan",): "cyan turquoise teal aqua",
            ("blue",): "blue navy azure indigo cobalt",
            ("purple",): "purple violet lilac lavender mauve",
            ("pink",): "pink rose salmon",
            ("purple", "pink"): "magenta fuchsia",
            ("brown", "orange"): "brown tan chestnut bronze",
            ("white", "yellow"): "beige cream ivory",
            ("black",): "black",
            ("white",): "white",
            ("grey",): "grey gray silver",
        }.items()
        for word in words.split()
    }
)
"""Word to the classes of colour that it may stand for."""
HUES: Final = MappingProxyType(
    {
        "pink": (345.0, 12.0),
        "red": (12.0, 40.0),
        "orange": (40.0, 80.0),
        "yellow": (80.0, 118.0),
        "green": (118.0, 175.0),
        "cyan": (175.0, 232.0),
        "blue": (232.0, 290.0),
        "purple": (290.0, 345.0),
    }
)
"""Class to its range of OKLCh hues, in degrees; a range that ends below its beginning wraps around."""
COLORED: Final = 0.06
"""OKLCh chroma from which on people name a hue."""
LEAST_SHARE: Final = 0.01
"""Share of the picture that a colour must cover to be shown."""
PROMINENT: Final = 0.15
"""Share of a picture's colour that makes a colour worth naming."""
_REACH: Final = 12.0
"""Degrees by which a named hue may lie outside its range: borders between names are not sharp."""
_DARK, _LIGHT = 0.35, 0.85


def color_classes(words: frozenset[str]) -> tuple[frozenset[str], ...]:
    """For each colour word among a caption's words the classes it may stand for."""
    return tuple(frozenset(WORDS[word]) for word in sorted(words & WORDS.keys()))


def shown_classes(picture: NDArray[np.uint8]) -> frozenset[str]:
    """Classes of colour that a picture shows, generously: each on a hundredth of the picture or more.

    Args:
        picture: RGB, uint8, (height, width, 3).
    """
    lab = picture_oklab(picture).reshape(-1, 3)
    found = {name for name in HUES if _near(lab, name, reach=_REACH).mean() >= LEAST_SHARE}
    lightness, grey = lab[:, 0], chroma(lab) < COLORED
    plain = {"black": grey & (lightness < _DARK), "white": grey & (lightness > _LIGHT - 0.1), "grey": grey}
    found |= {name for name, chosen in plain.items() if chosen.mean() >= LEAST_SHARE}
    warm = _near(lab, "red", reach=_REACH) | _near(lab, "orange", reach=_REACH) | _near(lab, "yellow", reach=0.0)
    if (warm & (lightness < 0.65)).mean() >= LEAST_SHARE:
        found.add("brown")
    if (_near(lab, "red", reach=_REACH) & (lightness > 0.7)).mean() >= LEAST_SHARE:
        found.add("pink")
    return frozenset(found)


def prominent_classes(picture: NDArray[np.uint8]) -> frozenset[str]:
    """Classes of hue that make up 15 % or more of a picture's colour, the even background left out.

    Args:
        picture: RGB, uint8, (height, width, 3).
    """
    lab = picture_oklab(picture)[~background_mask(picture)]
    weights = np.where(chroma(lab) >= COLORED, chroma(lab), 0.0)
    total = float(weights.sum())
    if total == 0.0:
        return frozenset()
    return frozenset(name for name in HUES if weights[_near(lab, name, reach=0.0)].sum() / total >= PROMINENT)


def hue_histogram(picture: NDArray[Any], *, n: int) -> Floats:
    """Shares of a picture's colour by hue, (n,), weighted by chroma, the even background left out; zeros without any.

    Args:
        picture: RGB, uint8, (height, width, 3).
        n: Families of equal width, the first one around the hue of pure red.
    """
    lab = picture_oklab(picture)[~background_mask(picture)]
    weights = np.where(chroma(lab) >= COLORED, chroma(lab), 0.0)
    width = 360.0 / n
    family = (((hue(lab) - 29.0 + width / 2) % 360.0) // width).astype(np.intp) % n
    counts = np.bincount(family, weights=weights, minlength=n)
    return np.asarray(counts / counts.sum() if counts.sum() > 0 else counts)


def _near(lab: Floats, name: str, *, reach: float) -> NDArray[np.bool_]:
    low, high = HUES[name][0] - reach, HUES[name][1] + reach
    inside = (hue(lab) - low) % 360.0 <= (high - low) % 360.0
    return np.asarray(inside & (chroma(lab) >= COLORED))
