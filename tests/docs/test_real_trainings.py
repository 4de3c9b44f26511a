"""The page of real trainings holds the tables of the results file, word for word."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNTS = runpy.run_path(str(ROOT / "benchmarks" / "course_counts.py"))
FACTS = json.loads((ROOT / "fixtures" / "measured" / "real_trainings.json").read_text(encoding="utf-8"))
ROWS = COUNTS["tables"](FACTS["trainings"], FACTS["margins"]).splitlines()


@pytest.mark.parametrize("row", [pytest.param(row, id=row[:40]) for row in ROWS if row.startswith("| ")])
def test_row_of_the_results_is_on_the_page(row: str) -> None:
    page = (ROOT / "docs" / "real-trainings.md").read_text(encoding="utf-8")

    assert row in page.splitlines(), "run `python -m benchmarks.real_trainings table FOLDER` and copy its tables"


def test_every_training_is_another_one() -> None:
    recipes = [one["recipe"] for one in FACTS["trainings"]]

    assert len({(one["kind"], one["seed"]) for one in recipes}) == len(recipes)
