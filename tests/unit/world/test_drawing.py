"""Drawing: determinism, the styles' marks, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.world.drawing import OUTLINE, PAGE, STYLES, Style, draw, signed_distance
from lorabench.world.scene import COLOURS, FIGURES, GROUNDS, KINDS, SHAPES, Scene, WorldObject, sample_scene

SCENE = sample_scene("pair", rng=np.random.default_rng(5))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_pixels(style: Style, kind: str) -> None:
    scene = sample_scene(kind, rng=np.random.default_rng(2))  # type: ignore[arg-type]
    first, second = draw(scene, style, seed=9), draw(scene, style, seed=9)

    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


@pytest.mark.parametrize("style", ["photo", "painting"])
def test_another_seed_gives_other_light_and_grain(style: Style) -> None:
    assert not np.array_equal(draw(SCENE, style, seed=1), draw(SCENE, style, seed=2))


def test_flat_pictures_do_not_depend_on_the_seed_or_the_ground() -> None:
    other = Scene(SCENE.kind, SCENE.objects, "khaki", SCENE.relation)

    assert np.array_equal(draw(SCENE, "flat", seed=1), draw(other, "flat", seed=2))


def test_page_is_far_from_every_object_colour() -> None:
    for rgb in COLOURS.values():
        assert np.abs(np.subtract(PAGE, rgb)).max() >= 0.2
    assert np.abs(np.subtract(PAGE, OUTLINE)).max() >= 0.2


def test_page_is_far_from_every_ground() -> None:
    assert all(np.abs(np.subtract(PAGE, rgb)).max() >= 0.15 for rgb in GROUNDS.values())


def test_photo_has_grain_and_flat_has_none() -> None:
    def roughness(style: Style) -> float:
        corner = draw(SCENE, style, seed=4)[:10, :10].mean(axis=2)
        return float(np.diff(corner, axis=1).std())

    assert roughness("photo") > 2.0
    assert roughness("flat") == 0.0


def test_grounds_are_muted_and_objects_are_vivid() -> None:
    assert all(max(rgb) - min(rgb) < 0.2 for rgb in GROUNDS.values())
    assert all(max(rgb) - min(rgb) > 0.45 for rgb in COLOURS.values())


@pytest.mark.parametrize("shape", [*SHAPES, *FIGURES])
def test_every_shape_is_inside_its_radius_and_about_its_centre(shape: str) -> None:
    thing = WorldObject(shape, "red", 64.0, 64.0, 30.0, parts=FIGURES.get(shape))
    rows, columns = np.nonzero(signed_distance(thing) < 0)

    assert 900 < len(rows) < 3600
    assert abs((columns.min() + columns.max()) / 2 - 63.5) < 1.5
    assert np.hypot(columns - 63.5, rows - 63.5).max() < 1.45 * 30


def test_more_fingers_cover_more() -> None:
    areas = [
        np.count_nonzero(signed_distance(WorldObject("hand", "red", 64.0, 64.0, 38.0, parts=n)) < 0)
        for n in (3, 4, 5, 6)
    ]

    assert areas == sorted(areas)
    assert len(set(areas)) == 4


def test_unknown_style_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"a style must be one of photo, painting, flat; got 'ink'"):
        draw(SCENE, "ink", seed=0)  # type: ignore[arg-type]


def test_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a shape must be a plain shape or a figure of the world; got 'star'"):
        signed_distance(WorldObject("star", "red", 64.0, 64.0, 20.0))
