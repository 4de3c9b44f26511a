"""A reviewer's decisions hold for the very results they were made on, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorabench.errors import SpecError
from lorabench.records.decisions import CaseDecision, Decisions
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.storage.decisions import check_accepted, read_decisions


@pytest.fixture
def results(small_example) -> Results:
    return small_example.results


def decisions_on(results: Results, **changes: object) -> Decisions:
    assert results.candidate is not None
    image = next(image for image in results.images if image.cell.arm is Arm.CANDIDATE)
    said = CaseDecision(case=image.cell.case, decision="accept", pictures={str(image.cell.seed): image.sha256})
    plain = Decisions(
        run_id=results.run_id,
        results_digest=results.content_digest(),
        suite_digest=results.suite.content_digest(),
        candidate_digest=results.candidate.digest,
        decided_at="2026-01-01T00:00:00+00:00",
        decision="accept",
        comment="sharper",
        cases=(said,),
    )
    return plain.model_copy(update=changes)


def test_an_accepted_run_is_accepted(results: Results) -> None:
    check_accepted(decisions_on(results), results)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suite_digest": "a" * 64}, r"do not fit .*: the suite is another one\. Render the report of this run again"),
        ({"candidate_digest": "a" * 64}, "the candidate is another one"),
        ({"results_digest": "a" * 64}, "the numbers are others"),
        ({"decision": None}, r"this one was not decided on\. Accept the run in the report"),
        ({"decision": "reject"}, r"a baseline is one run, accepted as a whole; the reviewer rejected this one"),
    ],
)
def test_anything_else_is_refused(results: Results, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        check_accepted(decisions_on(results, **changes), results)


def test_another_picture_is_refused(results: Results) -> None:
    good = decisions_on(results)
    altered = good.cases[0].model_copy(update={"pictures": dict.fromkeys(good.cases[0].pictures, "b" * 64)})
    with pytest.raises(SpecError, match=r"the picture of .*, seed \d+, is another one"):
        check_accepted(good.model_copy(update={"cases": (altered,)}), results)


def test_rejected_cases_are_named(results: Results) -> None:
    good = decisions_on(results)
    rejected = tuple(CaseDecision(case=f"case-{n}", decision="reject") for n in range(7))
    with pytest.raises(SpecError, match=r"7 of its cases are rejected \(case-0, .*case-4, \.\.\.\)\. Accept them"):
        check_accepted(good.model_copy(update={"cases": rejected}), results)


def test_a_file_is_read_back(results: Results, tmp_path: Path) -> None:
    good = decisions_on(results)
    (tmp_path / "decisions.json").write_text(good.model_dump_json(), encoding="utf-8")
    assert read_decisions(tmp_path) == good


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"schema_version": 9}), json.dumps({"schema_version": 1})])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "decisions.json").write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match=r"decisions must be a decisions\.json of schema version 1.*Download it"):
        read_decisions(tmp_path / "decisions.json")
