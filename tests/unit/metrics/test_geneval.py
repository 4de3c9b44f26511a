"""GenEval's rules: known answers of its behaviour."""

import math

import pytest

from lorabench.errors import MeasurementError, SpecError
from lorabench.metrics.geneval import Rules, evaluate_metadata, overlap, relations, survivors
from lorabench.records.detection import Detection


def seen(label: str, x: float = 0, y: float = 0, *, score: float = 0.95, size: float = 10, color: str | None = None):
    return Detection(label=label, box=(x, y, x + size, y + size), score=score, color=color)


def correct(metadata: dict, *found: Detection, rules: Rules | None = None) -> bool:
    return evaluate_metadata(metadata, found, rules=rules).correct


DOG = {"tag": "single_object", "include": [{"class": "dog", "count": 1}]}
TWO = {
    "tag": "counting",
    "include": [{"class": "dog", "count": 2}],
    "exclude": [{"class": "dog", "count": 3}],
}
LEFT = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
}
RED = {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}]}


def test_a_score_at_the_threshold_does_not_count() -> None:
    assert not correct(DOG, seen("dog", score=0.3))
    assert correct(DOG, seen("dog", score=0.3001))


def test_counting_asks_for_more_confidence() -> None:
    assert correct(TWO, seen("dog"), seen("dog", 50))
    assert not correct(TWO, seen("dog"), seen("dog", 50, score=0.9))


def test_counting_fails_on_one_too_many() -> None:
    verdict = evaluate_metadata(TWO, [seen("dog", 30.0 * i) for i in range(3)])

    assert not verdict.correct
    assert verdict.reasons == ("expected fewer than 3 dog, found 3",)


def test_at_most_sixteen_survive() -> None:
    found = [seen("dog", 20.0 * i, score=0.5 + 0.01 * i) for i in range(20)]

    kept = survivors(found, "dog", threshold=0.3, rules=Rules())

    assert len(kept) == 16
    assert kept[0].score == pytest.approx(0.69)


def test_other_classes_never_matter() -> None:
    assert correct(DOG, seen("dog"), seen("cat"), seen("tie"))


def test_one_dog_satisfies_two_clauses() -> None:
    assert correct({"tag": "x", "include": [{"class": "dog", "count": 1}] * 2}, seen("dog"))


def test_a_worse_box_cannot_rescue_the_colour() -> None:
    assert not correct(RED, seen("dog", color="blue", score=0.9), seen("dog", 50, color="red", score=0.8))
    assert correct(RED, seen("dog", color="red", score=0.9), seen("dog", 50, color="blue", score=0.8))


def test_colour_without_a_reading_is_refused() -> None:
    with pytest.raises(MeasurementError, match="detector read none on dog"):
        correct(RED, seen("dog"))


def test_position_uses_the_earlier_clause() -> None:
    assert correct(LEFT, seen("dog", 0), seen("cat", 40))
    assert not correct(LEFT, seen("dog", 40), seen("cat", 0))


def test_position_fails_without_a_target() -> None:
    verdict = evaluate_metadata(LEFT, [seen("dog")])

    assert verdict.reasons == ("expected 1 cat, found 0", "no target for dog to be left of")


def test_every_found_box_must_hold_the_relation() -> None:
    many = {**LEFT, "include": [LEFT["include"][0], {**LEFT["include"][1], "count": 2}]}

    assert correct(many, seen("cat", 90), seen("dog", 0), seen("dog", 30))
    assert not correct(many, seen("cat", 40), seen("dog", 0), seen("dog", 80))


@pytest.mark.parametrize("position", [["left of", 1], ["left of", 2], ["beside", 0], ["left of", -1]])
def test_impossible_position_is_refused(position: list) -> None:
    clauses = [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": position}]

    with pytest.raises(SpecError, match="index of an earlier clause"):
        correct({"tag": "position", "include": clauses}, seen("dog"), seen("cat"))


def test_clause_without_count_is_refused() -> None:
    with pytest.raises(SpecError, match="must have class and count; found class"):
        correct({"include": [{"class": "dog"}]})


def square(x: float, y: float, s: float = 10.0) -> tuple[float, float, float, float]:
    return (x - s / 2, y - s / 2, x + s / 2, y + s / 2)


@pytest.mark.parametrize("s", [1.0, 10.0, 200.0])
def test_equal_squares_on_one_axis_need_more_than_two_fifths_of_their_side(s: float) -> None:
    assert relations(square(0.41 * s, 0, s), square(0, 0, s)) == {"right of"}
    assert relations(square(0.39 * s, 0, s), square(0, 0, s)) == set()


def test_y_grows_downwards() -> None:
    assert relations(square(0, -30), square(0, 0)) == {"above"}
    assert relations(square(0, 30), square(0, 0)) == {"below"}


def test_on_the_diagonal_two_relations_hold_from_some_distance_on() -> None:
    near, far = 0.95 / math.sqrt(2) * 10, 0.98 / math.sqrt(2) * 10

    assert relations(square(far, far), square(0, 0)) == {"right of", "below"}
    assert relations(square(near, near), square(0, 0)) == set()


def test_far_boxes_are_related_within_sixty_degrees() -> None:
    def at(degrees: float) -> frozenset[str]:
        angle = math.radians(degrees)
        return relations(square(1e4 * math.cos(angle), 1e4 * math.sin(angle)), square(0, 0))

    assert at(59) == {"right of", "below"}
    assert at(61) == {"below"}
    assert at(29) == {"right of"}


def test_same_place_holds_no_relation() -> None:
    assert relations(square(5, 5), square(5, 5, 40)) == set()


def test_overlap_counts_inclusive_pixels() -> None:
    assert overlap((0, 0, 9, 9), (0, 0, 9, 9)) == 1.0
    assert overlap((0, 0, 9, 9), (5, 0, 14, 9)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 9, 9), (9, 0, 18, 9)) == pytest.approx(10 / 190)
    assert overlap((0, 0, 9, 9), (20, 0, 29, 9)) == 0.0


def test_suppression_is_off_unless_asked_for() -> None:
    twins = [seen("dog", 0), seen("dog", 1, score=0.94)]

    assert correct(TWO, *twins)
    assert not correct(TWO, *twins, rules=Rules(overlap_limit=0.5))
