"""Spread from seed to seed and prompt to prompt, and the effective number of pictures."""

import math

import numpy as np
import pytest

from lorabench.metrics.diversity import case_spread, similarity_kernel, vendi_score

CASES = np.repeat(np.arange(3), 2)
SEEDS = np.tile([7, 11], 3)


def test_vendi_score_of_the_published_examples() -> None:
    points = np.array([0.0, 0.0, 10.0, 10.0, 20.0, 20.0])
    kernel = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])

    assert vendi_score(np.exp(-np.abs(points[:, None] - points))) == pytest.approx(2.9999, abs=2e-4)
    assert vendi_score(kernel) == pytest.approx(2.1573, abs=1e-4)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_vendi_score_is_n_for_strangers_and_1_for_copies(n: int, order: float) -> None:
    assert vendi_score(np.eye(n), order=order) == pytest.approx(n)
    assert vendi_score(np.ones((n, n)), order=order) == pytest.approx(1.0)


def test_vendi_score_of_infinite_order_sees_the_largest_group_alone() -> None:
    kernel = np.kron(np.diag([1, 1, 0, 0]), 0) + np.eye(4)
    kernel[:3, :3] = 1.0

    assert vendi_score(kernel, order=math.inf) == pytest.approx(4 / 3)


@pytest.mark.parametrize("kernel", [np.ones((2, 3)), np.zeros((2, 2)), np.empty((0, 0))])
def test_something_else_than_a_kernel_is_refused(kernel: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a kernel must be square with ones on the diagonal; got shape"):
        vendi_score(kernel)


def test_order_of_a_vendi_score_must_be_above_0() -> None:
    with pytest.raises(ValueError, match=r"order must be above 0; got 0"):
        vendi_score(np.eye(2), order=0.0)


def test_pictures_without_edges_are_alike_and_unlike_others() -> None:
    kernel = similarity_kernel(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]))

    assert kernel == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=float))


def test_seeds_that_give_one_picture_have_no_spread_and_all_of_it_is_the_prompts() -> None:
    spread = case_spread(np.eye(3)[CASES], CASES, SEEDS)

    assert spread.intra().tolist() == [0.0]
    assert spread.inter()[0] == pytest.approx(math.sqrt(2))
    assert spread.eta_squared().tolist() == [1.0]


def test_prompts_that_give_one_picture_per_seed_have_no_spread_between_them() -> None:
    spread = case_spread(np.eye(2)[np.tile([0, 1], 3)], CASES, SEEDS)

    assert spread.inter().tolist() == [0.0]
    assert spread.intra()[0] == pytest.approx(math.sqrt(2))
    assert np.isnan(spread.eta_squared()).all()


def test_pictures_as_different_between_seeds_as_between_prompts_leave_the_prompt_no_share() -> None:
    assert case_spread(np.eye(6), CASES, SEEDS).eta_squared()[0] == pytest.approx(0.0)


def test_case_drawn_twice_counts_twice_and_meets_no_twin() -> None:
    vectors = np.array([[0.0], [1.0], [10.0], [13.0], [20.0], [20.0]])
    spread = case_spread(vectors, CASES, SEEDS)

    assert spread.intra([[2, 1, 0]])[0] == pytest.approx((2 * 1 + 3) / 3)
    assert spread.inter([[2, 1, 0]])[0] == pytest.approx((10 + 12) / 2)


def test_case_with_one_seed_says_nothing_of_seeds() -> None:
    spread = case_spread(np.array([[0.0], [2.0], [5.0]]), np.array([0, 0, 1]), np.array([7, 11, 7]))

    assert np.isnan(spread.within).tolist() == [False, True]
    assert spread.intra()[0] == pytest.approx(2.0)
    assert spread.inter()[0] == pytest.approx(5.0)


def test_pictures_without_case_or_seed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every picture needs a case and a seed; got 3 pictures, 2 cases, 3"):
        case_spread(np.eye(3), np.arange(2), np.arange(3))
