"""The position of a candidate's density between control and training pictures."""

import numpy as np
import pytest

from lorabench.evaluation.density_index import ambient_position_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import Resampling, TrainingLook
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm, Cell

RESAMPLING = Resampling(1, 300, 0.95)


def features(shift: float, *, n_cases: int = 10, uneven: bool = False) -> Features:
    """Control around 0, the candidate `shift` above it."""
    found, rng = Features(), np.random.default_rng(3)
    for case in range(n_cases):
        for seed in (1, 2) if case or not uneven else (1,):
            level = float(rng.normal(scale=0.1))
            for arm, value in ((Arm.CONTROL, level), (Arm.CANDIDATE, level + shift)):
                cell = Cell(arm=arm, case=f"c{case}", seed=seed, scale=1.0 if arm is Arm.CANDIDATE else 0.0)
                found.digest_of[cell] = cell.key
                found.readings[cell.key] = {"ambient_density": value}
    return found


def look(*levels: float) -> TrainingLook:
    empty = np.zeros(len(levels))
    return TrainingLook(empty, empty, empty, empty.astype(np.float32), readings={"ambient_density": np.array(levels)})


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(("shift", "position"), [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0), (3.0, 1.5)])
def test_position_is_the_share_of_the_way_to_the_training_pictures(shift: float, position: float, uneven: bool) -> None:
    found = ambient_position_of(features(shift, uneven=uneven), look(1.9, 2.0, 2.1), scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Comparison)
    assert found.estimate == pytest.approx(position, abs=0.05)
    assert found.low <= found.estimate <= found.high


def test_emptier_training_pictures_turn_the_axis_round() -> None:
    found = ambient_position_of(features(-1.0), look(-1.9, -2.0, -2.1), scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Comparison)
    assert found.estimate == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("training", "n_cases", "reason"),
    [
        (None, 10, "a position needs two training pictures or more"),
        (look(2.0), 10, "a position needs two training pictures or more"),
        (look(1.9, 2.1), 1, "a position needs two cases or more with pictures of control and candidate; found 1"),
        (look(-0.1, 0.1), 10, "training pictures and control must differ in density"),
    ],
)
def test_without_an_axis_there_is_a_reason(training, n_cases: int, reason: str) -> None:
    found = ambient_position_of(features(1.0, n_cases=n_cases), training, scale=1.0, resampling=RESAMPLING)

    assert isinstance(found, Unmeasured)
    assert reason in found.reason
