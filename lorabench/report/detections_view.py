"""What a detector saw in one picture, as boxes to draw over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.detection import Detection
from lorabench.records.images import Image
from lorabench.records.suite import (
    AnatomyCheck,
    Check,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    RelationCheck,
)

TEXT_SHARE: Final = 0.062
"""Height of a box's words over the picture's longer edge: about 11 px on a card's picture."""
N_LINES: Final = 8
"""Lines inside a box that are tried for its words, where those above and below it are taken."""


@dataclass(frozen=True, slots=True)
class BoxView:
    """One detection; places in pixels of the original picture."""

    words: str
    path: str
    """The outline, as an SVG path."""
    text_x: float
    text_y: float
    """Base line of the words."""
    asked: bool
    """Whether a check of the case names such a thing."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Everything that was detected in one picture."""

    width: int
    height: int
    text_size: float
    boxes: tuple[BoxView, ...]

    @property
    def words(self) -> str:
        """All detections in one sentence."""
        if not self.boxes:
            return "Detected: nothing"
        named = (box.words + ("" if box.asked else ", which no check names") for box in self.boxes)
        return f"Detected: {'; '.join(named)}"

    @property
    def asked_path(self) -> str:
        """Outlines of all things that checks name."""
        return "".join(box.path for box in self.boxes if box.asked)

    @property
    def other_path(self) -> str:
        """Outlines of all other things."""
        return "".join(box.path for box in self.boxes if not box.asked)


def overlay_of(image: Image, detections: Iterable[Detection], *, checks: Iterable[Check]) -> Overlay:
    """Place the detections of one picture.

    Args:
        image: The picture.
        detections: Seen in it, boxes in its pixels.
        checks: Of its case; what none of them names is told apart. Where none names a thing, nothing is.

    Returns:
        Boxes, surest first. What reaches over the picture's edge is cut off there.
    """
    named = set(_labels(checks))
    size = round(TEXT_SHARE * max(image.width, image.height), 1)
    boxes: list[BoxView] = []
    for one in sorted(detections, key=lambda one: -one.score):
        boxes.append(_box(one, image, size=size, asked=not named or one.label in named, beside=boxes))
    return Overlay(image.width, image.height, size, tuple(boxes))


def detection_words(one: Detection) -> str:
    """Colour, label, parts and score.

    >>> detection_words(Detection(label="hand", box=(0, 0, 9, 9), score=0.912, count=6))
    'hand, 6 parts 0.91'
    """
    name = f"{one.color} {one.label}" if one.color else one.label
    parts = "" if one.count is None else f", {one.count} part{'' if one.count == 1 else 's'}"
    return f"{name}{parts} {one.score:.2f}"


def _labels(checks: Iterable[Check]) -> Iterable[str]:
    for check in checks:
        match check:
            case RelationCheck():
                yield from (check.subject, check.object)
            case NoExtraCheck():
                yield from check.allowed
            case ObjectCheck() | ExcludeCheck() | ColorCheck() | CountCheck() | AnatomyCheck():
                yield check.label
            case _:
                pass


def _box(one: Detection, image: Image, *, size: float, asked: bool, beside: Sequence[BoxView]) -> BoxView:
    left, right = (round(min(max(x, 0.0), image.width), 1) for x in (one.box[0], one.box[2]))
    top, bottom = (round(min(max(y, 0.0), image.height), 1) for y in (one.box[1], one.box[3]))
    words = detection_words(one)
    x = round(max(min(left, image.width - _length(words, size)), 0.0), 1)
    path = f"M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}z"
    inside = (top + (1.05 + 1.15 * line) * size for line in range(N_LINES))
    wanted = (top - 0.35 * size, bottom + 1.05 * size, *inside)
    heights = [round(min(max(y, size), image.height - 0.3 * size), 1) for y in wanted]
    free = (y for y in heights if not any(_meet(x, y, words, other, size) for other in beside))
    return BoxView(words, path, x, next(free, heights[0]), asked)


def _length(words: str, size: float) -> float:
    return 0.58 * size * len(words)


def _meet(x: float, y: float, words: str, other: BoxView, size: float) -> bool:
    """Whether words at this place would run into another box's."""
    apart = x > other.text_x + _length(other.words, size) or other.text_x > x + _length(words, size)
    return not apart and abs(y - other.text_y) < 1.1 * size
