"""Parts, detectability, and whether the detector can judge bodies at all."""

import pytest

from lorabench.metrics.anatomy import detectability, detector_problem, instance_count_error, part_count_error
from lorabench.metrics.prompt_following import Sensor
from lorabench.metrics.reading import Missing
from lorabench.records.detection import Detection
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck

SENSOR = Sensor(labels=frozenset({"hand", "person"}), reads_color=False, counts_parts=frozenset({"hand"}))


def hand(count: int | None, *, score: float = 0.9) -> Detection:
    return Detection(label="hand", box=(0, 0, 9, 9), score=score, count=count)


def case(*checks) -> Case:
    return Case(id="hands", family="anatomy", prompt="p", checks=checks or (AnatomyCheck(label="hand", parts=5),))


@pytest.mark.parametrize(("counts", "error"), [([5], 0), ([6], 1), ([3], 2), ([], 5)])
def test_error_is_the_distance_from_the_expected_parts(counts: list[int], error: int) -> None:
    assert part_count_error(case(), [hand(n) for n in counts], sensor=SENSOR) == error


def test_error_is_the_mean_over_figures_and_missing_ones_count_whole() -> None:
    two = case(AnatomyCheck(label="hand", parts=5, subjects=2))

    assert part_count_error(two, [hand(5), hand(6)], sensor=SENSOR) == 0.5
    assert part_count_error(two, [hand(5)], sensor=SENSOR) == 2.5


def test_best_figures_are_counted() -> None:
    assert part_count_error(case(), [hand(9, score=0.5), hand(5, score=0.9)], sensor=SENSOR) == 0


def test_destroying_a_hand_is_worse_than_bending_a_finger() -> None:
    assert part_count_error(case(), [], sensor=SENSOR) > part_count_error(case(), [hand(4)], sensor=SENSOR)


@pytest.mark.parametrize(
    ("tested", "found", "reason"),
    [
        (case(AnatomyCheck(label="person", parts=4)), [], "counts none of person"),
        (case(), [hand(None)], "left one uncounted"),
        (case(ObjectCheck(label="hand")), [], "case hands has none"),
        (case(AnatomyCheck(label="hand")), [], "case hands has none"),
    ],
)
def test_no_number_has_a_reason(tested: Case, found: list, reason: str) -> None:
    error = part_count_error(tested, found, sensor=SENSOR)

    assert isinstance(error, Missing)
    assert reason in error.reason


def test_detectability_is_the_mean_of_the_best_scores_with_zero_for_missing() -> None:
    found = [hand(5, score=0.8), hand(5, score=0.4), hand(5, score=0.2)]

    assert detectability(found, "hand", n_subjects=2) == pytest.approx(0.6)
    assert detectability(found[:1], "hand", n_subjects=2) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="at least one figure"):
        detectability(found, "hand", n_subjects=0)


def test_instances_too_many_and_too_few() -> None:
    assert instance_count_error([hand(5), hand(5)], "hand", n_subjects=1, sensor=SENSOR) == 1
    assert instance_count_error([hand(5, score=0.2)], "hand", n_subjects=1, sensor=SENSOR) == 1


def test_blind_detector_is_named() -> None:
    assert detector_problem([True, True, True, False], where="training pictures") is None
    assert "in 50% of 4" in (detector_problem([True, False] * 2, where="control pictures") or "")
    assert "there are none" in (detector_problem([], where="training pictures") or "")
