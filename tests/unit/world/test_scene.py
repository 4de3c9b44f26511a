"""Scenes: layouts, held-out pairs, determinism, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.world.scene import FIGURES, HELD_OUT_PAIRS, KINDS, SIZE, Kind, Scene, sample_scene

PLAIN_KINDS: tuple[Kind, ...] = ("single", "position", "pair", "and", "count")


def many(kind: Kind, n: int = 200, **options: str) -> list[Scene]:
    rng = np.random.default_rng(3)
    return [sample_scene(kind, rng=rng, **options) for _ in range(n)]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_one_generator_state_gives_one_scene(kind: Kind) -> None:
    assert sample_scene(kind, rng=np.random.default_rng(8)) == sample_scene(kind, rng=np.random.default_rng(8))


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_pairs_are_never_drawn_for_training(kind: Kind) -> None:
    looks = {(t.colour, t.shape) for scene in many(kind) for t in scene.objects}

    assert not looks & HELD_OUT_PAIRS


@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_held_out_scenes_hold_a_held_out_pair(kind: Kind) -> None:
    scenes = many(kind, pairs="held_out")

    assert all({(t.colour, t.shape) for t in scene.objects} & HELD_OUT_PAIRS for scene in scenes)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_stay_inside_the_picture(kind: Kind) -> None:
    for scene in many(kind):
        for thing in scene.objects:
            reach = thing.radius * (1.25 if thing.shape in FIGURES else 0.9)
            assert reach < thing.x < SIZE - reach
            assert thing.y < SIZE - 0.9 * thing.radius


def test_first_object_of_a_pair_is_left_of_or_above_the_second() -> None:
    for scene in many("pair"):
        first, second = scene.objects
        dx, dy = second.x - first.x, second.y - first.y
        assert (dx > 40 and abs(dy) < 10) if scene.relation == "left of" else (dy > 40 and abs(dx) < 10)


def test_and_puts_its_objects_on_one_row_in_caption_order() -> None:
    for scene in many("and"):
        first, second = scene.objects
        assert second.x - first.x > 40
        assert abs(second.y - first.y) < 10
        assert scene.relation is None


def test_the_two_objects_of_a_pair_differ() -> None:
    assert all(
        (s.objects[0].colour, s.objects[0].shape) != (s.objects[1].colour, s.objects[1].shape) for s in many("pair")
    )


def test_counts_are_two_three_and_four_equal_objects() -> None:
    scenes = many("count")

    assert {len(scene.objects) for scene in scenes} == {2, 3, 4}
    assert all(len({(t.colour, t.shape) for t in scene.objects}) == 1 for scene in scenes)


def test_figures_have_five_fingers_and_four_limbs() -> None:
    assert {scene.objects[0].parts for scene in many("hand")} == {5}
    assert {scene.objects[0].parts for scene in many("person")} == {4}


def test_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"a kind of scene must be one of single, position, .* got 'crowd'"):
        sample_scene("crowd", rng=np.random.default_rng(0))  # type: ignore[arg-type]
