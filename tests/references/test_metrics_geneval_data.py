"""GenEval's own prompts: every line parses, and pictures made for it pass or fail as they should."""

import json
import os
from pathlib import Path

import pytest

from lorabench.metrics.geneval import Clause, evaluate_metadata, parse_clauses
from lorabench.records.detection import Detection

pytestmark = pytest.mark.data
SHIFT = {"left of": (-60, 0), "right of": (60, 0), "above": (0, -60), "below": (0, 60)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    folder = os.environ.get("LORABENCH_TEST_DATA")
    path = Path(folder or "") / "geneval" / "evaluation_metadata.jsonl"
    if not folder or not path.exists():
        pytest.skip("LORABENCH_TEST_DATA names no folder with geneval/evaluation_metadata.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def ideal(clauses: tuple[Clause, ...]) -> list[Detection]:
    """What a perfect picture of these clauses would show."""
    found: list[Detection] = []
    for clause in clauses:
        dx, dy = SHIFT.get(clause.relation or "", (0, 0))
        for i in range(clause.count):
            x, y = 100 + dx + 30 * i, 100 + dy
            box = (x, y, x + 20, y + 20)
            found.append(Detection(label=clause.label, box=box, score=0.95 - 0.001 * i, color=clause.color or "grey"))
    return found


def test_all_lines_parse(lines: list[dict]) -> None:
    tags = [line["tag"] for line in lines]

    assert len(lines) == 553
    assert {tag: tags.count(tag) for tag in dict.fromkeys(tags)} == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert all(parse_clauses(line)[0] for line in lines)


def test_perfect_pictures_pass_every_line(lines: list[dict]) -> None:
    failed = [line["prompt"] for line in lines if not evaluate_metadata(line, ideal(parse_clauses(line)[0])).correct]

    assert failed == []


def test_empty_pictures_fail_every_line(lines: list[dict]) -> None:
    assert not any(evaluate_metadata(line, []).correct for line in lines)


def test_one_object_too_many_fails_counting_only(lines: list[dict]) -> None:
    for line in lines:
        seen = ideal(parse_clauses(line)[0])
        extra = seen[0].model_copy(update={"score": 0.91, "box": (300, 300, 320, 320)})

        assert evaluate_metadata(line, [*seen, extra]).correct == (line["tag"] != "counting"), line["prompt"]


def test_objects_seen_with_less_confidence_fail_counting_only(lines: list[dict]) -> None:
    for line in lines:
        seen = [one.model_copy(update={"score": 0.6}) for one in ideal(parse_clauses(line)[0])]

        assert evaluate_metadata(line, seen).correct == (line["tag"] != "counting"), line["prompt"]


def test_mirrored_places_fail_every_position_line(lines: list[dict]) -> None:
    for line in (line for line in lines if line["tag"] == "position"):
        include = parse_clauses(line)[0]
        wrong = tuple(
            clause if clause.relation is None else Clause(clause.label, 1, relation=OPPOSITE[clause.relation])
            for clause in include
        )

        assert not evaluate_metadata(line, ideal(wrong)).correct, line["prompt"]


def test_other_colours_fail_every_coloured_line(lines: list[dict]) -> None:
    for line in (line for line in lines if line["tag"] in ("colors", "color_attr")):
        seen = [one.model_copy(update={"color": "grey"}) for one in ideal(parse_clauses(line)[0])]

        assert not evaluate_metadata(line, seen).correct, line["prompt"]


def test_swapped_colours_fail_every_attribution_line(lines: list[dict]) -> None:
    for line in (line for line in lines if line["tag"] == "color_attr"):
        one, other = parse_clauses(line)[0]
        swapped = (Clause(one.label, 1, color=other.color), Clause(other.label, 1, color=one.color))

        assert evaluate_metadata(line, ideal(swapped)).correct == (one.color == other.color), line["prompt"]
