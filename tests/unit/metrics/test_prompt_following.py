"""A case's checks on what a detector saw."""

import pytest

from lorabench.metrics.geneval import Rules
from lorabench.metrics.prompt_following import (
    Read,
    Sensor,
    prompt_exact_score,
    prompt_following_score,
    relation_given_presence,
    score_checks,
)
from lorabench.metrics.reading import Missing
from lorabench.records.detection import Detection, Lettering
from lorabench.records.suite import (
    AnatomyCheck,
    Case,
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

LABELS = frozenset({"circle", "square", "hand"})
SENSOR = Sensor(labels=LABELS, reads_color=True, counts_parts=frozenset({"hand"}))
BLIND = Sensor(labels=LABELS, reads_color=False)


def seen(label: str, color: str | None = None, x: float = 0, *, score: float = 0.95, count: int | None = None):
    return Detection(label=label, box=(x, 0, x + 10, 10), score=score, color=color, count=count)


def case(*checks) -> Case:
    return Case(id="c1", family="spatial", prompt="p", checks=checks)


def outcome(check, *found: Detection, sensor: Sensor = SENSOR):
    return score_checks(case(check), found, sensor=sensor)[0].passed


RELATION = RelationCheck(
    subject="circle", relation="left of", object="circle", subject_color="red", object_color="blue"
)


def test_object_is_found_with_its_colour_among_others_of_its_class() -> None:
    check = ObjectCheck(label="circle", color="red")

    assert outcome(check, seen("circle", "blue"), seen("circle", "red", score=0.5))
    assert not outcome(check, seen("circle", "blue"))
    assert not outcome(check, seen("square", "red"))


def test_object_count_is_a_least_number() -> None:
    check = ObjectCheck(label="circle", count=2)

    assert outcome(check, *(seen("circle", x=20.0 * i) for i in range(3)))
    assert not outcome(check, seen("circle"))


def test_excluded_object_fails() -> None:
    assert outcome(ExcludeCheck(label="square"), seen("circle"))
    assert not outcome(ExcludeCheck(label="square"), seen("square"))


def test_color_check_looks_at_the_best_boxes_only() -> None:
    check = ColorCheck(label="circle", color="red")

    assert outcome(check, seen("circle", "red"), seen("circle", "blue", score=0.5))
    assert not outcome(check, seen("circle", "blue"), seen("circle", "red", score=0.5))
    assert not outcome(check, seen("circle"))
    assert not outcome(check)


def test_count_is_exact_and_needs_confidence() -> None:
    check = CountCheck(label="circle", count=2)

    assert outcome(check, seen("circle"), seen("circle", x=20))
    assert outcome(check, seen("circle"), seen("circle", x=20), seen("circle", x=40, score=0.8))
    assert not outcome(check, *(seen("circle", x=20.0 * i) for i in range(3)))
    assert not outcome(check, seen("circle"))


def test_relation_tells_objects_of_one_class_apart_by_colour() -> None:
    assert outcome(RELATION, seen("circle", "red"), seen("circle", "blue", 50))
    assert not outcome(RELATION, seen("circle", "blue"), seen("circle", "red", 50))


def test_relation_says_what_is_missing() -> None:
    score = score_checks(case(RELATION), [seen("circle", "red")], sensor=SENSOR)[0]

    assert (score.passed, score.reason) == (False, "found no blue circle")


def test_nothing_extra() -> None:
    check = NoExtraCheck(allowed=("circle",))

    assert outcome(check, seen("circle"))
    assert outcome(check, seen("circle"), seen("square", score=0.2))
    assert not outcome(check, seen("circle"), seen("square"))


def test_anatomy_wants_the_parts_of_every_figure() -> None:
    check = AnatomyCheck(label="hand", parts=5, subjects=2)

    assert outcome(check, seen("hand", count=5), seen("hand", x=50, count=5))
    assert not outcome(check, seen("hand", count=5), seen("hand", x=50, count=6))
    assert not outcome(check, seen("hand", count=5))
    assert outcome(check, seen("hand", count=5), seen("hand", x=50)) is None


@pytest.mark.parametrize(
    ("check", "sensor", "reason"),
    [
        (QuestionCheck(text="is it day?"), SENSOR, "questions need a VQA judge"),
        (TextCheck(), SENSOR, "lettering needs a text reader"),
        (PaletteCheck(monochrome="grey"), SENSOR, "palettes are read by palette_compliance_score"),
        (ObjectCheck(label="dog"), SENSOR, "does not look for dog"),
        (ObjectCheck(label="circle", color="red"), BLIND, "reads no colours"),
        (ColorCheck(label="circle", color="red"), BLIND, "reads no colours"),
        (RELATION, BLIND, "reads no colours"),
        (CountCheck(label="circle", count=16), SENSOR, "at most 16 objects are kept per class"),
        (NoExtraCheck(allowed=tuple(LABELS)), SENSOR, "no class beyond those allowed"),
        (AnatomyCheck(label="hand"), SENSOR, "no number of parts is expected"),
        (AnatomyCheck(label="hand", parts=5), BLIND, "counts no parts of hand"),
        (AnatomyCheck(label="foot", parts=5), SENSOR, "does not look for foot"),
        (RelationCheck(subject="circle", relation="above", object="circle"), SENSOR, "cannot be told apart"),
    ],
)
def test_what_the_detector_cannot_tell_is_unscored_with_a_reason(check, sensor: Sensor, reason: str) -> None:
    for found in ([], [seen("circle", "red"), seen("hand", count=5)]):
        score = score_checks(case(check), found, sensor=sensor)[0]

        assert score.passed is None
        assert reason in score.reason


def test_score_is_the_share_of_scored_checks() -> None:
    checks = (ObjectCheck(label="circle"), ObjectCheck(label="square"), QuestionCheck(text="?"))

    scores = score_checks(case(*checks), [seen("circle")], sensor=SENSOR)

    assert prompt_following_score(scores) == 0.5
    assert prompt_exact_score(scores) == 0.0
    assert prompt_exact_score(scores[:1]) == 1.0


def test_nothing_scored_is_no_score() -> None:
    scores = score_checks(case(QuestionCheck(text="?")), [], sensor=SENSOR)

    for score in (prompt_following_score(scores), prompt_exact_score(scores)):
        assert isinstance(score, Missing)
        assert "at least one check must be scored; found none (questions need a VQA judge" in score.reason
    assert "the case has no checks" in prompt_following_score(()).reason  # type: ignore[union-attr]


def test_relation_given_presence_leaves_missing_objects_out() -> None:
    right = [seen("circle", "red"), seen("circle", "blue", 50)]
    wrong = [seen("circle", "blue"), seen("circle", "red", 50)]

    assert relation_given_presence(case(RELATION), right, sensor=SENSOR) == 1.0
    assert relation_given_presence(case(RELATION), wrong, sensor=SENSOR) == 0.0
    assert isinstance(relation_given_presence(case(RELATION), right[:1], sensor=SENSOR), Missing)


def test_thresholds_belong_to_the_sensor() -> None:
    sensor = Sensor(labels=LABELS, reads_color=True, rules=Rules(threshold=0.1, counting_threshold=0.2))

    assert outcome(ObjectCheck(label="circle"), seen("circle", score=0.15), sensor=sensor)
    assert outcome(CountCheck(label="circle", count=1), seen("circle", score=0.25), sensor=sensor)


def lettered(text: str, *, score: float = 0.95) -> Lettering:
    script = "Latin" if score >= 0.8 else "unknown"
    return Lettering(text=text, score=score, likeness=0.9, box=(0, 0, 60, 12), script=script)


@pytest.mark.parametrize(
    ("check", "read", "passed", "reason"),
    [
        (TextCheck(), [], True, "no lettering found"),
        (TextCheck(), [lettered("BAKERY")], False, "found 'BAKERY' (Latin)"),
        (TextCheck(), [lettered("", score=0.0)], False, "found illegible lettering (script unknown)"),
        (TextCheck(text="Bakery"), [lettered("BAKERY")], True, "read 'BAKERY', wanted 'Bakery' (similarity 1.00)"),
        (TextCheck(text="Bakery"), [lettered("BAKEKY")], True, "(similarity 0.83)"),
        (TextCheck(text="Bakery"), [lettered("BUTCHER")], False, "read 'BUTCHER', wanted 'Bakery'"),
        (TextCheck(text="Bakery"), [], False, "read '', wanted 'Bakery' (similarity 0.00)"),
    ],
)
def test_lettering_is_scored_where_there_is_a_reader(check, read: list[Lettering], passed: bool, reason: str) -> None:
    score = score_checks(case(check), [], sensor=SENSOR, read=Read(read, (128, 128)))[0]

    assert score.passed is passed
    assert reason in score.reason
