"""What a trigger does, from known positions; placebo words."""

from __future__ import annotations

import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.trigger import (
    Bounds,
    picture_change,
    placebo_phrase,
    placebo_word,
    rare_words,
    read_trigger,
    trigger_effect,
)


def around(value: float, reach: float = 0.05) -> Bounds:
    return Bounds(value, value - reach, value + reach)


@pytest.mark.parametrize(
    ("effect", "candidate", "neutral", "reading"),
    [
        (0.9, 0.9, 0.0, "works"),
        (0.4, 1.0, 0.6, "leaks"),
        (0.05, 0.9, 0.85, "always on"),
        (0.0, 0.1, 0.1, "weak"),
        (0.25, 0.6, 0.35, "undecided"),
        (0.0, 0.6, 0.3, "undecided"),
    ],
)
def test_readings(effect: float, candidate: float, neutral: float, reading: str) -> None:
    assert read_trigger(around(effect), candidate=around(candidate), neutral=around(neutral)) == reading


def test_wide_intervals_decide_nothing() -> None:
    assert read_trigger(around(0.9, 0.8), candidate=around(0.9), neutral=around(0.0)) == "undecided"


def test_effect_and_change() -> None:
    assert float(trigger_effect(0.9, 0.9)) == 0.0
    assert float(picture_change(0.03, 0.6)) == pytest.approx(0.05)


def test_the_triggers_own_words_are_those_that_are_no_common_ones() -> None:
    assert rare_words("a zvq drawing of") == ("zvq",)
    assert rare_words("TOK style illustration", known=("a flat illustration",)) == ("TOK",)
    assert rare_words("by mira quill, ohwx", known=("by mira",)) == ("quill", "ohwx")
    assert rare_words("flat vector art of", known=("a photo of",)) == ("flat", "vector", "art")
    assert rare_words("") == ()


def test_a_placebo_has_the_same_length_and_is_always_the_same() -> None:
    assert placebo_word("zvq") == placebo_word("zvq")
    assert len(placebo_word("ohwx")) == 4
    assert placebo_word("zvq") != "zvq"
    assert placebo_word("TOK").isupper()
    assert placebo_word("zvq", avoid=[placebo_word("zvq")]) not in ("zvq", placebo_word("zvq"))


def test_only_the_word_is_replaced() -> None:
    found = placebo_phrase("a zvq drawing of zvqs", words=("zvq",))

    assert found == f"a {placebo_word('zvq')} drawing of zvqs"


def test_a_phrase_without_words_of_its_own_has_no_placebo() -> None:
    found = placebo_phrase("a drawing", words=("zvq",))

    assert isinstance(found, Missing)
    assert "a placebo needs a word of the trigger phrase to replace" in found.reason
