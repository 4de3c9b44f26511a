"""Each metric's page says what a reader needs to know, and its figures are the measured ones."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.registry import METRICS

ROOT = Path(__file__).parents[2]
SECTIONS = (
    "What it measures",
    "What moves it",
    "What does not",
    "Range and direction",
    "Source",
    "Cost",
    "On real pictures",
)


@cache
def measured(name: str) -> Any:
    return json.loads((ROOT / "fixtures" / "measured" / f"{name}.json").read_text(encoding="utf-8"))


def page(name: str) -> str:
    return (ROOT / "docs" / "metrics" / f"{name}.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    found = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return {title: body.strip() for title, body in found}


def shown(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{seconds:.2g} s"


@pytest.mark.parametrize("name", METRICS.names())
def test_a_page_holds_every_section_in_order_and_none_is_empty(name: str) -> None:
    found = sections(page(name))

    assert [title for title in found if title in SECTIONS] == list(SECTIONS)
    assert all(len(found[title]) > 3 for title in SECTIONS)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_page_states_its_cost_in_figures_or_where_they_stand(name: str) -> None:
    cost = sections(page(name))["Cost"]

    stated = re.search(r"\d (?:ms|s)\b|per case\b|\]\(\w+\.md\)", cost)
    assert stated or re.match(r"None beyond|None per picture beyond|No further|CLIP's own pass|In the mini world", cost)


@pytest.mark.parametrize("name", ["broken_rate", *(one.metric.name for one in PICTURE_METRICS), "smooth_zone_sigma"])
def test_the_cost_of_a_picture_metric_is_the_measured_one(name: str) -> None:
    costs = measured("metric_costs")
    cost = sections(page(name))["Cost"]

    for size in ("128", "512"):
        assert shown(costs["seconds per picture"][size][name]) in cost
        assert f"{costs['ratios'][size][name]:g}" in cost


def test_every_picture_metric_was_timed_at_both_sizes_against_one_reference() -> None:
    costs = measured("metric_costs")

    for size in ("128", "512"):
        timed = costs["seconds per picture"][size]
        assert {one.metric.name for one in PICTURE_METRICS} < set(timed)
        assert costs["reference"] in timed
        for name, ratio in costs["ratios"][size].items():
            assert ratio == pytest.approx(timed[name] / timed[costs["reference"]], rel=0.06)


def test_the_table_of_costs_holds_what_was_timed() -> None:
    part = (ROOT / "docs" / "real-pictures.md").read_text(encoding="utf-8").split("\n## Cost")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    by_name = {re.sub(r"^\[`(\w+)`\].*$", r"\1", row[0]): row[1:] for row in rows}
    costs = measured("metric_costs")

    for name, seconds in costs["seconds per picture"]["512"].items():
        assert by_name[name][2] == shown(seconds)
        assert by_name[name][0] == shown(costs["seconds per picture"]["128"][name])
    for name, seconds in costs["seconds per run"].items():
        assert name == "n_pictures" or by_name[name] == [f"{seconds:g}"]


@pytest.mark.parametrize("kind", ["photographs", "illustrations"])
def test_tables_of_copies_hold_the_measured_areas(kind: str) -> None:
    text = sections(page("descriptor_copy_rate"))["On real pictures"]
    found, distilled = measured("copy_detection")[kind], measured("copy_detection_distilled")[kind]
    n = sum(found[f"n_{role}"] for role in ("training", "control", "unrelated"))
    table = text.split(f"{n} {kind}: ")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    edits = {name: value for name, value in found.items() if isinstance(value, dict) and "auc" in value}

    assert len(rows) == len(edits) + 1
    for row, (name, value) in zip(rows, edits.items(), strict=False):
        areas = value["auc"]
        expected = [areas["lpips"], areas["sscd"], distilled[name]["auc"]["sscd"], areas["tiles"], areas["structure"]]
        for cell, (area, low, high) in zip(row[1:6], expected, strict=True):
            stated = [float(number) for number in re.findall(r"[\d.]+", cell)]
            wanted = [area] if area == low == high == 1 else [area, low, high]
            assert stated == pytest.approx(wanted, abs=0.0051)
