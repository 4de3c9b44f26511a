"""Boxes over a picture."""

from itertools import pairwise

import pytest

from lorabench.records.detection import Detection
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import ExcludeCheck, ObjectCheck, QuestionCheck, RelationCheck
from lorabench.report.case_view import CaseReader
from lorabench.report.detections_view import detection_words, overlay_of


@pytest.fixture
def image() -> Image:
    cell = Cell(arm=Arm.CANDIDATE, case="a", seed=1, scale=1.0)
    return Image(cell=cell, sha256="0" * 64, cache_key="1" * 64, height=100, width=200, from_cache=False)


def dog(box=(10.0, 40.0, 60.0, 90.0), score=0.9, **more) -> Detection:
    return Detection(label="dog", box=box, score=score, **more)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (dog(), "dog 0.90"),
        (dog(color="red"), "red dog 0.90"),
        (dog(color="red", count=1), "red dog, 1 part 0.90"),
        (dog(count=0), "dog, 0 parts 0.90"),
    ],
)
def test_words_hold_colour_label_parts_and_score(found, words) -> None:
    assert detection_words(found) == words


def test_a_box_is_drawn_where_it_lies_and_cut_off_at_the_edge(image) -> None:
    inside, outside = overlay_of(image, [dog(), dog((-5.0, 20.04, 230.0, 140.0), 0.5)], checks=()).boxes

    assert inside.path == "M10 40H60V90H10z"
    assert outside.path == "M0 20H200V100H0z"


def test_the_surest_comes_first(image) -> None:
    overlay = overlay_of(image, [dog(score=0.3), dog(score=0.8)], checks=())

    assert overlay.words == "Detected: dog 0.80; dog 0.30"


def test_what_no_check_names_is_told_apart(image) -> None:
    cat = Detection(label="cat", box=(100, 10, 150, 60), score=0.7)
    asked = (
        RelationCheck(subject="dog", relation="left of", object="tree"),
        QuestionCheck(text="Is it?", expect="yes"),
    )

    overlay = overlay_of(image, [dog(), cat], checks=asked)

    assert [box.asked for box in overlay.boxes] == [True, False]
    assert overlay.words == "Detected: dog 0.90; cat 0.70, which no check names"
    assert (overlay.asked_path, overlay.other_path) == ("M10 40H60V90H10z", "M100 10H150V60H100z")


def test_a_thing_that_must_not_be_there_is_named_too(image) -> None:
    assert overlay_of(image, [dog()], checks=(ExcludeCheck(label="dog"), ObjectCheck(label="cat"))).boxes[0].asked


def test_without_checks_on_things_nothing_is_told_apart(image) -> None:
    assert overlay_of(image, [dog()], checks=(QuestionCheck(text="Is it?", expect="yes"),)).boxes[0].asked


def test_an_empty_picture_says_so(image) -> None:
    assert overlay_of(image, [], checks=()).words == "Detected: nothing"


def test_words_stay_inside_the_picture_and_apart(image) -> None:
    crowd = [dog((150.0, 1.0, 199.0, 99.0)), dog((140.0, 2.0, 199.0, 98.0), 0.8), dog((150.0, 0.0, 198.0, 99.0), 0.7)]

    overlay = overlay_of(image, crowd, checks=())

    assert all(box.text_x + 0.5 * overlay.text_size * len(box.words) <= image.width for box in overlay.boxes)
    assert all(overlay.text_size <= box.text_y <= image.height for box in overlay.boxes)
    heights = sorted(box.text_y for box in overlay.boxes)
    assert all(later - earlier >= overlay.text_size for earlier, later in pairwise(heights))


def test_a_picture_at_which_no_detector_looked_has_no_overlay(small_example) -> None:
    bare = small_example.results.model_copy(update={"detections": ()})

    pictures = [one for case in CaseReader(bare).read_all() for seed in case.seeds for one in seed.pictures]

    assert all(one.overlay is None for one in pictures)
