"""References are held-out pictures, or they are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorabench.storage.references import ReferencesError, read_references
from lorabench.storage.training_set import read_training_set

SIZE = (16, 16)


def folder(home: Path, name: str, *levels: int) -> Path:
    made = home / name
    made.mkdir()
    for level in levels:
        Image.fromarray(np.full((*SIZE, 3), level, dtype=np.uint8)).save(made / f"{level}.png")
    return made


def test_held_out_pictures_are_read(tmp_path: Path) -> None:
    training = read_training_set(folder(tmp_path, "trained", 10, 20), size=SIZE)

    found = read_references(folder(tmp_path, "held-out", 30, 40), training=training, size=SIZE)

    assert found.names == ("30.png", "40.png")


def test_reference_that_was_trained_on_is_refused_by_its_pixels(tmp_path: Path) -> None:
    training = read_training_set(folder(tmp_path, "trained", 10, 20), size=SIZE)

    with pytest.raises(
        ReferencesError, match=r"were not trained on.*1 of 2 are training pictures, first 20.png"
    ) as one:
        read_references(folder(tmp_path, "held-out", 20, 30), training=training, size=SIZE)

    assert one.value.exit_code == 2


def test_references_need_a_training_folder_to_be_held_against(tmp_path: Path) -> None:
    with pytest.raises(ReferencesError, match=r"no training folder is configured to hold them against"):
        read_references(folder(tmp_path, "held-out", 20), training=None, size=SIZE)
