"""The benchmark of costs times every picture metric, against one reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.metric_costs import REFERENCE, chosen, features, per_picture, ratios, readers, rounded
from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.records.plan import Arm


def test_every_picture_metric_is_timed() -> None:
    assert {one.metric.name for one in PICTURE_METRICS} <= set(readers())


def test_times_are_positive_and_ratios_are_to_the_reference() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    found = per_picture([picture], judges={"a judge": lambda _: sum(range(200_000))})

    assert found[REFERENCE] > 0
    assert found["a judge"] > found[REFERENCE]
    assert set(ratios(found)) == set(found) - {REFERENCE}
    assert ratios({REFERENCE: 0.002, "x": 0.011}) == {"x": 5.5}
    assert rounded(0.0123) == 0.012


def test_a_run_has_both_arms_with_every_seed() -> None:
    made = features(np.random.default_rng(0))

    assert len(made.digest_of) == len(made.structure) == len(made.palette) == 248
    assert {cell.arm for cell in made.digest_of} == {Arm.CONTROL, Arm.CANDIDATE}


def test_pictures_are_middle_squares_spread_over_the_folder(tmp_path: Path) -> None:
    for number in range(9):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")

    found = chosen(tmp_path, n=3)

    assert [one.size for one in found] == [(20, 20)] * 3
    assert [one.getpixel((0, 0))[0] for one in found] == [0, 4, 8]


def test_an_empty_folder_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="must hold pictures; it holds none"):
        chosen(tmp_path)
