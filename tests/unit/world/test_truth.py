"""Readings: what counts as found, placed, numbered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lorabench.world.scene import KINDS, Kind, sample_scene
from lorabench.world.truth import expected_detections, read_scene


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_reads_as_exact(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        scene = sample_scene(kind, rng=rng, pairs="any")
        assert read_scene(scene, expected_detections(scene)).exact


def test_nothing_seen_finds_nothing() -> None:
    scene = sample_scene("pair", rng=np.random.default_rng(2))
    reading = read_scene(scene, [])

    assert (reading.found, reading.all_present, reading.number_right, reading.exact) == (0.0, False, False, False)


def test_an_extra_object_breaks_the_number_but_not_the_layout() -> None:
    scene = sample_scene("pair", rng=np.random.default_rng(3))
    seen = expected_detections(scene)
    extra = seen[0].model_copy(update={"label": "hand"})

    reading = read_scene(scene, [*seen, extra])

    assert reading.layout_right
    assert not reading.number_right
    assert not reading.exact


def test_swapped_colours_are_not_found() -> None:
    scene = next(
        s
        for s in (sample_scene("pair", rng=np.random.default_rng(i)) for i in range(50))
        if len({t.colour for t in s.objects}) == 2 and len({t.shape for t in s.objects}) == 2
    )
    first, second = scene.objects
    swapped = replace(scene, objects=(replace(first, colour=second.colour), replace(second, colour=first.colour)))

    assert read_scene(scene, expected_detections(swapped)).found == 0.0


def test_the_inverse_relation_is_wrong_though_all_is_present() -> None:
    scene = sample_scene("pair", rng=np.random.default_rng(5))
    first, second = scene.objects
    turned = replace(scene, objects=(replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y)))

    reading = read_scene(scene, expected_detections(turned))

    assert reading.all_present
    assert not reading.layout_right


def test_a_wrong_place_is_wrong() -> None:
    scene = next(
        s
        for s in (sample_scene("position", rng=np.random.default_rng(i)) for i in range(50))
        if s.position == "top left"
    )
    moved = replace(scene, objects=(replace(scene.objects[0], x=100.0, y=100.0),))

    assert not read_scene(scene, expected_detections(moved)).layout_right


def test_a_sixth_finger_is_wrong() -> None:
    scene = sample_scene("hand", rng=np.random.default_rng(6))
    six = [d.model_copy(update={"count": 6}) for d in expected_detections(scene)]

    reading = read_scene(scene, six)

    assert reading.parts_right is False
    assert not reading.exact


def test_plain_scenes_have_no_parts_to_be_right() -> None:
    scene = sample_scene("single", rng=np.random.default_rng(7))

    assert read_scene(scene, expected_detections(scene)).parts_right is None
