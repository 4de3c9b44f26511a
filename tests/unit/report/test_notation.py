"""Numbers, checks and texts as they are written."""

import pytest

from lorabench.records.suite import (
    AnatomyCheck,
    Check,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    PaletteCheck,
    QuestionCheck,
    RelationCheck,
    TextCheck,
)
from lorabench.report.notation import check_words, hex_colors, interval, number, p_value, plain, seconds, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.123456, "0.123"),
        (-0.02068, "−0.021"),
        (0.00123, "0.0012"),
        (3.14159, "3.14"),
        (-42.42, "−42.4"),
        (1234.4, "1234"),
        (0.00001, "1.0e-05"),
        (None, "–"),
    ],
)
def test_numbers_keep_about_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_tiny_difference_is_never_written_as_zero() -> None:
    assert signed(1e-9) != "0"
    assert signed(-1e-9).startswith("−")


def test_differences_carry_their_sign() -> None:
    assert signed(0.5) == "+0.500"
    assert signed(-0.5) == "−0.500"
    assert interval(-0.25, 0.5) == "−0.250 to +0.500"


def test_p_values_below_a_thousandth_are_not_written_as_zero() -> None:
    assert p_value(1e-12) == "< 0.001"
    assert p_value(1.0) == "1.000"


def test_durations() -> None:
    assert [seconds(s) for s in (0.04, 9.96, 59.4, 60.0, 3599.0, 3600.0)] == [
        "0.0 s",
        "10.0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (ObjectCheck(label="dog", color="red", count=2), "at least 2 red dog"),
        (ExcludeCheck(label="cat"), "no cat"),
        (ExcludeCheck(label="cat", count=3), "fewer than 3 cat"),
        (CountCheck(label="star", count=4), "exactly 4 star"),
        (ColorCheck(label="car", color="blue"), "car is blue"),
        (RelationCheck(subject="dog", relation="above", object="cat", object_color="grey"), "dog above grey cat"),
        (QuestionCheck(text="Is it night?", expect="no"), "Is it night? → no"),
        (PaletteCheck(hues=((340.0, 20.0),)), "hues within 340°–20°"),
        (PaletteCheck(monochrome="grey"), "no hue"),
        (PaletteCheck(monochrome="single_hue"), "a single hue"),
        (PaletteCheck(colors=("#102030",)), "colours #102030"),
        (NoExtraCheck(allowed=()), "nothing but the ground"),
        (NoExtraCheck(allowed=("dog", "cat")), "nothing but dog, cat"),
        (TextCheck(), "no lettering"),
        (TextCheck(text="OPEN"), "reads “OPEN”"),
        (AnatomyCheck(label="hand", parts=5), "hand with 5 parts"),
        (AnatomyCheck(label="person", subjects=2), "2 × person is there"),
    ],
)
def test_every_kind_of_check_has_words(check: Check, words: str) -> None:
    assert check_words(check) == words


def test_plain_text_has_no_control_and_no_direction_characters() -> None:
    assert plain("a\x1b[31mb\u202ec\x07\r\n  d") == "a[31mbc d"


def test_only_hex_colours_reach_a_page() -> None:
    assert hex_colors(("#aabbcc", "#AABBCC", "#abc", "url(x)", "#aabbcc;")) == ("#aabbcc", "#AABBCC")
