"""The oracle: reads every style and kind, counts parts, and does not read what is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lorabench.world.drawing import STYLES, Style, draw, signed_distance
from lorabench.world.oracle import BLOB, count_parts, detect
from lorabench.world.scene import COLOURS, KINDS, SHAPES, Kind, Scene, WorldObject, sample_scene
from lorabench.world.truth import read_scene


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS)
def test_scenes_of_every_style_and_kind_are_read_exactly(style: Style, kind: Kind) -> None:
    exact = []
    for i in range(12):
        scene = sample_scene(kind, rng=np.random.default_rng([13, i]), pairs="any")
        exact.append(read_scene(scene, detect(draw(scene, style, seed=i))).exact)

    assert np.mean(exact) >= 11 / 12


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("figure", "n_parts"),
    [("hand", 3), ("hand", 4), ("hand", 5), ("hand", 6), ("person", 3), ("person", 4), ("person", 5)],
)
def test_fingers_and_limbs_are_counted(style: Style, figure: str, n_parts: int) -> None:
    thing = WorldObject(figure, "yellow", 64.0, 64.0, 38.0, parts=n_parts)
    seen = detect(draw(Scene("single", (thing,), "slate"), style, seed=3))

    assert [(d.label, d.count) for d in seen] == [(figure, n_parts)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_look_is_read_with_its_place(colour: str, shape: str) -> None:
    thing = WorldObject(shape, colour, 40.0, 88.0, 20.0)
    (seen,) = detect(draw(Scene("single", (thing,), "beige"), "photo", seed=6))

    rows, columns = np.nonzero(signed_distance(thing) < 0)
    assert (seen.label, seen.color, seen.count) == (shape, colour, None)
    assert seen.box == pytest.approx((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), abs=2.5)


@pytest.mark.parametrize("style", STYLES)
def test_an_empty_ground_shows_nothing(style: Style) -> None:
    for ground in ("grey", "beige", "slate", "khaki"):
        assert detect(draw(Scene("single", (), ground), style, seed=1)) == []


def test_a_shape_outside_the_world_is_a_blob() -> None:
    pixels = np.full((128, 128, 3), 140, dtype=np.uint8)
    pixels[60:66, 10:118] = (220, 30, 30)

    assert [(d.label, d.color) for d in detect(pixels)] == [(BLOB, "red")]


def test_specks_are_not_read() -> None:
    pixels = np.full((128, 128, 3), 140, dtype=np.uint8)
    pixels[20:26, 20:26] = (220, 30, 30)

    assert detect(pixels) == []


def test_detections_come_from_left_to_right() -> None:
    scene = sample_scene("count", rng=np.random.default_rng(0))
    centres = [(d.box[0] + d.box[2]) for d in detect(draw(scene, "photo", seed=0))]

    assert centres == sorted(centres)


def test_moderate_blur_and_compression_do_not_change_the_reading() -> None:
    scene = sample_scene("pair", rng=np.random.default_rng(21))
    small = Image.fromarray(draw(scene, "photo", seed=2)).resize((64, 64), Image.Resampling.BOX)

    seen = detect(np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC)))

    assert read_scene(scene, seen).exact


def test_a_wrong_colour_is_not_taken_for_the_asked_one() -> None:
    scene = sample_scene("single", rng=np.random.default_rng(4))
    other = replace(
        scene, objects=(replace(scene.objects[0], colour="cyan" if scene.objects[0].colour != "cyan" else "red"),)
    )

    reading = read_scene(scene, detect(draw(other, "photo", seed=5)))

    assert not reading.all_present
    assert reading.found == 0.0


def test_parts_of_a_bare_disc_are_none() -> None:
    assert count_parts(signed_distance(WorldObject("circle", "red", 64.0, 64.0, 30.0)) < 0, "hand") == 0
