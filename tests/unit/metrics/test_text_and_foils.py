"""Cosines, foils, and the judge's self-test."""

import numpy as np
import pytest

from lorabench.metrics.foils import Trial, foil_reading, judge_self_test, reading_of_cosines
from lorabench.metrics.text_similarity import paired_cosine

E = np.eye(3)


def trials(wins: list[list[bool]], *, n_foils: int = 1, kind: str = "color") -> list[Trial]:
    return [
        Trial(case=f"c{i}", family="spatial", foil_kind=kind, win=win, n_foils=n_foils)
        for i, case in enumerate(wins)
        for win in case
    ]


def test_cosine_is_paired_row_by_row() -> None:
    assert paired_cosine(E, E[[0, 0, 2]]).tolist() == [1.0, 0.0, 1.0]


def test_vectors_must_be_paired_and_of_unit_length() -> None:
    with pytest.raises(ValueError, match="must be paired"):
        paired_cosine(E, E[:2])
    with pytest.raises(ValueError, match="unit length; found 2"):
        paired_cosine(2 * E, E)
    with pytest.raises(ValueError, match="unit length; found nan"):
        paired_cosine(E * np.nan, E)


def test_reading_of_known_cosines() -> None:
    reading = reading_of_cosines([0.30, 0.28, 0.10], logit_scale=100.0)

    assert reading.margin == pytest.approx(0.02)
    assert reading.accuracy == pytest.approx(1 / (1 + np.exp(-2) + np.exp(-20)))
    assert reading.win


def test_a_tie_is_no_win() -> None:
    reading = reading_of_cosines([0.3, 0.3], logit_scale=100.0)

    assert (reading.margin, reading.accuracy, reading.win) == (0.0, 0.5, False)


def test_swapping_prompt_and_foil_turns_the_margin() -> None:
    one = foil_reading(E[0], E[0], E[1:2], logit_scale=100.0)
    other = foil_reading(E[0], E[1], E[:1], logit_scale=100.0)

    assert one.margin == -other.margin == 1.0


def test_a_common_shift_of_style_moves_nothing() -> None:
    plain, styled = (reading_of_cosines(np.array([0.3, 0.28]) + s, logit_scale=50.0) for s in (0.0, -0.1))

    assert styled.margin == pytest.approx(plain.margin)
    assert styled.accuracy == pytest.approx(plain.accuracy)


def test_reading_without_foils_is_refused() -> None:
    with pytest.raises(ValueError, match="a reading needs foils"):
        foil_reading(E[0], E[0], E[:0], logit_scale=100.0)


def test_judge_that_always_wins_is_usable() -> None:
    (test,) = judge_self_test(trials([[True, True]] * 6), judge="clip")

    assert (test.win_rate, test.chance, test.n_cases, test.usable) == (1.0, 0.5, 6, True)
    assert test.p_value == pytest.approx(0.5**6)


def test_judge_at_chance_is_not_usable() -> None:
    (test,) = judge_self_test(trials([[True], [False]] * 6), judge="clip")

    assert not test.usable


def test_more_seeds_of_the_same_cases_are_no_more_evidence() -> None:
    few = judge_self_test(trials([[True]] * 3), judge="clip")
    many = judge_self_test(trials([[True] * 50] * 3), judge="clip")

    assert few[0].p_value == many[0].p_value == pytest.approx(0.125)


def test_more_foils_lower_the_chance() -> None:
    (test,) = judge_self_test(trials([[True]] * 3, n_foils=3), judge="clip")

    assert test.chance == 0.25
    assert test.p_value == pytest.approx(0.25**3)


def test_families_and_kinds_are_tested_apart() -> None:
    both = [*trials([[True]] * 6), *trials([[False]] * 6, kind="swap")]

    assert [(t.foil_kind, t.usable) for t in judge_self_test(both, judge="clip")] == [("color", True), ("swap", False)]


def test_guessing_judge_is_called_usable_at_most_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)

    def usable(agree: bool) -> bool:
        wins = [[bool(w)] * 3 if agree else list(map(bool, rng.random(3) < 0.5)) for w in rng.random(14) < 0.5]
        return judge_self_test(trials(wins), judge="clip")[0].usable

    for agree in (True, False):
        assert np.mean([usable(agree) for _ in range(600)]) <= 0.05 + 0.02
