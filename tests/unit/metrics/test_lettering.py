"""Lettering: what counts as such, how much there is, what leaks, what was asked for."""

import pytest

from lorabench.metrics.lettering import (
    edit_distance,
    is_lettering,
    leak_of,
    leakable,
    lettering_share,
    plain,
    said,
    wanted_similarity,
)
from lorabench.records.detection import Lettering

SIZE = (512, 512)


def box(text: str = "BAKERY", *, score: float = 0.95, at: tuple[float, float] = (20, 20), wide: float = 120, high=30):
    script = "Latin" if score >= 0.8 else "unknown"
    corners = (at[0], at[1], at[0] + wide, at[1] + high)
    return Lettering(text=text, score=score, likeness=0.8, box=corners, script=script)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("kitten", "sitting", 3 / 7),
        ("bread", "bread", 0.0),
        ("", "", 0.0),
        ("", "ab", 1.0),
        ("ab", "ba", 1.0),
        ("saturday", "sunday", 3 / 8),
    ],
)
def test_edit_distance_is_levenshteins_in_lengths_of_the_longer(one: str, other: str, distance: float) -> None:
    assert edit_distance(one, other) == pytest.approx(distance)
    assert edit_distance(other, one) == pytest.approx(distance)


def test_plain_text_knows_neither_case_nor_marks_nor_width() -> None:
    assert plain("Ｏpen, 10–18!") == "open1018"


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        (box("BAKERY"), True),
        (box("ABC", wide=40), True),
        (box("AB", wide=40), False),  # one or two glyphs, and no line
        (box("A", score=0.99, wide=30), False),
        (box("", score=0.0, wide=120), True),  # a line that cannot be read: another script, or strokes like letters
        (box("", score=0.0, wide=40), False),
        (box("gibberish", score=0.4, wide=40), False),
        (box("春天", wide=50), True),  # two signs are two words
        (box("福", score=0.99, wide=30), False),
        (box("BAKERY", wide=480, high=300), False),  # covers more than a quarter: an object taken for a glyph
        (box("BAKERY", wide=20, high=120), True),  # upright, and legible
        (box("", score=0.0, wide=20, high=120), False),
    ],
)
def test_what_counts_as_lettering(seen: Lettering, counts: bool) -> None:
    assert is_lettering(seen, size=SIZE) is counts


def test_share_counts_overlapping_boxes_once_and_objects_not_at_all() -> None:
    one, other = box(at=(0, 0), wide=100, high=50), box(at=(50, 0), wide=100, high=50)
    taken_for_a_glyph = box("O", at=(0, 0), wide=400, high=400)

    assert lettering_share([one, other, taken_for_a_glyph], size=SIZE) == pytest.approx(150 * 50 / 512**2)
    assert lettering_share([], size=SIZE) == 0.0


def test_leak_names_the_string_and_the_training_picture_it_comes_from() -> None:
    leak = leak_of([box("hello"), box("BAKEKY")], [(), (box("SUMMER"), box("Bakery!"))])

    assert leak is not None
    assert (leak.text, leak.script, leak.training_index, leak.training_text) == ("BAKEKY", "Latin", 1, "Bakery!")
    assert leak.distance == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("BAKERY", "BUTTER"),
        ("BAR", "BAR"),  # three letters agree by chance
        ("BAKERY", "KEBABS"),
    ],
)
def test_other_and_short_strings_do_not_leak(text: str, trained: str) -> None:
    assert leak_of([box(text)], [(box(trained),)]) is None


def test_strings_the_reader_doubts_do_not_leak() -> None:
    assert leak_of([box("BAKERY", score=0.3)], [(box("BAKERY"),)]) is None
    assert leak_of([box("BAKERY", score=0.6)], [(box("BAKERY", score=0.6),)]) is not None


def test_training_pictures_with_a_string_that_could_leak_are_counted() -> None:
    assert leakable([(), (box("BAR"),), (box("BAKERY"), box("MILK"))]) == 1


def test_wanted_text_is_found_across_lines_and_with_a_letter_wrong() -> None:
    lines = [box("GRAND"), box("0PENING"), box("today")]

    similarity, read = wanted_similarity("Grand Opening", lines)

    assert read == "GRAND 0PENING"
    assert similarity == pytest.approx(11 / 12)
    assert wanted_similarity("Closed", lines)[0] < 0.7
    assert wanted_similarity("Closed", []) == (0.0, "")


def test_lettering_in_words_names_the_script() -> None:
    assert said(box("BAKERY")) == "'BAKERY' (Latin)"
    assert said(box("XNE6", score=0.5)) == "illegible lettering (script unknown)"
