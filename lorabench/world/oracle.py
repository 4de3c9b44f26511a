"""The oracle: reads shapes, colours, places and parts off a picture of the mini world, by rules and without weights.

Per colour, pixels of that hue and enough chroma form components. Each component is cut again half-way between its own
colour and the ground around it, which removes the bias of blur and shading, and is compared with upright templates of
all shapes (three small turns each). Fingers and limbs are what an opening by a wide disc removes and what sticks out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from lorabench.records.detection import Detection
from lorabench.world.drawing import signed_distance
from lorabench.world.scene import FIGURES, SHAPES, WorldObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Field = NDArray[np.floating[Any]]

BLOB: Final = "blob"
"""Label of a coloured thing that is no shape of the world."""
MIN_AREA: Final = 90
"""Smallest component that is read, in pixels of a 128 x 128 picture."""
MIN_CHROMA: Final = 0.26
MIN_SATURATION: Final = 0.38
MIN_OVERLAP: Final = 0.62
"""Least intersection over union with a template for a shape to be named."""

OUTLINE_VALUE: Final = 0.3
"""Brightness under which a pixel is an outline, 0..1."""
ONE_COLOUR: Final = 0.995
"""Share of a component that one colour must have for it to be read as one thing of that colour."""

_HUES: Final[tuple[tuple[str, float, float], ...]] = (
    ("red", -25.0, 27.0),
    ("yellow", 27.0, 78.0),
    ("green", 78.0, 157.0),
    ("cyan", 157.0, 207.0),
    ("blue", 207.0, 261.0),
    ("purple", 261.0, 335.0),
)
_SIDE: Final = 32
_REACH: Final = {"hand": (0.46, 0.24), "person": (0.29, 0.195)}
"""Figure: half-width of its thickest part, and radius of the opening; in units of the figure's radius."""
_MARGIN: Final = 8


def detect(image: NDArray[np.uint8]) -> list[Detection]:
    """Read every object of a picture.

    Args:
        image: RGB pixels (h, w, 3), 0..255; thresholds in pixels are meant for 128 x 128.

    Returns:
        Objects from left to right. `label` is a shape, a figure or `BLOB`; `score` the intersection over union with
        the best template; `count` the fingers or limbs of a figure.
    """
    pixels = np.asarray(image, dtype=np.float32) / 255
    hue, chroma, value = _hue_chroma_value(pixels)
    coloured = (chroma > MIN_CHROMA) & (chroma > MIN_SATURATION * value)
    found = []
    masks = {colour: coloured & (hue >= low) & (hue < high) for colour, low, high in _HUES}
    for colour, mask in masks.items():
        if np.count_nonzero(mask) >= MIN_AREA:
            found += _read_colour(pixels, mask, colour=colour, coloured=coloured)
    for figure in _mixed_figures(coloured | (value < OUTLINE_VALUE), masks):
        found = [*(other for other in found if not _inside(other, figure)), figure]
    return sorted(found, key=lambda d: (d.box[0] + d.box[2], d.box[1]))


def count_parts(mask: Mask, figure: str) -> int:
    """Count the fingers of a hand or the limbs of a person.

    Args:
        mask: The figure's silhouette (h, w).
        figure: "hand" or "person".

    Returns:
        Number of thin parts that stick out of the body.
    """
    from scipy import ndimage

    padded = np.pad(mask, 2)
    inside = ndimage.distance_transform_edt(padded)
    thick, opening = _REACH[figure]
    radius = float(inside.max()) / thick
    kept = inside > opening * radius
    beyond = ndimage.distance_transform_edt(~kept) - opening * radius
    parts, n_parts = ndimage.label(padded & (beyond > 1.5), structure=np.ones((3, 3)))
    reach = ndimage.maximum(beyond, parts, index=np.arange(1, n_parts + 1))
    return int(np.count_nonzero(np.asarray(reach) > 0.3 * radius))


