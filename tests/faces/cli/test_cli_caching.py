"""`lorabench cache`: what it holds, why a picture is there or not, and how it is emptied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CELL = "L1/pair-0/seed1/x1"


def test_info_counts_pictures(project: Any) -> None:
    empty = json.loads(project.call("cache", "info", "--json").stdout)
    project.run()
    full = json.loads(project.call("cache", "info", "--json").stdout)

    assert empty["pictures"]["entries"] == 0
    assert full["pictures"]["entries"] == 18
    assert full["pictures"]["bytes"] > 1000


def test_explain_says_hit_and_under_other_settings_why_not(shared: Any, passed: Path) -> None:
    hit = shared.call("cache", "explain", passed, CELL)
    miss = shared.call("cache", "explain", passed, CELL, "--set", "generation.height=64")

    assert hit.exit_code == 0, hit.stderr
    assert "is still there" in hit.stdout
    assert "With the present settings:" in hit.stdout
    assert "differs in settings.height: wanted 64, cached 128" in miss.stdout


def test_explain_of_a_key_shows_what_it_was_made_of(shared: Any, passed: Path, tmp_path: Path) -> None:
    results = json.loads((passed / "results.json").read_text(encoding="utf-8"))
    key = next(image["cache_key"] for image in results["images"] if image["cell"]["arm"] == "L1")
    known = shared.call("cache", "explain", key)
    unknown = shared.call("cache", "explain", key, "--cache-dir", tmp_path)

    assert '"prompt": "a zvq drawing of' in known.stdout
    assert "never made here, deleted, or damaged" in unknown.stdout


def test_explain_needs_a_cell_of_the_run(shared: Any, passed: Path) -> None:
    done = shared.call("cache", "explain", passed, "L1/none/seed1/x1")

    assert done.exit_code == 2
    assert f"{passed.name} has no 'L1/none/seed1/x1'. Cells look like B0/pair-0/seed1/x0" in done.stderr


def test_prune_keeps_the_size_and_clear_empties(project: Any) -> None:
    project.run()
    size = json.loads(project.call("cache", "info", "--json").stdout)["pictures"]["bytes"]
    project.call("cache", "prune", "--max-size", f"{size // 2}")
    left = json.loads(project.call("cache", "info", "--json").stdout)["pictures"]
    cleared = project.call("cache", "clear")

    assert 0 < left["bytes"] <= size // 2
    assert f"{left['entries']} pictures and" in cleared.stdout
    assert json.loads(project.call("cache", "info", "--json").stdout)["pictures"]["entries"] == 0


@pytest.mark.parametrize("size", ["much", "-1", "5 X", ""])
def test_a_size_that_is_none_ends_with_2(shared: Any, size: str) -> None:
    done = shared.call("cache", "prune", "--max-size", size)

    assert done.exit_code == 2
    assert size == "-1" or "--max-size must be a size such as 500M or 20G" in done.stderr
