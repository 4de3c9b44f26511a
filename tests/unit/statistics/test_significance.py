import numpy as np
import pytest

from lorabench.statistics.pairing import NoPairsError, NotFiniteError
from lorabench.statistics.significance import clustered_binary_test, mcnemar_exact, sign_flip_test


def test_three_cases_of_twenty_lost_on_all_seeds_are_no_proof() -> None:
    """The pseudo-replication example: 0.0005 by picture, 0.25 by case."""
    reference = np.ones(80)
    candidate = reference.copy()
    candidate[:12] = 0
    cases = np.repeat(np.arange(20), 4)

    by_picture = mcnemar_exact(12, 0, alternative="two-sided")
    by_case = clustered_binary_test(candidate, reference, cases, alternative="two-sided")

    assert by_picture.p_value == pytest.approx(0.0005, abs=5e-5)
    assert by_case.p_value == 0.25
    assert (by_case.n_informative, by_case.exact) == (3, True)
    assert by_case.estimate == pytest.approx(-3 / 20)


@pytest.mark.parametrize("n", [1, 5, 15])
def test_all_signs_alike_have_the_smallest_p_value_there_is(n: int) -> None:
    assert sign_flip_test(-np.arange(1.0, n + 1), alternative="less").p_value == 2.0**-n
    assert sign_flip_test(-np.arange(1.0, n + 1), alternative="greater").p_value == 1.0
    assert sign_flip_test(-np.arange(1.0, n + 1), alternative="two-sided").p_value == 2.0 ** (1 - n)


def test_small_enumeration_by_hand() -> None:
    # Sums of +-1 +-2 +-4: 7 5 3 1 -1 -3 -5 -7; observed -1 - 2 + 4 = 1.
    assert sign_flip_test([-1.0, -2.0, 4.0], alternative="greater").p_value == 4 / 8
    assert sign_flip_test([-1.0, -2.0, 4.0], alternative="less").p_value == 5 / 8
    assert sign_flip_test([-1.0, -2.0, 4.0], alternative="two-sided").p_value == 8 / 8


def test_cases_without_difference_change_nothing() -> None:
    means = [0.3, -0.1, 0.2]

    assert (
        sign_flip_test(means, alternative="greater").p_value
        == sign_flip_test([*means, *[0.0] * 30], alternative="greater").p_value
    )


def test_no_difference_anywhere_has_p_value_one() -> None:
    test = sign_flip_test(np.zeros(9), alternative="less")

    assert (test.p_value, test.n_informative, test.exact) == (1.0, 0, True)


def test_ties_survive_rounding() -> None:
    """0.1 + 0.2 and 0.3 are one sum, whatever the last bit says."""
    assert sign_flip_test([0.1, 0.2, -0.3], alternative="greater").p_value == 5 / 8


def test_drawn_patterns_agree_with_theory_above_the_limit() -> None:
    means = np.r_[np.ones(13), -np.ones(5)]
    binomial = mcnemar_exact(5, 13, alternative="greater").p_value

    test = sign_flip_test(means, alternative="greater", rng=np.random.default_rng(3), n_resamples=40_000)

    assert not test.exact
    assert test.p_value == pytest.approx(binomial, abs=0.005)


def test_drawn_p_value_is_never_zero_and_comes_from_the_given_rng() -> None:
    means = np.ones(60)
    first, second = (
        sign_flip_test(means, alternative="greater", rng=np.random.default_rng(1), n_resamples=99) for _ in range(2)
    )

    assert first == second
    assert first.p_value == 1 / 100


def test_rng_is_asked_for_above_the_limit() -> None:
    with pytest.raises(ValueError, match=r"enumerates up to 15 informative cases; found 16. Pass rng"):
        sign_flip_test(np.ones(16), alternative="less")


def test_case_means_must_be_one_row() -> None:
    with pytest.raises(ValueError, match=r"case means must have shape \(k,\), got \(2, 2\). Average the pairs"):
        sign_flip_test(np.ones((2, 2)), alternative="less")


def test_no_case_and_no_number_are_refused() -> None:
    with pytest.raises(NoPairsError, match="found none"):
        sign_flip_test([], alternative="less")
    with pytest.raises(NotFiniteError, match="first cases: number 1"):
        sign_flip_test([1.0, np.nan], alternative="less")


def test_mcnemar_counts_by_hand() -> None:
    # 1 gained of 5 discordant: (1 + 5) / 32.
    assert mcnemar_exact(4, 1, alternative="less").p_value == 6 / 32
    assert mcnemar_exact(4, 1, alternative="greater").p_value == 31 / 32
    assert mcnemar_exact(4, 1, alternative="two-sided").p_value == 12 / 32
    assert mcnemar_exact(4, 1, alternative="less").estimate == -3 / 5


def test_mcnemar_without_discordance_has_p_value_one() -> None:
    test = mcnemar_exact(0, 0, alternative="two-sided")

    assert (test.estimate, test.p_value) == (0.0, 1.0)


def test_mcnemar_is_the_sign_flip_test_of_one_pair_per_case() -> None:
    means = np.r_[-np.ones(7), np.ones(2), np.zeros(20)]

    for alternative in ("less", "greater", "two-sided"):
        assert mcnemar_exact(7, 2, alternative=alternative).p_value == pytest.approx(
            sign_flip_test(means, alternative=alternative).p_value
        )


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not be negative, got -1 lost and 2 gained. Count pairs"):
        mcnemar_exact(-1, 2, alternative="less")


def test_copied_seeds_do_not_change_a_clustered_test() -> None:
    candidate, reference, cases = np.array([0, 1, 0, 1]), np.array([1, 1, 1, 0]), np.arange(4)

    once = clustered_binary_test(candidate, reference, cases, alternative="less")
    many = clustered_binary_test(*(np.repeat(x, 9) for x in (candidate, reference, cases)), alternative="less")

    assert once == many


def test_graded_scores_are_no_binaries() -> None:
    with pytest.raises(ValueError, match=r"reference must hold 0 and 1 only, found 0.5. Use t_interval for graded"):
        clustered_binary_test([0, 1], [0.5, 1], [0, 1], alternative="less")


def test_binaries_must_be_paired() -> None:
    with pytest.raises(ValueError, match=r"must be paired; got shapes \(2,\) and \(1,\). Give both arms one value"):
        clustered_binary_test([0, 1], [1], [0, 1], alternative="less")
