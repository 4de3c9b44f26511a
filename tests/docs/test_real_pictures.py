"""The page on real pictures says what was measured."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "fixtures" / "measured" / "real_pictures.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "real-pictures.md").read_text(encoding="utf-8")
CASES = FOUND["against the illustrations"]


def rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    return [[cell.strip(" *") for cell in line.strip("| \n").split(" | ")] for line in part.splitlines() if "|" in line]


@pytest.mark.parametrize("case", CASES)
def test_table_of_all_against_all_holds_the_measured_areas(case: str) -> None:
    header, _, *body = rows("All against all")
    row = next(row for row in body if row[0] == case)

    for name, shown in zip(header[1:], row[1:], strict=True):
        assert float(shown) == pytest.approx(CASES[case][name.strip("`")]["auc"], abs=0.0051)


def test_intervals_are_the_measured_ones() -> None:
    _, _, *body = rows("What each detector finds of its own")

    assert len(body) > 10
    for case, detector, area, interval, *_ in body:
        name = re.sub(r"^\[`(\w+)`\].*", r"\1", detector)
        low, high = (float(end) for end in interval.split(" to "))
        found = CASES[case][name]
        assert [float(area), low, high] == pytest.approx([found["auc"], found["low"], found["high"]], abs=0.0051)


def test_as_many_sources_as_the_page_counts() -> None:
    counts = {kind: len(names) for kind, names in FOUND["sources"].items()}

    assert f"{counts['photographs']} photographs and {counts['illustrations']} illustrations" in PAGE
    assert counts["photographs"] >= 25
    assert counts["illustrations"] >= 60
