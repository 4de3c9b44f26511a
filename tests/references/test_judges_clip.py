"""The CLIP judge on the embedded model, on pictures of the mini world whose content is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorabench.judges.clip import ClipEncoder
from lorabench.world.drawing import draw
from lorabench.world.scene import COLOURS, SHAPES, Scene, WorldObject

FOLDER = Path(__file__).parents[2] / "fixtures" / "models" / "tiny-clip"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="fixtures/models/tiny-clip is not built")
def test_embedded_clip_names_the_color_of_an_object_far_better_than_chance() -> None:
    encoder = ClipEncoder(f"local-dir:{FOLDER}", device="cpu")
    hits = []
    for shape in SHAPES:
        texts = encoder.encode_texts([f"a photo of a {colour} {shape}" for colour in COLOURS])
        for index, colour in enumerate(COLOURS):
            item = WorldObject(shape=shape, colour=colour, x=64.0, y=64.0, radius=24.0)
            picture = draw(Scene(kind="single", objects=(item,), ground="grey"), "photo", seed=index)
            hits.append(int((encoder.encode_images([picture]) @ texts.T).argmax()) == index)

    assert len(hits) == len(SHAPES) * len(COLOURS)
    assert np.mean(hits) > 0.5  # chance is one in six
