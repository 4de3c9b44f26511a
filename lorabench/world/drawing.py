"""Pictures of the mini world: a scene and a seed in, 128 x 128 pixels out.

Styles: "photo" (gradient of light, vignette, soft shadows, shading, highlight, blur, grain), "painting" (wobbling
edges, brush noise) and "flat" (cream page, plain fill, dark outline; never shown to the base's transformer).

Shapes are signed distance fields (negative inside, in pixels), so edges are antialiased without oversampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from PIL import Image

from lorabench.world.scene import COLOURS, GROUNDS, SIZE, Scene, WorldObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]

Style = Literal["photo", "painting", "flat"]
STYLES: Final[tuple[Style, ...]] = get_args(Style)

PAGE: Final[tuple[float, float, float]] = (0.97, 0.93, 0.83)
"""Page colour of the flat style; at least .2 away from every object colour in some channel."""
OUTLINE: Final[tuple[float, float, float]] = (0.13, 0.11, 0.14)

_LINE: Final = np.arange(SIZE, dtype=np.float32) + 0.5
_X: Final = np.broadcast_to(_LINE[None, :], (SIZE, SIZE))
_Y: Final = np.broadcast_to(_LINE[:, None], (SIZE, SIZE))


def draw(scene: Scene, style: Style, *, seed: int) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: What to draw.
        style: How to draw it.
        seed: Light, grain and brushwork; the same seed gives the same pixels.

    Returns:
        RGB pixels (128, 128, 3), 0..255.

    Raises:
        ValueError: The style is unknown.
    """
    if style not in STYLES:
        msg = f"a style must be one of {', '.join(STYLES)}; got {style!r}. Use one of these."
        raise ValueError(msg)
    rng = np.random.default_rng([seed, 7])
    painters = {"photo": _photo, "painting": _painting, "flat": _flat}
    picture = painters[style](scene, rng)
    return np.asarray(np.clip(picture * 255.0 + 0.5, 0, 255), dtype=np.uint8)


def signed_distance(thing: WorldObject) -> Field:
    """Distance of every pixel to the object's outline.

    Args:
        thing: The object.

    Returns:
        Array (128, 128), in pixels, negative inside.

    Raises:
        ValueError: The shape is unknown.
    """
    u, v = _local(thing)
    r = np.float32(thing.radius)
    if thing.shape == "circle":
        return np.asarray(np.hypot(u, v) - r)
    if thing.shape == "square":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) - np.float32(0.9) * r)
    if thing.shape == "triangle":
        apothem = np.float32(0.62) * r
        low = v - np.float32(0.5) * apothem
        return np.asarray(np.maximum(low, np.float32(0.8660254) * np.abs(u) - np.float32(0.5) * low) - apothem)
    if thing.shape == "cross":
        a, b, arm = np.abs(u), np.abs(v), np.float32(0.34) * r
        return np.asarray(np.minimum(np.maximum(a - r, b - arm), np.maximum(a - arm, b - r)))
    if thing.shape == "hand":
        return _hand(u, v, r, parts=thing.parts or 0)
    if thing.shape == "person":
        return _person(u, v, r, parts=thing.parts or 0)
    msg = f"a shape must be a plain shape or a figure of the world; got {thing.shape!r}. Use one of SHAPES or FIGURES."
    raise ValueError(msg)


def _local(thing: WorldObject) -> tuple[Field, Field]:
    turn = np.deg2rad(thing.rotation)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = _X - np.float32(thing.x), _Y - np.float32(thing.y)
    return cos * x + sin * y, cos * y - sin * x


def _hand(u: Field, v: Field, r: np.float32, *, parts: int) -> Field:
    palm = (0.0, 0.40)
    field = _capsule(u, v, r, start=palm, end=(0.0, 0.72), width=0.28)
    field = np.minimum(field, _capsule(u, v, r, start=palm, end=palm, width=0.46))
    for angle in np.deg2rad(np.linspace(-80.0, 80.0, parts)):
        tip = (1.15 * float(np.sin(angle)), 0.40 - 1.22 * float(np.cos(angle)))
        field = np.minimum(field, _capsule(u, v, r, start=palm, end=tip, width=0.13))
    return field


_LIMBS: Final = (
    ((-0.15, -0.32), (-0.86, 0.06)),
    ((0.15, -0.32), (0.86, 0.06)),
    ((-0.12, 0.28), (-0.46, 1.0)),
    ((0.12, 0.28), (0.46, 1.0)),
    ((0.15, -0.36), (0.74, -0.84)),
    ((-0.15, -0.36), (-0.74, -0.84)),
)


def _person(u: Field, v: Field, r: np.float32, *, parts: int) -> Field:
    field = _capsule(u, v, r, start=(0.0, -0.74), end=(0.0, -0.74), width=0.27)
    field = np.minimum(field, _capsule(u, v, r, start=(0.0, -0.24), end=(0.0, 0.24), width=0.29))
    field = np.minimum(field, _capsule(u, v, r, start=(0.0, -0.74), end=(0.0, -0.24), width=0.16))
    for start, end in _LIMBS[:parts]:
        field = np.minimum(field, _capsule(u, v, r, start=start, end=end, width=0.13))
    return field


