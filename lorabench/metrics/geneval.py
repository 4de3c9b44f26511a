"""GenEval's rules over detections, as pure functions: survivors, clauses, relations, the verdict on one picture.

References:
    D. Ghosh, H. Hajishirzi, L. Schmidt, GenEval: an object-focused framework for evaluating text-to-image alignment,
    NeurIPS 2023, arXiv 2310.11513; behaviour of its evaluation script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.detection import Detection
from lorabench.records.suite import Relation

Box = tuple[float, float, float, float]

DEAD_ZONE: Final = 0.1
"""Share of the two boxes' summed sizes within which an offset counts as none."""
DIRECTION: Final = 0.5
"""Least component of the shortened offset, in units of the whole offset, for a relation to hold."""
COLORS: Final[tuple[str, ...]] = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)
"""The colour names that GenEval tells apart."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which detections count.

    Attributes:
        threshold: Detections must score strictly above it.
        counting_threshold: The same where objects are counted.
        max_objects: At most this many survive per class.
        overlap_limit: Within a class, keep a box only if its overlap with each kept one is below; None keeps all.
    """

    threshold: float = 0.3
    counting_threshold: float = 0.9
    max_objects: int = 16
    overlap_limit: float | None = None


@dataclass(frozen=True, slots=True)
class PictureVerdict:
    """GenEval's verdict on one picture.

    Attributes:
        correct: All include clauses pass, no exclude clause fires.
        reasons: One sentence per failed clause.
    """

    correct: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """One requirement of a GenEval prompt: `count` objects of a class, perhaps coloured, perhaps placed.

    Attributes:
        label: Class.
        count: Objects wanted.
        color: Colour wanted of all of them.
        relation: Where they stand, towards the objects of clause `target`.
        target: Index of an earlier include clause.
    """

    label: str
    count: int
    color: str | None = None
    relation: Relation | None = None
    target: int | None = None


