"""Things nobody asked for: what a detector finds beyond what a case's checks ask for.

The checks bound a picture from below (is it there?); this bounds it from above (is that all?).

References:
    The question after A. Kasaei and M. H. Rohban, arXiv 2509.21257: what is detected and was not requested.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.metrics.geneval import Rules, overlap, survivors
from lorabench.records.detection import Detection
from lorabench.records.measurement import Metric
from lorabench.records.suite import (
    AnatomyCheck,
    Case,
    Check,
    ColorCheck,
    CountCheck,
    NoExtraCheck,
    ObjectCheck,
    RelationCheck,
)

SURPLUS_OBJECTS: Final = Metric(
    name="surplus_objects",
    version=1,
    higher_is_better=False,
    unit="root of objects",
    summary="square root of the number of things beyond those asked for, four at most",
)

MOST_COUNTED: Final = 4
"""Beyond that many things a picture is not worse: the differences have bounds, which a count that is mostly 0 needs."""
SAME_THING: Final = 0.5
"""Overlap from which two boxes of different classes are one thing."""
PART: Final = 0.8
"""Share of a box inside a thing that was asked for from which it is a part of that thing."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """What a picture shows beyond what was asked for.

    Attributes:
        extra: Class of each thing too many, best first.
        n_missing: Things asked for and not found. Each makes up for one that is too many: a thing drawn as another one
            is no invention, and prompt following counts it.
    """

    extra: tuple[str, ...]
    n_missing: int

    @property
    def count(self) -> int:
        """Things too many."""
        return max(0, len(self.extra) - self.n_missing)

    @property
    def value(self) -> float:
        """Square root of the count, whose spread does not grow with it: 0, 1, 1.41, 1.73, and 2 from four things on."""
        return math.sqrt(min(self.count, MOST_COUNTED))


def names_everything(case: Case, *, world: bool) -> bool:
    """Whether the case's checks and prompt name all that should be in its pictures.

    Args:
        case: The case.
        world: Whether it belongs to a closed world, whose prompts always do. Elsewhere only cases that ask for
            emptiness do: those of the family `sparse_scene` and those with a `no_extra` check.
    """
    if world:
        return bool(expected(case))
    return case.family == "sparse_scene" or any(isinstance(check, NoExtraCheck) for check in case.checks)


def expected(case: Case) -> dict[str, int]:
    """How many things of each class the checks ask for, at least.

    Checks on the same class and colour are about the same things; those on different colours are not.
    """
    asked: dict[tuple[str, str | None], int] = {}
    for label, color, count in _asked(case.checks):
        asked[label, color] = max(count, asked.get((label, color), 0))
    labels = dict.fromkeys(label for label, _ in asked)
    return {
        label: max(
            asked.get((label, None), 0),
            sum(count for (name, color), count in asked.items() if name == label and color is not None),
        )
        for label in labels
    }


def unbounded(case: Case) -> frozenset[str]:
    """Classes of which any number may be there: allowed by a `no_extra` check and counted by no other."""
    allowed = {label for check in case.checks if isinstance(check, NoExtraCheck) for label in check.allowed}
    return frozenset(allowed - expected(case).keys())


def surplus(case: Case, detections: Sequence[Detection], *, rules: Rules, unasked: Collection[str]) -> Surplus:
    """What a picture shows beyond what its case asks for.

    Boxes inside a thing asked for are parts of it, and boxes upon each other one thing: detectors find handles on cups
    and cups on mugs, and take a thing in two colours for two.

    Args:
        case: The case; its checks must name everything.
        detections: All that the detector found in the picture.
        rules: Which detections count; those of the counting threshold.
        unasked: Classes that count as invented although no check names them.

    Returns:
        The things too many, and how many of those asked for are missing.
    """
    asked = expected(case)
    labels = dict.fromkeys(one.label for one in detections)
    found = {
        label: survivors(detections, label, threshold=rules.counting_threshold, rules=rules)
        for label in labels
        if label in asked or (label in unasked and label not in unbounded(case))
    }
    named = [one for label in asked for one in found.get(label, ())]
    others = sorted(
        (one for label, ones in found.items() if label not in asked for one in ones), key=lambda one: -one.score
    )
    others = _things(others, named)
    counts = Counter(one.label for one in named)
    too_many = [label for label in asked for _ in range(max(0, counts[label] - asked[label]))]
    missing = sum(max(0, count - counts[label]) for label, count in asked.items())
    return Surplus(extra=(*too_many, *(one.label for one in others)), n_missing=missing)


def _asked(checks: Sequence[Check]) -> Iterator[tuple[str, str | None, int]]:
    """Class, colour and number of each thing that a check speaks of."""
    for check in checks:
        match check:
            case ObjectCheck() | CountCheck() | ColorCheck():
                yield check.label, check.color, check.count
            case AnatomyCheck():
                yield check.label, None, check.subjects
            case RelationCheck():
                yield check.subject, check.subject_color, 1
                yield check.object, check.object_color, 1
            case _:
                pass


def _things(others: Sequence[Detection], named: Sequence[Detection]) -> list[Detection]:
    """Detections that are neither a part of a thing asked for nor the same thing as a better one."""
    kept: list[Detection] = []
    for one in others:
        same = any(overlap(one.box, other.box) > SAME_THING for other in (*named, *kept))
        if not same and all(_inside(one, thing) < PART for thing in named):
            kept.append(one)
    return kept


def _inside(one: Detection, thing: Detection) -> float:
    """Share of a box that lies in another, 0 to 1."""
    width = min(one.box[2], thing.box[2]) - max(one.box[0], thing.box[0])
    height = min(one.box[3], thing.box[3]) - max(one.box[1], thing.box[1])
    area = (one.box[2] - one.box[0]) * (one.box[3] - one.box[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 0.0