def _hue_chroma_value(pixels: Field) -> tuple[Field, Field, Field]:
    """Hue in degrees from -25 to 335, chroma and value in 0..1; each (h, w)."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    value, low = pixels.max(-1), pixels.min(-1)
    chroma = value - low
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        value == red, (green - blue) / safe, np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    degrees = (hue * 60) % 360
    return np.where(degrees >= 335, degrees - 360, degrees), chroma, value


def _read_colour(pixels: Field, mask: Mask, *, colour: str, coloured: Mask) -> list[Detection]:
    """Detections among the pixels of one colour."""
    from scipy import ndimage

    opened = ndimage.binary_opening(mask, structure=np.ones((3, 3)))
    components, _ = ndimage.label(opened, structure=np.ones((3, 3)))
    found = []
    for index, window in enumerate(ndimage.find_objects(components), start=1):
        box = tuple(slice(max(0, s.start - _MARGIN), s.stop + _MARGIN) for s in window)
        part = components[box] == index
        if np.count_nonzero(part) < MIN_AREA:
            continue
        shape = _recut(pixels[box], part, coloured=coloured[box])
        if np.count_nonzero(shape) >= MIN_AREA:
            found.append(_name(shape, colour, origin=(box[1].start, box[0].start)))
    return found


def _mixed_figures(drawn: Mask, masks: Mapping[str, Mask]) -> list[Detection]:
    """Hands and persons in more than one colour, which fall apart when colours are read one by one.

    Their parts are counted on the silhouette of all colours and of the outline; the colour is the most frequent one.
    """
    from scipy import ndimage

    components, n_components = ndimage.label(drawn, structure=np.ones((3, 3)))
    found = []
    for index, window in enumerate(ndimage.find_objects(components)[:n_components], start=1):
        part = components[window] == index
        area = sum(np.count_nonzero(part & mask[window]) for mask in masks.values())
        if area < MIN_AREA:
            continue
        shares = {colour: np.count_nonzero(part & mask[window]) / area for colour, mask in masks.items()}
        colour = max(shares, key=lambda name: shares[name])
        if shares[colour] >= ONE_COLOUR:
            continue
        shape = np.asarray(ndimage.binary_fill_holes(np.pad(part, 2)))
        if np.count_nonzero(shape) < MIN_AREA:
            continue
        named = _name(shape, colour, origin=(window[1].start - 2, window[0].start - 2))
        if named.label in FIGURES:
            found.append(named)
    return found


def _inside(other: Detection, figure: Detection) -> bool:
    """Whether the middle of a detection lies in a figure's box."""
    x, y = (other.box[0] + other.box[2]) / 2, (other.box[1] + other.box[3]) / 2
    return figure.box[0] <= x <= figure.box[2] and figure.box[1] <= y <= figure.box[3]


def _recut(pixels: Field, part: Mask, *, coloured: Mask) -> Mask:
    """Cut a component at the half-way level between its colour and the ground around it."""
    from scipy import ndimage

    grown = ndimage.binary_dilation(part, iterations=3)
    ring = ndimage.binary_dilation(grown, iterations=4) & ~grown & ~coloured
    if np.count_nonzero(ring) < 20:
        return np.asarray(ndimage.binary_fill_holes(part))
    ground = np.median(pixels[ring], axis=0)
    axis = np.median(pixels[part], axis=0) - ground
    level = (pixels - ground) @ axis / float(axis @ axis)
    cut = grown & ((level > 0.5) | ndimage.binary_erosion(part, iterations=2))
    labels, n_labels = ndimage.label(cut)
    if n_labels > 1:
        cut = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(cut))


def _name(shape: Mask, colour: str, *, origin: tuple[int, int]) -> Detection:
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    top, left = int(rows[0]), int(columns[0])
    crop = shape[top : rows[-1] + 1, left : columns[-1] + 1]
    names, templates = _templates()
    candidate = _normalised(crop).ravel()
    shared = templates @ candidate
    overlap = shared / (templates.sum(1) + candidate.sum() - shared)
    best = int(np.argmax(overlap))
    label = names[best] if overlap[best] >= MIN_OVERLAP else BLOB
    x, y = origin[0] + left, origin[1] + top
    return Detection(
        label=label,
        box=(float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0])),
        score=min(1.0, float(overlap[best])),
        color=colour,
        count=count_parts(crop, label) if label in FIGURES else None,
    )


def _normalised(crop: Mask) -> Field:
    """Scale a silhouette so that its longer side is 32 pixels, centred on a 32 x 32 field of 0..1."""
    height, width = crop.shape
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = np.asarray(Image.fromarray(crop.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    field = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    field[top : top + size[1], left : left + size[0]] = scaled
    return (field > 0.5).astype(np.float32)


@lru_cache(maxsize=1)
def _templates() -> tuple[tuple[str, ...], Field]:
    """Names (t,) and normalised silhouettes (t, 1024) of all shapes, in three turns; figures with 3 to 6 parts."""
    names, fields = [], []
    for shape in (*SHAPES, *FIGURES):
        for parts in (3, 4, 5, 6) if shape in FIGURES else (None,):
            for turn in (-5.0, 0.0, 5.0):
                thing = WorldObject(shape, "red", 64.0, 64.0, 36.0, rotation=turn, parts=parts)
                mask = signed_distance(thing) < 0
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                names.append(shape)
                fields.append(_normalised(crop).ravel())
    return tuple(names), np.stack(fields)
