"""Scenes of the mini world: what is in a picture, where, in which colour; sampled by kind from one generator.

A scene holds the truth of a picture and no pixel. Pictures are 128 x 128; x grows to the right, y downwards, in
pixels. Kinds and their layouts (every layout is jittered by a few pixels):

=========== ==================================================================================
single      one object in the middle
position    one object at one of eight places of a 3 x 3 grid
pair        two objects at opposite thirds, one left of or above the other
and         two objects side by side on one row, in the order of the caption
count       two or three equal objects in a row, or four in a 2 x 2 block
hand        a hand with five fingers
person      a person with four limbs
=========== ==================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    import numpy as np

SIZE: Final = 128
"""Height and width of every picture, in pixels."""

Kind = Literal["single", "position", "pair", "and", "count", "hand", "person"]
Relation = Literal["left of", "above"]
Pairs = Literal["seen", "held_out", "any"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.86, 0.12, 0.12),
    "yellow": (0.95, 0.82, 0.10),
    "green": (0.13, 0.62, 0.17),
    "cyan": (0.12, 0.78, 0.86),
    "blue": (0.12, 0.22, 0.84),
    "purple": (0.72, 0.16, 0.80),
}
"""Object colours, RGB in 0..1."""

SHAPES: Final[tuple[str, ...]] = ("circle", "square", "triangle", "cross")
FIGURES: Final[dict[str, int]] = {"hand": 5, "person": 4}
"""Figures and the number of parts (fingers, limbs) that each has."""

GROUNDS: Final[dict[str, tuple[float, float, float]]] = {
    "grey": (0.56, 0.56, 0.56),
    "beige": (0.80, 0.74, 0.63),
    "slate": (0.36, 0.42, 0.50),
    "khaki": (0.55, 0.55, 0.42),
}
"""Muted grounds, RGB in 0..1; saturation stays under .3 so that objects stand out by chroma."""

HELD_OUT_PAIRS: Final[frozenset[tuple[str, str]]] = frozenset(
    {("green", "triangle"), ("yellow", "cross"), ("purple", "circle")}
)
"""Colour-shape pairs that no picture of the base's training shows."""

POSITIONS: Final[dict[str, tuple[float, float]]] = {
    "top left": (28.0, 28.0),
    "top": (64.0, 28.0),
    "top right": (100.0, 28.0),
    "left": (28.0, 64.0),
    "right": (100.0, 64.0),
    "bottom left": (28.0, 100.0),
    "bottom": (64.0, 100.0),
    "bottom right": (100.0, 100.0),
}
"""Named places: centre of the object, in pixels."""

_COUNT_LAYOUTS: Final[dict[int, tuple[tuple[float, float], ...]]] = {
    2: ((36.0, 64.0), (92.0, 64.0)),
    3: ((24.0, 64.0), (64.0, 64.0), (104.0, 64.0)),
    4: ((36.0, 36.0), (92.0, 36.0), (36.0, 92.0), (92.0, 92.0)),
}
_COUNT_RADII: Final[dict[int, tuple[float, float]]] = {2: (18.0, 22.0), 3: (15.0, 16.5), 4: (17.0, 20.0)}


@dataclass(frozen=True, slots=True)
class WorldObject:
    """One object: its look and its place.

    Attributes:
        shape: One of `SHAPES` or `FIGURES`.
        colour: A name in `COLOURS`.
        x: Centre, in pixels from the left edge.
        y: Centre, in pixels from the top edge.
        radius: Half the extent, in pixels; hands and persons reach a little further.
        rotation: Clockwise turn in degrees.
        parts: Fingers or limbs of a figure; None for plain shapes.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    rotation: float = 0.0
    parts: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The truth of one picture.

    Attributes:
        kind: Layout family.
        objects: In caption order: of a pair, the first one is left of or above the second one.
        ground: A name in `GROUNDS`.
        relation: Only for pairs.
        position: Only for kind "position": a name in `POSITIONS`.
    """

    kind: Kind
    objects: tuple[WorldObject, ...]
    ground: str
    relation: Relation | None = None
    position: str | None = None


