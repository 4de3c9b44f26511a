"""Lettering nobody asked for, lettering of the training pictures, and lettering that was asked for.

A text reader's raw boxes are of no use on illustrations: it takes every second clip-art for one large glyph. What is
left by the rule of `is_lettering` is lettering, legible or not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lorabench.records.detection import Lettering
from lorabench.records.measurement import Metric

LETTERING_RATE: Final = Metric(
    name="lettering_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of pictures with lettering that no check asks for",
)
LETTERING_SHARE: Final = Metric(
    name="lettering_share",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of the picture that looks like lettering, legible or not",
)
LETTERING_LEAK_RATE: Final = Metric(
    name="lettering_leak_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of pictures that repeat lettering of a training picture",
)

LARGEST_AREA: Final = 0.25
"""Share of the picture beyond which a box is an object taken for a glyph."""
LEAST_SCORE: Final = 0.8
"""Least score of a legible text."""
LEAST_LETTERS: Final = 3
"""Least letters and digits of a legible text; two where a sign is a syllable or a word (Han, Kana, Hangul)."""
LEAST_WIDTH: Final = 2.0
"""An illegible line counts if it is at least that many times as wide as high: three letters or more."""
LEAK_LENGTH: Final = 4
"""Least letters and digits of a string that can be said to be repeated."""
LEAK_DISTANCE: Final = 0.3
"""Largest edit distance, in lengths of the longer string, at which two readings are of one string."""
LEAK_SCORE: Final = 0.5
"""Least score of a string that is compared: two poor readings that agree are better evidence than one good one."""
WANTED_SIMILARITY: Final = 0.7
"""Least similarity of lettering that was asked for."""
MOST_FIRING: Final = 0.2
"""Largest share of the control's pictures in which the reader may find lettering that nobody asked for."""
_DENSE: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")


@dataclass(frozen=True, slots=True)
class Leak:
    """Lettering of a picture that is also on a training picture.

    Attributes:
        text: As read on the picture.
        script: Its script.
        training_index: Place of the training picture.
        training_text: As read there.
        distance: Edit distance in lengths of the longer string, 0 to `LEAK_DISTANCE`.
    """

    text: str
    script: str
    training_index: int
    training_text: str
    distance: float


def plain(text: str) -> str:
    """Letters and digits alone, without case and width.

    >>> plain("Open: 10-18!")
    'open1018'
    """
    return "".join(sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum())


def edit_distance(one: str, other: str) -> float:
    """Levenshtein's distance in lengths of the longer string, 0 to 1; two empty strings are equal.

    >>> edit_distance("bread", "break")
    0.2
    """
    if not one or not other:
        return float(bool(one or other))
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1] / max(len(one), len(other))


def is_lettering(seen: Lettering, *, size: tuple[int, int]) -> bool:
    """Whether a box is lettering and no object taken for a glyph.

    It covers at most a quarter of the picture, and it is either legible (three letters or digits, two of a script
    that writes words or syllables, read with a score of 0.8) or a line, at least twice as wide as high. The second
    half is for scripts the reader cannot read and for strokes that only look like letters.

    Args:
        seen: The box.
        size: Height and width of the picture.
    """
    left, top, right, bottom = seen.box
    if _area(seen) > LARGEST_AREA * size[0] * size[1]:
        return False
    letters = plain(seen.text)
    dense = any(unicodedata.name(sign, "").startswith(_DENSE) for sign in letters)
    legible = seen.score >= LEAST_SCORE and len(letters) >= LEAST_LETTERS - dense
    return legible or right - left >= LEAST_WIDTH * (bottom - top)


def lettering_of(seen: Sequence[Lettering], *, size: tuple[int, int]) -> tuple[Lettering, ...]:
    """The boxes of a picture that are lettering; `size` is its height and width."""
    return tuple(one for one in seen if is_lettering(one, size=size))


def lettering_share(seen: Sequence[Lettering], *, size: tuple[int, int]) -> float:
    """Share of the picture that the boxes of its lettering cover, overlaps once, 0 to 1.

    Args:
        seen: All boxes of the picture; those that are no lettering do not count.
        size: Height and width of the picture.
    """
    covered = np.zeros(size, dtype=bool)
    for one in lettering_of(seen, size=size):
        left, top, right, bottom = (round(edge) for edge in one.box)
        covered[top:bottom, left:right] = True
    return float(covered.mean())


def leak_of(seen: Sequence[Lettering], training: Sequence[Sequence[Lettering]]) -> Leak | None:
    """The piece of lettering that comes nearest to one of a training picture.

    Args:
        seen: All boxes of a picture.
        training: All boxes of each training picture.

    Returns:
        The nearest pair of strings of four letters or digits or more that differ in at most three tenths of their
        length; None if there is no such pair.
    """
    found = [
        Leak(one.text, one.script, index, other.text, distance)
        for one in _comparable(seen)
        for index, boxes in enumerate(training)
        for other in _comparable(boxes)
        if (distance := edit_distance(plain(one.text), plain(other.text))) <= LEAK_DISTANCE
    ]
    return min(found, key=lambda leak: leak.distance, default=None)


def leakable(training: Sequence[Sequence[Lettering]]) -> int:
    """In how many training pictures a string was read that could be repeated."""
    return sum(bool(_comparable(boxes)) for boxes in training)


def wanted_similarity(wanted: str, seen: Sequence[Lettering]) -> tuple[float, str]:
    """How near a picture's lettering comes to what was asked for.

    Args:
        wanted: The text asked for.
        seen: All boxes of the picture, from top to bottom.

    Returns:
        One minus the edit distance to the nearest run of neighbouring boxes, 0 to 1, and what was read there; 0 and
        nothing where nothing was read.
    """
    texts = [one.text for one in seen if one.text]
    runs = [" ".join(texts[start:end]) for start in range(len(texts)) for end in range(start + 1, len(texts) + 1)]
    return max(((1.0 - edit_distance(plain(wanted), plain(run)), run) for run in runs), default=(0.0, ""))


def said(seen: Lettering) -> str:
    """A piece of lettering in words.

    >>> said(Lettering(text="", score=0, likeness=0.9, box=(0, 0, 9, 4), script="unknown"))
    'illegible lettering (script unknown)'
    """
    what = f"{seen.text!r}" if plain(seen.text) and seen.score >= LEAST_SCORE else "illegible lettering"
    return f"{what} ({'script ' if seen.script == 'unknown' else ''}{seen.script})"


def _comparable(seen: Sequence[Lettering]) -> list[Lettering]:
    return [one for one in seen if one.score >= LEAK_SCORE and len(plain(one.text)) >= LEAK_LENGTH]


def _area(seen: Lettering) -> float:
    left, top, right, bottom = seen.box
    return (right - left) * (bottom - top)
