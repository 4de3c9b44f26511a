"""What a page's script needs to know of a run: differences to sort by, and digests that a decision is bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.records.plan import Arm
from lorabench.report.case_view import CaseReader, CaseView

DIGITS = 6
"""Digits after the point of a difference: enough to sort by."""


def review_facts(reader: CaseReader, cases: Sequence[CaseView], *, large: Mapping[str, str]) -> dict[str, Any]:
    """Plain data for the page's script.

    Args:
        reader: Of the run.
        cases: The cases on the page.
        large: SHA-256 to larger previews of some pictures.

    Returns:
        Digests, metrics with their direction, per case the candidate's differences, pictures and prompt.
    """
    results = reader.results
    return {
        "run_id": results.run_id,
        "results_digest": results.content_digest(),
        "suite_digest": results.suite.content_digest(),
        "candidate_digest": None if results.candidate is None else results.candidate.digest,
        "metrics": {one.name: {"higher_is_better": one.higher_is_better} for one in results.metrics},
        "cases": {view.case.id: _case(reader, view) for view in cases},
        "large": dict(large),
    }


def _case(reader: CaseReader, view: CaseView) -> dict[str, Any]:
    differences = {row.metric.name: row.difference for row in view.metrics if row.difference is not None}
    shown = [(seed.seed, one.image.sha256) for seed in view.seeds for one in seed.pictures
             if one.column.main and one.image is not None]  # fmt: skip
    return {
        "differences": {name: round(value, DIGITS) for name, value in differences.items()},
        "pictures": {str(seed): sha256 for seed, sha256 in shown},
        "plain_prompt": view.case.render(reader.results.style.of(Arm.CONTROL)),
    }
