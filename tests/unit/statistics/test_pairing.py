import pickle

import numpy as np
import pytest

from lorabench.errors import MeasurementError
from lorabench.statistics.pairing import (
    NoPairsError,
    NotFiniteError,
    UnpairedError,
    cluster_means,
    cluster_sizes,
    pair_correlation,
    paired_differences,
)


def test_difference_is_candidate_minus_reference() -> None:
    differences, cases = paired_differences({("p1", 1): 0.2}, {("p1", 1): 0.5})

    assert differences == pytest.approx([-0.3])
    assert cases.tolist() == ["p1"]


def test_differences_do_not_depend_on_the_order_of_the_mappings() -> None:
    cells = {("b", 2): 1.0, ("a", 7): 2.0, ("b", 1): 4.0}
    zero = dict.fromkeys(cells, 0.0)

    differences, cases = paired_differences(cells, zero)
    turned, turned_cases = paired_differences(dict(reversed(cells.items())), zero)

    assert differences.tolist() == turned.tolist() == [2.0, 4.0, 1.0]
    assert cases.tolist() == turned_cases.tolist() == ["a", "b", "b"]


def test_cells_without_partner_are_named() -> None:
    candidate = {("p1", 2): 1.0, ("p2", 4): 1.0, ("p9", 1): 0.0}
    reference = {("p3", 7): 1.0, ("p4", 1): 1.0, ("p9", 1): 0.0}

    with pytest.raises(UnpairedError, match="needs the same cells in both arms; 4 have no partner") as raised:
        paired_differences(candidate, reference)

    assert "(first: p1/seed2, p2/seed4, p3/seed7). Re-run both arms from one plan." in str(raised.value)
    assert raised.value.missing == (("p1", 2), ("p2", 4), ("p3", 7), ("p4", 1))


def test_no_cells_at_all_are_refused() -> None:
    with pytest.raises(NoPairsError, match=r"at least one pair; found none. Check that the metric could be measured"):
        paired_differences({}, {})


def test_means_stand_beside_their_sorted_cases() -> None:
    means, labels = cluster_means([4.0, 1.0, 3.0, 2.0], ["z", "a", "z", "a"])

    assert labels.tolist() == ["a", "z"]
    assert means.tolist() == [1.5, 3.5]


def test_sizes_stand_in_the_order_of_the_means() -> None:
    assert cluster_sizes(["z", "a", "z"]).tolist() == [1, 2]


def test_every_case_counts_once_whatever_its_number_of_seeds() -> None:
    means, _ = cluster_means([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"])

    assert means.mean() == 0.5


def test_means_are_bit_equal_in_any_order_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    differences, clusters = rng.normal(size=120), np.repeat(np.arange(12), 10)
    order = rng.permutation(120)

    means, _ = cluster_means(differences, clusters)
    shuffled, _ = cluster_means(differences[order], clusters[order])

    assert means.tolist() == shuffled.tolist()


def test_empty_input_is_refused() -> None:
    with pytest.raises(NoPairsError, match="comparison needs at least one pair; found none"):
        cluster_means([], [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_and_located(bad: float) -> None:
    with pytest.raises(NotFiniteError, match=r"must be finite; 1 of 3 pairs are NaN or infinite \(first cases: p2\)"):
        cluster_means([0.0, bad, 1.0], ["p1", "p2", "p3"])


@pytest.mark.parametrize(
    ("differences", "clusters"), [([1.0, 2.0], ["a"]), ([[1.0], [2.0]], [["a"], ["b"]]), (1.0, "a")]
)
def test_arrays_that_do_not_belong_together_are_refused(differences: object, clusters: object) -> None:
    with pytest.raises(ValueError, match=r"must both have shape \(n,\).*Give each pair its difference and its case"):
        cluster_means(differences, clusters)


def test_correlation_tells_what_common_noise_was_worth() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=4000)
    candidate, reference = (common + rng.normal(size=4000) for _ in range(2))

    rho = pair_correlation(candidate, reference)

    assert rho == pytest.approx(0.5, abs=0.03)
    saved = np.var(candidate - reference) / (np.var(candidate) + np.var(reference))
    assert saved == pytest.approx(1 - rho, abs=0.01)


@pytest.mark.parametrize("arms", [([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0]), ([1.0], [2.0])])
def test_correlation_does_not_exist_where_an_arm_does_not_vary(arms: tuple[list[float], list[float]]) -> None:
    assert pair_correlation(*arms) is None


def test_correlation_of_unpaired_arms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"candidate and reference must both have shape \(n,\).*one value per pair"):
        pair_correlation([1.0, 2.0], [1.0])


@pytest.mark.parametrize("error", [UnpairedError((("p1", 2),)), NoPairsError(), NotFiniteError(("p1",), 3)])
def test_errors_are_measurement_errors_and_travel_between_processes(error: MeasurementError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(error, MeasurementError)
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