def _capsule(
    u: Field, v: Field, r: np.float32, *, start: tuple[float, float], end: tuple[float, float], width: float
) -> Field:
    """Distance to a thick line; start, end and half-width in units of the radius."""
    ax, ay = np.float32(start[0]) * r, np.float32(start[1]) * r
    bx, by = np.float32(end[0]) * r - ax, np.float32(end[1]) * r - ay
    length = bx * bx + by * by
    x, y = u - ax, v - ay
    if length > 0:
        along = np.clip((x * bx + y * by) / length, 0.0, 1.0)
        x, y = x - along * bx, y - along * by
    return np.asarray(np.hypot(x, y) - np.float32(width) * r)


def _photo(scene: Scene, rng: np.random.Generator) -> Field:
    angle = rng.uniform(0, 2 * np.pi)
    lx, ly = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    across = ((_X - 64) * lx + (_Y - 64) * ly) / np.float32(64)
    light = 1.0 + np.float32(rng.uniform(0.05, 0.14)) * across
    light -= np.float32(rng.uniform(0.02, 0.10)) * ((_X - 64) ** 2 + (_Y - 64) ** 2) / np.float32(8192)
    picture: Field = np.broadcast_to(_tinted(GROUNDS[scene.ground], rng, 0.05), (SIZE, SIZE, 3)) * light[..., None]
    for thing in scene.objects:
        picture = _lit_object(picture, thing, light=(lx, ly), rng=rng)
    return _blurred(picture) + _grain(rng)


def _lit_object(
    picture: Field, thing: WorldObject, *, light: tuple[np.float32, np.float32], rng: np.random.Generator
) -> Field:
    lx, ly = light
    distance = signed_distance(thing)
    cover = np.clip(0.5 - distance, 0, 1)
    offset = (round(-4 * float(ly)), round(-4 * float(lx)))
    shadow = np.clip(0.5 - np.roll(distance, offset, axis=(0, 1)) / 7, 0, 1) * np.float32(0.32)
    picture = picture * (1 - shadow)[..., None]
    u, v = (_X - np.float32(thing.x)) / np.float32(thing.radius), (_Y - np.float32(thing.y)) / np.float32(thing.radius)
    shade = (1 + np.float32(0.16) * (u * lx + v * ly)) * (0.86 + 0.14 * np.clip(-distance / 4, 0, 1))
    gloss = np.float32(0.25) * np.exp(-((u - 0.35 * lx) ** 2 + (v - 0.35 * ly) ** 2) / np.float32(0.09))
    body = _tinted(COLOURS[thing.colour], rng, 0.04) * shade[..., None] + gloss[..., None]
    return np.asarray(picture * (1 - cover)[..., None] + body * cover[..., None])


def _painting(scene: Scene, rng: np.random.Generator) -> Field:
    strokes = _cloud(rng, (14, 40))[..., None] * np.float32(0.045)
    picture = np.broadcast_to(_tinted(GROUNDS[scene.ground], rng, 0.05), (SIZE, SIZE, 3)) + strokes
    for thing in scene.objects:
        distance = signed_distance(thing) + _cloud(rng, (16, 16)) * np.float32(0.9)
        cover = np.clip(0.5 - distance / 1.5, 0, 1)[..., None]
        body = _tinted(COLOURS[thing.colour], rng, 0.05) + _cloud(rng, (40, 12))[..., None] * np.float32(0.06)
        picture = picture * (1 - cover) + body * cover
    return np.asarray(picture, dtype=np.float32)


def _flat(scene: Scene, _rng: np.random.Generator) -> Field:
    picture: Field = np.broadcast_to(np.asarray(PAGE, dtype=np.float32), (SIZE, SIZE, 3))
    for thing in scene.objects:
        distance = signed_distance(thing)
        line, fill = np.clip(1.2 - distance, 0, 1)[..., None], np.clip(-0.8 - distance, 0, 1)[..., None]
        picture = picture * (1 - line) + np.asarray(OUTLINE, dtype=np.float32) * line
        picture = picture * (1 - fill) + np.asarray(COLOURS[thing.colour], dtype=np.float32) * fill
    return np.asarray(picture, dtype=np.float32)


def _tinted(colour: tuple[float, float, float], rng: np.random.Generator, amount: float) -> Field:
    shift = rng.uniform(-amount, amount) + rng.uniform(-amount / 3, amount / 3, 3)
    return (np.asarray(colour) + shift).astype(np.float32)


def _blurred(picture: Field) -> Field:
    """Three-tap blur along both axes; the border repeats."""
    rows = np.concatenate([picture[:1], picture, picture[-1:]])
    picture = 0.2 * rows[:-2] + 0.6 * rows[1:-1] + 0.2 * rows[2:]
    columns = np.concatenate([picture[:, :1], picture, picture[:, -1:]], axis=1)
    return np.asarray(0.2 * columns[:, :-2] + 0.6 * columns[:, 1:-1] + 0.2 * columns[:, 2:], dtype=np.float32)


def _grain(rng: np.random.Generator) -> Field:
    fine = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * np.float32(0.014)
    clouds = _cloud(rng, (64, 64)) * np.float32(0.024) + _cloud(rng, (22, 22)) * np.float32(0.010)
    return np.asarray((fine + clouds)[..., None])


def _cloud(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Noise of unit size on a coarse grid (rows, columns), smoothly enlarged to the picture."""
    coarse = Image.fromarray(rng.standard_normal(shape, dtype=np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)
