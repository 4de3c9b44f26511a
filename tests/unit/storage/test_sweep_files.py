"""Sweeps on disk, and which of them belongs to a run."""

from pathlib import Path

import pytest

from lorabench.records.results import Results
from lorabench.records.sweep import Sweep
from lorabench.storage.sweep_files import find_sweep, write_sweep

OLD = Path(__file__).parents[1] / "report" / "old_results"


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep.model_validate_json(next(OLD.glob("sweep-1-*.json")).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(sweep: Sweep) -> Results:
    """A run of the sweep's candidate, base and suite."""
    newest = sorted(OLD.glob("results-*.json"))[-1]
    found = Results.model_validate_json(newest.read_text(encoding="utf-8"))
    return found.model_copy(update={"candidate": sweep.candidate, "base": sweep.base})


def laid(sweep: Sweep, results: Results, folder: Path, **changes: object) -> Sweep:
    kept = sweep.model_copy(update={"suite_digest": results.suite.content_digest(), **changes})
    folder.mkdir(parents=True)
    write_sweep(folder / "sweep.json", kept)
    return kept


def made_at(sweep: Sweep, when: str) -> dict[str, object]:
    return {"provenance": sweep.provenance.model_copy(update={"created_at": when})}


def test_the_newest_sweep_of_the_same_candidate_is_found(sweep, results, tmp_path: Path) -> None:
    laid(sweep, results, tmp_path / "sweep-a", **made_at(sweep, "2026-01-03T00:00:00+00:00"))
    laid(sweep, results, tmp_path / "sweep-b", **made_at(sweep, "2026-01-05T00:00:00+00:00"))
    laid(sweep, results, tmp_path / "sweep-c", **made_at(sweep, "2026-01-04T00:00:00+00:00"))

    assert find_sweep(tmp_path / "run", results) == tmp_path / "sweep-b"


def test_sweeps_of_another_candidate_base_or_suite_are_not(sweep, results, tmp_path: Path) -> None:
    other = "f" * 64
    laid(sweep, results, tmp_path / "sweep-a", candidate=sweep.candidate.model_copy(update={"digest": other}))
    laid(sweep, results, tmp_path / "sweep-b", base=sweep.base.model_copy(update={"digest": other}))
    laid(sweep, results, tmp_path / "sweep-c", suite_digest=other)

    assert find_sweep(tmp_path / "run", results) is None


def test_a_file_that_cannot_be_read_is_passed_over(sweep, results, tmp_path: Path) -> None:
    (tmp_path / "sweep-a").mkdir()
    (tmp_path / "sweep-a" / "sweep.json").write_text("{", encoding="utf-8")
    laid(sweep, results, tmp_path / "sweep-b")

    assert find_sweep(tmp_path / "run", results) == tmp_path / "sweep-b"


def test_a_run_without_a_candidate_has_none(sweep, results, tmp_path: Path) -> None:
    laid(sweep, results, tmp_path / "sweep-a")

    assert find_sweep(tmp_path / "run", results.model_copy(update={"candidate": None})) is None
