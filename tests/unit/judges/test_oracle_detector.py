from __future__ import annotations

import numpy as np
import pytest

from lorabench.judges.oracle_detector import OracleDetector
from lorabench.registry import JUDGES
from lorabench.world.drawing import draw
from lorabench.world.scene import Scene, WorldObject, sample_scene


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    objects = (
        WorldObject(shape="circle", colour="red", x=36.0, y=64.0, radius=20.0),
        WorldObject(shape="square", colour="blue", x=92.0, y=64.0, radius=20.0),
    )
    return draw(Scene(kind="and", objects=objects, ground="grey"), "flat", seed=1)


def test_objects_and_colors_are_read(picture) -> None:
    (found,) = OracleDetector().detect([picture], labels=["circle", "square"])

    assert {(item.label, item.color) for item in found} == {("circle", "red"), ("square", "blue")}
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


def test_only_the_asked_labels_are_reported(picture) -> None:
    detector = OracleDetector()

    assert [item.label for item in detector.detect([picture], labels=["square"])[0]] == ["square"]
    assert detector.detect([picture], labels=["dog"]) == [()]
    assert detector.detect([picture, picture], labels=[]) == [(), ()]


def test_fingers_are_counted() -> None:
    scene = sample_scene("hand", rng=np.random.default_rng(2))

    (found,) = OracleDetector().detect([draw(scene, "flat", seed=2)], labels=["hand"])

    assert [item.count for item in found] == [5]


def test_facts_are_declared() -> None:
    detector = OracleDetector()

    assert JUDGES.load("oracle") is OracleDetector
    assert detector.reads_color
    assert detector.counts_parts == {"hand", "person"}
    assert len(bytes.fromhex(detector.weights_digest)) == 32
    assert detector.weights_digest == OracleDetector().weights_digest


def test_floats_are_refused(picture) -> None:
    with pytest.raises(ValueError, match="pictures must be uint8 arrays"):
        OracleDetector().detect([picture / 255], labels=["circle"])
