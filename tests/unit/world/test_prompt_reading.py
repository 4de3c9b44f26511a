from __future__ import annotations

import numpy as np
import pytest

from lorabench.world.captions import caption
from lorabench.world.prompt_reading import read_prompt
from lorabench.world.scene import KINDS, Kind, sample_scene


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inverted", [False, True])
def test_reading_a_caption_gives_a_scene_with_that_caption(kind: Kind, inverted: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        prompt = caption(sample_scene(kind, rng=rng, pairs="any"), inverted=inverted, name_ground=True)

        scene = read_prompt(prompt, rng=rng)

        assert scene is not None
        assert scene.kind == kind
        assert caption(scene, inverted=inverted, name_ground=True) == prompt


def test_layout_follows_the_generator_alone() -> None:
    first, same, other = (read_prompt("a photo of a red circle", rng=np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first == same != other


@pytest.mark.parametrize("style", ["", "a photo of ", "a flat illustration of ", "a zvq drawing of "])
def test_any_style_phrase_may_come_first(style: str) -> None:
    scene = read_prompt(f"{style}a red circle right of a blue cross", rng=np.random.default_rng(0))

    assert scene is not None
    assert [(thing.colour, thing.shape) for thing in scene.objects] == [("blue", "cross"), ("red", "circle")]


@pytest.mark.parametrize(
    "prompt", ["", "a photo of a horse", "a photo of five red circles", "a horse left of a blue square"]
)
def test_prompt_outside_the_grammar_is_none(prompt: str) -> None:
    assert read_prompt(prompt, rng=np.random.default_rng(0)) is None