def sample_scene(kind: Kind, *, rng: np.random.Generator, pairs: Pairs = "seen") -> Scene:
    """Draw one scene of a kind.

    Args:
        kind: Layout family.
        rng: Source of all randomness.
        pairs: Which colour-shape pairs may occur: "seen" only those of the base's training, "held_out" at least one
            that is not among them, "any" all. Figures have no held-out colours.

    Returns:
        The scene.

    Raises:
        ValueError: The kind is unknown.
    """
    ground = _pick(tuple(GROUNDS), rng)
    if kind in FIGURES:
        return Scene(kind, (_figure(kind, rng),), ground)
    if kind == "single":
        return Scene(kind, (_placed(_look(rng, pairs), (64.0, 64.0), (23.0, 29.0), rng=rng, jitter=7.0),), ground)
    if kind == "position":
        position = _pick(tuple(POSITIONS), rng)
        thing = _placed(_look(rng, pairs), POSITIONS[position], (18.0, 22.0), rng=rng, jitter=4.0)
        return Scene(kind, (thing,), ground, position=position)
    if kind in {"pair", "and"}:
        return _two(kind, ground, rng=rng, pairs=pairs)
    if kind == "count":
        number = int(rng.integers(2, 5))
        return Scene(kind, _row(number, _look(rng, pairs), rng), ground)
    msg = f"a kind of scene must be one of {', '.join(KINDS)}; got {kind!r}. Use one of these."
    raise ValueError(msg)


def _two(kind: Kind, ground: str, *, rng: np.random.Generator, pairs: Pairs) -> Scene:
    first, second = _two_looks(rng, pairs)
    relation: Relation = "left of" if kind == "and" or rng.random() < 0.5 else "above"
    low, high = 31.0 + rng.uniform(-4, 4), 97.0 + rng.uniform(-4, 4)
    across = 64.0 + rng.uniform(-9, 9)
    places = ((low, across), (high, across)) if relation == "left of" else ((across, low), (across, high))
    things = tuple(
        _placed(look, place, (19.0, 24.0), rng=rng, jitter=2.5)
        for look, place in zip((first, second), places, strict=True)
    )
    return Scene(kind, things, ground, relation=relation if kind == "pair" else None)


def _row(number: int, look: tuple[str, str], rng: np.random.Generator) -> tuple[WorldObject, ...]:
    low, high = _COUNT_RADII[number]
    radius = rng.uniform(low, high)
    dx, dy = rng.uniform(-3, 3), rng.uniform(-3, 3) if number == 4 else rng.uniform(-10, 10)
    return tuple(
        _placed(look, (x + dx, y + dy), (radius, radius + 0.01), rng=rng, jitter=1.5) for x, y in _COUNT_LAYOUTS[number]
    )


def _figure(kind: str, rng: np.random.Generator) -> WorldObject:
    radius, rotation = rng.uniform(36.0, 40.0), rng.uniform(-6, 6)
    x, y = 64.0 + rng.uniform(-4, 4), 64.0 + rng.uniform(-4, 4)
    return WorldObject(kind, _pick(tuple(COLOURS), rng), x, y, radius, rotation, parts=FIGURES[kind])


def _placed(
    look: tuple[str, str],
    place: tuple[float, float],
    radii: tuple[float, float],
    *,
    rng: np.random.Generator,
    jitter: float,
) -> WorldObject:
    colour, shape = look
    x, y = place[0] + rng.uniform(-jitter, jitter), place[1] + rng.uniform(-jitter, jitter)
    return WorldObject(shape, colour, x, y, rng.uniform(*radii), rotation=rng.uniform(-5, 5))


def _look(rng: np.random.Generator, pairs: Pairs) -> tuple[str, str]:
    choices = [
        (c, s) for c in COLOURS for s in SHAPES if pairs == "any" or ((c, s) in HELD_OUT_PAIRS) == (pairs != "seen")
    ]
    return choices[int(rng.integers(len(choices)))]


def _two_looks(rng: np.random.Generator, pairs: Pairs) -> tuple[tuple[str, str], tuple[str, str]]:
    first = _look(rng, pairs)
    other: Pairs = "seen" if pairs == "held_out" else pairs
    second = _look(rng, other)
    while second == first:
        second = _look(rng, other)
    return (first, second) if rng.random() < 0.5 else (second, first)


def _pick(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]
