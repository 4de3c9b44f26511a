"""What a detector finds beyond what a case asks for."""

import math

import pytest

from lorabench.metrics.geneval import Rules
from lorabench.metrics.invented import expected, names_everything, surplus, unbounded
from lorabench.records.detection import Detection
from lorabench.records.suite import (
    AnatomyCheck,
    Case,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    QuestionCheck,
    RelationCheck,
)

RULES = Rules(threshold=0.3, counting_threshold=0.3)
CLASSES = frozenset({"circle", "square", "star", "blob", "chair", "cup", "mug", "table"})
PAIR = (
    ObjectCheck(label="circle", color="red"),
    ObjectCheck(label="square", color="blue"),
    RelationCheck(subject="circle", relation="left of", object="square", subject_color="red", object_color="blue"),
)


def case(*checks, family: str = "spatial") -> Case:
    return Case(id="c1", family=family, prompt="p", checks=checks)


def seen(label: str, x: float = 0, *, y: float = 0, side: float = 10, score: float = 0.9) -> Detection:
    return Detection(label=label, box=(x, y, x + side, y + side), score=score)


def found(one: Case, *detections: Detection):
    return surplus(one, detections, rules=RULES, unasked=CLASSES)


@pytest.mark.parametrize(
    ("checks", "asked"),
    [
        (PAIR, {"circle": 1, "square": 1}),
        ((ObjectCheck(label="circle"), ColorCheck(label="circle", color="red")), {"circle": 1}),
        ((ObjectCheck(label="circle", color="red"), ObjectCheck(label="circle", color="blue")), {"circle": 2}),
        ((CountCheck(label="star", count=3), ObjectCheck(label="star")), {"star": 3}),
        ((AnatomyCheck(label="hand", parts=5, subjects=2), ObjectCheck(label="hand")), {"hand": 2}),
        ((ExcludeCheck(label="car"), NoExtraCheck(allowed=("table",)), QuestionCheck(text="?")), {}),
    ],
)
def test_checks_on_one_thing_are_counted_once(checks, asked: dict[str, int]) -> None:
    assert expected(case(*checks)) == asked


def test_nothing_extra_is_zero_and_n_extra_give_the_root_of_n() -> None:
    asked = [seen("circle"), seen("square", 50)]

    assert found(case(*PAIR), *asked).value == 0
    for n in (1, 2, 3, 4):
        extra = [seen("star", 20 * k, y=60) for k in range(n)]
        assert found(case(*PAIR), *asked, *extra).value == pytest.approx(math.sqrt(n))


def test_too_many_of_a_counted_class_are_extra() -> None:
    four = [seen("circle", 20 * k) for k in range(4)]

    assert found(case(CountCheck(label="circle", count=2)), *four).count == 2
    assert found(case(CountCheck(label="circle", count=2)), *four).extra == ("circle", "circle")


def test_thing_drawn_as_another_one_is_no_invention() -> None:
    one = found(case(*PAIR), seen("circle"), seen("star", 50))

    assert (one.extra, one.n_missing, one.value) == (("star",), 1, 0)


def test_classes_that_are_allowed_in_any_number_are_not_extra() -> None:
    one = case(CountCheck(label="cup", count=1), NoExtraCheck(allowed=("cup", "table")), family="sparse_scene")

    assert unbounded(one) == {"table"}
    assert found(one, seen("cup"), seen("table", 40), seen("table", 80)).count == 0
    assert found(one, seen("cup"), seen("cup", 40)).count == 1


def test_classes_that_the_prompt_asks_for_are_not_extra() -> None:
    one = case(CountCheck(label="cup", count=1))

    kept = surplus(one, [seen("cup"), seen("chair", 50)], rules=RULES, unasked=CLASSES - {"chair"})

    assert kept.count == 0


def test_doubtful_detections_are_not_extra() -> None:
    assert found(case(*PAIR), seen("circle"), seen("square", 50), seen("star", 90, score=0.2)).count == 0


def test_parts_of_things_asked_for_and_second_names_are_not_extra() -> None:
    one = case(CountCheck(label="cup", count=1))
    cup, handle, mug = seen("cup", side=40), seen("blob", 30, side=9), seen("mug", 1, side=39)

    assert found(one, cup, handle, mug).count == 0
    chair, same_chair = seen("chair", 100, side=30), seen("table", 101, side=29)
    assert found(one, cup, chair, same_chair).extra == ("chair",)


@pytest.mark.parametrize(
    ("one", "in_world", "elsewhere"),
    [
        (case(*PAIR), True, False),
        (case(ObjectCheck(label="bird"), family="sparse_scene"), True, True),
        (case(ObjectCheck(label="bird"), NoExtraCheck(allowed=("bird",)), family="counting"), True, True),
        (case(QuestionCheck(text="?")), False, False),
    ],
)
def test_cases_that_name_everything(one: Case, in_world: bool, elsewhere: bool) -> None:
    assert names_everything(one, world=True) is in_world
    assert names_everything(one, world=False) is elsewhere
