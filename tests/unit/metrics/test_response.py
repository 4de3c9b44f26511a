"""Response to prompts and its loss."""

import numpy as np
import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.response import PromptResponse, collapse, collapse_index, distance_matrix

K, S, D = 8, 4, 40
CASES = np.repeat(np.arange(K), S)


def response(prompt: float, *, seed: int = 0, noise: float = 1.0) -> PromptResponse:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, prompt, (K, 1, D))
    points = (centres + rng.normal(0, noise, (K, S, D))).reshape(K * S, D)
    return PromptResponse(distance_matrix(points), CASES)


def test_distance_matrix_is_the_loop() -> None:
    a, b = np.random.default_rng(0).normal(3, 1, (4, 6)), np.random.default_rng(1).normal(3, 1, (5, 6))
    loop = np.linalg.norm(a[:, None] - b[None], axis=-1)

    assert distance_matrix(a, b) == pytest.approx(loop)
    assert distance_matrix(a)[2, 2] == 0.0


def test_response_is_between_minus_within() -> None:
    cases = np.array([0, 0, 1, 1])
    distances = np.array([[0, 1, 5, 6], [1, 0, 7, 8], [5, 7, 0, 3], [6, 8, 3, 0]], dtype=float)

    assert PromptResponse(distances, cases).of() == pytest.approx([(5 + 6 + 7 + 8) / 4 - (1 + 3) / 2])


def test_response_is_zero_on_average_without_prompt_effect() -> None:
    values = [float(response(0.0, seed=s).of()[0]) for s in range(60)]

    assert np.mean(values) == pytest.approx(0.0, abs=4 * np.std(values) / np.sqrt(60))


def test_collapse_is_zero_for_equals_one_for_deaf_and_negative_for_keener_ones() -> None:
    control = response(1.0)

    assert collapse(control, control) == pytest.approx(0.0)
    assert collapse(response(0.0, seed=3), control) == pytest.approx(1.0, abs=0.05)
    assert collapse(response(2.0, seed=3), control) < -0.5  # type: ignore[operator]


def test_seed_noise_alone_does_not_hide_a_collapse() -> None:
    assert collapse(response(0.0, seed=3, noise=3.0), response(1.0)) == pytest.approx(1.0, abs=0.2)


def test_deaf_control_measures_nothing() -> None:
    value = collapse(response(0.0), response(0.0, seed=1))

    assert isinstance(value, Missing)
    assert "control must follow the prompts by more than 3 standard errors" in value.reason


def test_few_cases_measure_nothing() -> None:
    few = PromptResponse(response(1.0).distances[:16, :16], CASES[:16])

    assert collapse(few, few) == Missing("a collapse needs at least 5 cases; found 4. Add cases to the suite.")


def test_repeated_draws_add_no_zero_distances() -> None:
    control = response(1.0)
    once = np.arange(K * S)[None]

    twice = collapse_index(response(0.5, seed=1), control, rows=np.repeat(once, 2, axis=1))

    assert twice == pytest.approx(collapse_index(response(0.5, seed=1), control))


def test_resamples_are_fast_and_agree_with_direct_computation() -> None:
    rng = np.random.default_rng(0)
    candidate, control = response(0.5, seed=1), response(1.0)
    rows = rng.integers(0, K, (2000, K, 1)) * S + rng.integers(0, S, (2000, K, S))

    values = collapse_index(candidate, control, rows=rows)

    weights = np.bincount(rows[7].ravel(), minlength=K * S)[None]
    assert values.shape == (2000,)
    assert values[7] == pytest.approx(float((1 - candidate.of(weights) / control.of(weights))[0]))
    assert np.median(values) == pytest.approx(float(collapse_index(candidate, control)[0]), abs=0.1)


def test_resample_of_one_case_is_not_a_number() -> None:
    assert np.isnan(response(1.0).of(np.eye(K * S)[:1])).all()


def test_jackknife_error_is_near_the_spread_over_repetitions() -> None:
    values = [float(response(1.0, seed=s).of()[0]) for s in range(80)]
    errors = [response(1.0, seed=s).standard_error() for s in range(80)]

    assert 0.6 < np.mean(errors) / np.std(values) < 2.0


def test_arms_with_other_cases_are_refused() -> None:
    control = response(1.0)

    with pytest.raises(ValueError, match="same cases and seeds in both arms"):
        collapse_index(PromptResponse(control.distances, CASES[::-1].copy()), control)


@pytest.mark.parametrize("cases", [[0, 0, 0], [0, 1, 2]])
def test_groups_without_two_cases_and_two_seeds_are_refused(cases: list[int]) -> None:
    with pytest.raises(ValueError, match="2 cases and 2 seeds"):
        PromptResponse(np.zeros((3, 3)), np.array(cases))


def test_distances_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(3, 3\) for 3 pictures; got \(2, 2\)"):
        PromptResponse(np.zeros((2, 2)), np.array([0, 0, 1]))
