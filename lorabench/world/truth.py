"""What a picture of a scene must show, and how far the oracle's reading agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorabench.records.detection import Detection
from lorabench.world.drawing import signed_distance
from lorabench.world.scene import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.world.scene import Scene, WorldObject

PLACE_TOLERANCE = 21.0
"""An object is at its named place if its centre is at most this far off, in pixels along each axis (half a third)."""


@dataclass(frozen=True, slots=True)
class SceneReading:
    """How a reading compares with a scene.

    Attributes:
        found: Share of the requested objects that are there (colour and shape right), 0..1.
        all_present: Every requested object is there.
        number_right: Exactly the requested number of each colour-shape pair, and nothing else.
        layout_right: All present, and relation, order or place as requested; scenes without one: as `all_present`.
        parts_right: Every figure has its number of parts; None without figures.
        exact: Layout, number and parts are right.
    """

    found: float
    all_present: bool
    number_right: bool
    layout_right: bool
    parts_right: bool | None
    exact: bool


def expected_detections(scene: Scene) -> list[Detection]:
    """What a perfect detector would return for a scene, from left to right."""
    return sorted((_expected(thing) for thing in scene.objects), key=lambda d: (d.box[0] + d.box[2], d.box[1]))


def read_scene(scene: Scene, detections: Sequence[Detection]) -> SceneReading:
    """Compare detections with what the scene's sentence asks for.

    Args:
        scene: What was asked for. Places count by their thirds, not by the pixel.
        detections: What was seen.

    Returns:
        The comparison.
    """
    wanted = [(t.colour, t.shape) for t in scene.objects]
    seen = [(d.color, d.label) for d in detections]
    hits = sum(min(wanted.count(look), seen.count(look)) for look in set(wanted))
    all_present = hits == len(wanted)
    number_right = sorted(wanted) == sorted((str(c), s) for c, s in seen)
    layout_right = all_present and _layout(scene, detections)
    figures = [
        d.count for t in scene.objects if t.parts for d in detections if (d.color, d.label) == (t.colour, t.shape)
    ]
    goal = [t.parts for t in scene.objects if t.parts]
    parts_right = (bool(figures) and all(c == goal[0] for c in figures)) if goal else None
    return SceneReading(
        found=hits / len(wanted),
        all_present=all_present,
        number_right=number_right,
        layout_right=layout_right,
        parts_right=parts_right,
        exact=layout_right and number_right and parts_right is not False,
    )


def _layout(scene: Scene, detections: Sequence[Detection]) -> bool:
    first = _centres(detections, scene.objects[0])
    if scene.kind == "position":
        goal = np.asarray(POSITIONS[str(scene.position)])
        return bool((np.abs(first - goal).max(axis=1) <= PLACE_TOLERANCE).any())
    if scene.kind in {"pair", "and"}:
        axis = 1 if scene.relation == "above" else 0
        second = _centres(detections, scene.objects[1])
        gap = second[None, :, axis] - first[:, None, axis]
        across = np.abs(second[None, :, 1 - axis] - first[:, None, 1 - axis])
        return bool(((gap > 0) & (gap > across)).any())
    return True


def _centres(detections: Sequence[Detection], thing: WorldObject) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Centres (n, 2) of the detections that look like the object."""
    boxes = [d.box for d in detections if (d.color, d.label) == (thing.colour, thing.shape)]
    return np.array([((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes])


def _expected(thing: WorldObject) -> Detection:
    mask = signed_distance(thing) < 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Detection(label=thing.shape, box=box, score=1.0, color=thing.colour, count=thing.parts)
