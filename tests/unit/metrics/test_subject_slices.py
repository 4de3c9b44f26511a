"""The worst kind of subject, with the looking for it paid for."""

import numpy as np
import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.subject_slices import read_slices, slices_of, together
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck, Suite
from lorabench.statistics.intervals import t_interval


def suite(*cases: Case) -> Suite:
    return Suite(name="s", licence="CC0-1.0", seeds=(1,), cases=cases)


def case(name: str, family: str = "spatial", *tags: str, label: str | None = None) -> Case:
    checks = (ObjectCheck(label="cup"),) if label is None else (AnatomyCheck(label=label, parts=5),)
    return Case(id=name, family=family, prompt="{style} a cup", checks=checks, tags=tags)


def spread(mean: float, n: int = 20, *, seed: int = 0, sd: float = 0.05) -> list[float]:
    values = np.random.default_rng(seed).normal(0, sd, n)
    return list(values - values.mean() + mean)


def test_tags_name_the_subjects_and_untagged_cases_belong_nowhere() -> None:
    made = suite(
        case("a", "subject_diversity", "golden-hour", "animal"), case("b", "subject_diversity", "person"), case("c")
    )

    assert slices_of(made) == {"animal": ("a",), "person": ("b",)}


def test_families_stand_in_for_subjects_and_figures_for_anatomy() -> None:
    made = suite(case("a"), case("b", "anatomy", label="hand"), case("c", "anatomy", label="person"), case("d"))

    assert slices_of(made) == {"spatial": ("a", "d"), "hand": ("b",), "person": ("c",)}


def test_fallen_slice_is_read_against_the_control_where_the_rest_has_not_fallen() -> None:
    read = read_slices({"person": spread(0.0), "landscape": spread(-0.4, seed=1)}, confidence_level=0.95)

    assert not isinstance(read, Missing)
    worst = read[0]
    expected = t_interval(spread(-0.4, seed=1), np.arange(20), confidence_level=0.95**0.5)
    assert worst.name == "landscape"
    assert (worst.estimate, worst.low, worst.high) == pytest.approx((-0.4, expected.low, expected.high))
    assert worst.p_harm < 1e-6


def test_adapter_that_loses_everywhere_alike_is_not_uneven() -> None:
    slices = {name: spread(-0.4, seed=seed) for seed, name in enumerate(("person", "animal", "object"))}

    read = read_slices(slices, confidence_level=0.95)

    assert not isinstance(read, Missing)
    assert all(abs(reading.estimate) < 1e-9 for reading in read)
    assert all(reading.low < 0 < reading.high for reading in read)


def test_slices_of_few_cases_are_left_out() -> None:
    read = read_slices({"a": spread(0.0), "b": spread(0.0, seed=1), "c": [-1.0] * 4}, confidence_level=0.95)

    assert not isinstance(read, Missing)
    assert {reading.name for reading in read} == {"a", "b"}


def test_one_slice_has_nothing_to_be_worse_than() -> None:
    read = read_slices({"animal": spread(0.0), "person": [0.0] * 3}, confidence_level=0.95)

    assert isinstance(read, Missing)
    assert "two kinds of subject with at least 5 cases each; found animal 20, person 3" in read.reason


def test_equal_cases_are_no_proof_that_none_would_fall() -> None:
    same = {"a": [0.0] * 10, "b": [0.0] * 10}

    unseen = read_slices(same, confidence_level=0.95)
    identical = read_slices(same, confidence_level=0.95, same_pictures=True)

    assert not isinstance(unseen, Missing)
    assert not isinstance(identical, Missing)
    assert unseen[0].low == pytest.approx(-(1 - ((1 - 0.95**0.5) / 2) ** 0.1))
    assert (identical[0].low, identical[0].high) == (0.0, 0.0)


def test_a_slice_that_has_lost_everything_everywhere_needs_no_spread_to_be_told() -> None:
    slices = {"hand": [-1.0] * 9, "spatial": spread(-0.25, n=16, seed=1), "person": spread(-0.3, n=10, seed=2)}

    unknown = read_slices(slices, confidence_level=0.95)
    full = read_slices(slices, confidence_level=0.95, headroom={"hand": 0.0, "spatial": 1.0, "person": 1.0})

    assert not isinstance(unknown, Missing)
    assert not isinstance(full, Missing)
    assert (full[0].name, full[0].estimate) == (unknown[0].name, unknown[0].estimate)
    assert full[0].high < unknown[0].high < 0.15
    assert full[0].high < -0.2


def test_looking_for_the_worst_of_five_costs_no_false_alarms() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(600):
        slices = {str(i): rng.normal(0, 0.2, 6) for i in range(5)}
        read = read_slices(slices, confidence_level=0.95)
        assert not isinstance(read, Missing)
        alarms += together([reading.p_harm for reading in read]) <= 0.05

    assert 0.0 < alarms / 600 < 0.06


def test_smallest_of_many_p_values_is_paid_for() -> None:
    assert together([0.01]) == pytest.approx(0.01)
    assert together([0.01, 0.9, 0.9, 0.9, 0.9]) == pytest.approx(1 - 0.99**5)