def survivors(detections: Sequence[Detection], label: str, *, threshold: float, rules: Rules) -> list[Detection]:
    """The detections of a class that count, best first.

    Args:
        detections: Of one picture, any classes, any order.
        label: The class.
        threshold: Scores must lie strictly above it.
        rules: Limits on number and overlap.

    Returns:
        At most `rules.max_objects` detections.
    """
    ranked = sorted((d for d in detections if d.label == label), key=lambda d: -d.score)
    kept = [d for d in ranked if d.score > threshold][: rules.max_objects]
    if rules.overlap_limit is None:
        return kept
    apart: list[Detection] = []
    for detection in kept:
        if all(overlap(detection.box, other.box) < rules.overlap_limit for other in apart):
            apart.append(detection)
    return apart


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes in inclusive pixels (width is right - left + 1), 0 to 1."""
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - shared
    return shared / union if union else 0.0


def relations(subject: Box, reference: Box) -> frozenset[Relation]:
    """The relations in which one box stands to another: none, one, or two.

    The offset of the centres is shortened on each axis by a tenth of the summed sizes, then divided by the length
    of the whole offset; a component beyond one half names a relation.

    >>> sorted(relations((0, 0, 10, 10), (30, 0, 40, 10)))
    ['left of']

    Args:
        subject: Left, top, right, bottom; y grows downwards.
        reference: The box it is related to.

    Returns:
        The relations that hold.
    """
    offset = (_centre(subject, 0) - _centre(reference, 0), _centre(subject, 1) - _centre(reference, 1))
    short = [
        math.copysign(max(abs(apart) - DEAD_ZONE * (_size(subject, axis) + _size(reference, axis)), 0.0), apart)
        for axis, apart in enumerate(offset)
    ]
    if all(abs(value) < 1e-3 for value in short):
        return frozenset()
    x, y = (value / math.hypot(*offset) for value in short)
    holds: dict[Relation, bool] = {
        "left of": x < -DIRECTION,
        "right of": x > DIRECTION,
        "above": y < -DIRECTION,
        "below": y > DIRECTION,
    }
    return frozenset(relation for relation, true in holds.items() if true)


def parse_clauses(metadata: Mapping[str, Any]) -> tuple[tuple[Clause, ...], tuple[Clause, ...]]:
    """The include and exclude clauses of one line of GenEval's metadata.

    Args:
        metadata: `include` and perhaps `exclude`: lists of `class`, `count`, and perhaps `color` and `position`
            (a relation and the index of an earlier include clause).

    Returns:
        Include clauses, exclude clauses.

    Raises:
        SpecError: A clause lacks a key, names an unknown relation, or points at itself or at a later clause.
    """
    include = tuple(_clause(raw, index=i) for i, raw in enumerate(metadata.get("include", ())))
    exclude = tuple(_clause(raw, index=0) for raw in metadata.get("exclude", ()))
    return include, exclude


def evaluate_metadata(
    metadata: Mapping[str, Any], detections: Sequence[Detection], *, rules: Rules | None = None
) -> PictureVerdict:
    """Judge one picture by one line of GenEval's metadata.

    Clauses are independent: one dog satisfies two clauses that each ask for one dog. More objects than asked for
    are fine unless an exclude clause says otherwise. Only the `count` best detections of a class are looked at;
    worse ones cannot rescue a colour or a relation.

    Args:
        metadata: One line: `tag`, `include`, perhaps `exclude`.
        detections: Of one picture. Colours are read off `Detection.color`.
        rules: Which detections count; GenEval's own by default.

    Returns:
        The verdict.

    Raises:
        SpecError: Malformed metadata.
        MeasurementError: A colour is asked for, and the detector read none.
    """
    limits = rules or Rules()
    threshold = limits.counting_threshold if metadata.get("tag") == "counting" else limits.threshold
    include, exclude = parse_clauses(metadata)
    groups: list[list[Detection] | None] = []
    reasons: list[str] = []
    for clause in include:
        found = survivors(detections, clause.label, threshold=threshold, rules=limits)[: clause.count]
        problem = include_problem(clause, found, earlier=groups)
        groups.append(found if problem is None else None)
        reasons.extend([problem] if problem else [])
    for clause in exclude:
        n_found = len(survivors(detections, clause.label, threshold=threshold, rules=limits))
        if n_found >= clause.count:
            reasons.append(f"expected fewer than {clause.count} {clause.label}, found {n_found}")
    return PictureVerdict(correct=not reasons, reasons=tuple(reasons))


def include_problem(
    clause: Clause, found: Sequence[Detection], *, earlier: Sequence[Sequence[Detection] | None]
) -> str | None:
    """Why an include clause fails on the best detections of its class; None if it passes.

    Args:
        clause: The clause.
        found: The best detections of the class, at most `clause.count`.
        earlier: Detections of each earlier clause; None where that clause failed.

    Raises:
        MeasurementError: A colour is asked for, and the detector read none.
    """
    if len(found) < clause.count:
        return f"expected {clause.count} {clause.label}, found {len(found)}"
    if clause.color is not None:
        colors = [_color_of(detection) for detection in found]
        if colors.count(clause.color) < clause.count:
            return f"expected {clause.count} {clause.color} {clause.label}, found colours {', '.join(colors)}"
    if clause.relation is None or clause.target is None:
        return None
    targets = earlier[clause.target]
    if targets is None:
        return f"no target for {clause.label} to be {clause.relation}"
    if all(clause.relation in relations(one.box, other.box) for one in found for other in targets):
        return None
    return f"{clause.label} is not {clause.relation} its target"


def _clause(raw: Mapping[str, Any], *, index: int) -> Clause:
    if "class" not in raw or "count" not in raw:
        msg = f"a GenEval clause must have class and count; found {', '.join(raw) or 'nothing'}. Add the missing key."
        raise SpecError(msg)
    relation, target = raw.get("position", (None, None))
    if relation is not None and (relation not in get_args(Relation) or not 0 <= target < index):
        msg = (
            f"a GenEval position must name {', '.join(get_args(Relation))} and the index of an earlier clause; "
            f"found {raw['position']} in clause {index}. Correct it."
        )
        raise SpecError(msg)
    return Clause(
        label=str(raw["class"]),
        count=int(raw["count"]),
        color=raw.get("color"),
        relation=cast("Relation | None", relation),
        target=target,
    )


def _color_of(detection: Detection) -> str:
    if detection.color is None:
        msg = f"a colour is asked for; the detector read none on {detection.label}. Use a detector that reads colours."
        raise MeasurementError(msg)
    return detection.color


def _centre(box: Box, axis: int) -> float:
    return (box[axis] + box[axis + 2]) / 2.0


def _size(box: Box, axis: int) -> float:
    return abs(box[axis + 2] - box[axis])


def _area(box: Box) -> float:
    return max(box[2] - box[0] + 1.0, 0.0) * max(box[3] - box[1] + 1.0, 0.0)
