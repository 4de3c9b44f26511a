"""Captions: the grammar, and the sentences withheld from training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lorabench.world.captions import (
    FLAT_PHRASE,
    PHOTO,
    TRIGGER,
    TRIGGER_PHRASE,
    caption,
    content,
    is_withheld,
    plural,
    sample_caption,
    sample_split,
)
from lorabench.world.scene import FIGURES, HELD_OUT_PAIRS, KINDS, Kind, Scene, WorldObject, sample_scene

RED, BLUE = WorldObject("circle", "red", 30.0, 64.0, 20.0), WorldObject("square", "blue", 98.0, 64.0, 20.0)


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (Scene("single", (RED,), "grey"), "a red circle"),
        (Scene("position", (RED,), "grey", position="top left"), "a red circle at the top left"),
        (Scene("pair", (RED, BLUE), "grey", relation="left of"), "a red circle left of a blue square"),
        (Scene("pair", (RED, BLUE), "grey", relation="above"), "a red circle above a blue square"),
        (Scene("and", (RED, BLUE), "grey"), "a red circle and a blue square"),
        (Scene("count", (RED,) * 3, "grey"), "three red circles"),
        (Scene("hand", (replace(RED, shape="hand", parts=5),), "grey"), "a red hand"),
    ],
)
def test_content_of_every_kind(scene: Scene, words: str) -> None:
    assert content(scene) == words


def test_relations_have_two_wordings() -> None:
    scene = Scene("pair", (RED, BLUE), "grey", relation="left of")

    assert content(scene, inverted=True) == "a blue square right of a red circle"
    assert content(replace(scene, relation="above"), inverted=True) == "a blue square below a red circle"


def test_caption_has_style_first_and_ground_last() -> None:
    scene = Scene("single", (RED,), "slate")

    assert caption(scene) == "a photo of a red circle"
    assert caption(scene, FLAT_PHRASE, name_ground=True) == "a flat illustration of a red circle on a slate background"


def test_trigger_stands_in_its_phrase() -> None:
    assert TRIGGER in TRIGGER_PHRASE.split()


def test_plurals() -> None:
    assert (plural("cross"), plural("circle")) == ("crosses", "circles")


@pytest.mark.parametrize("kind", KINDS)
def test_training_never_uses_a_withheld_sentence(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    scenes = [sample_split("training", kind, rng=rng) for _ in range(150)]
    withheld = {caption(s, PHOTO, inverted=i, name_ground=True) for s in _withheld(kind) for i in (False, True)}

    texts = {caption(s, PHOTO, inverted=i, name_ground=True) for s in scenes for i in (False, True)}

    assert withheld
    assert not texts & withheld


def _withheld(kind: Kind) -> list[Scene]:
    rng = np.random.default_rng(2)
    return [sample_split("withheld", kind, rng=rng) for _ in range(60)]


def test_both_wordings_all_grounds_and_styles_share_one_fate() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        scene = sample_scene("pair", rng=rng)
        assert is_withheld(scene) == is_withheld(replace(scene, ground="khaki"))


def test_for_figures_the_ground_belongs_to_the_sentence() -> None:
    fates = {is_withheld(Scene("person", (replace(BLUE, shape="person", parts=4),), g)) for g in ("khaki", "grey")}

    assert fates == {True, False}


def test_about_fifteen_percent_of_the_sentences_are_withheld() -> None:
    rng = np.random.default_rng(6)
    fates = {
        content(scene): is_withheld(scene)
        for scene in (sample_scene("pair", rng=rng, pairs="any") for _ in range(4000))
    }

    assert 0.10 < np.mean(list(fates.values())) < 0.20


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in FIGURES])
def test_held_out_split_holds_held_out_pairs(kind: Kind) -> None:
    scene = sample_split("held_out_pairs", kind, rng=np.random.default_rng(7))

    assert {(t.colour, t.shape) for t in scene.objects} & HELD_OUT_PAIRS


def test_held_out_figures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"held-out pairs exist for plain shapes only; got kind 'hand'"):
        sample_split("held_out_pairs", "hand", rng=np.random.default_rng(0))


def test_sampled_captions_vary_wording_and_ground() -> None:
    rng = np.random.default_rng(9)
    scene = Scene("pair", (RED, BLUE), "grey", relation="left of")

    assert len({sample_caption(scene, PHOTO, rng=rng) for _ in range(40)}) == 4
