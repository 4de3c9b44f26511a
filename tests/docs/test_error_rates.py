"""The page of error rates shows what the shipped proof holds, and the proof is of the shipped zoo."""

from __future__ import annotations

from pathlib import Path

from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.sweep_gates import SWEEP_GATES
from lorabench.records.proof import Proof
from lorabench.report.proof_markdown import with_proof_tables
from lorabench.storage.zoo_folder import read_zoo, shipped_zoo

ROOT = Path(__file__).resolve().parents[2]


def shipped_proof() -> Proof:
    return Proof.model_validate_json((ROOT / "fixtures" / "measured" / "zoo_proof.json").read_text(encoding="utf-8"))


def test_the_pages_tables_are_those_of_the_proof() -> None:
    page = (ROOT / "docs" / "error-rates.md").read_text(encoding="utf-8")

    assert with_proof_tables(page, shipped_proof()) == page


def test_every_adapter_that_counts_was_judged_by_the_gates_as_they_are() -> None:
    proof = shipped_proof()

    assert [row.name for row in proof.rows] == [entry.name for entry in read_zoo(shipped_zoo()).adapters if entry.holds]
    assert dict(proof.gates) == {gate.name: gate.margin for gate in (*DEFAULT_GATES, *SWEEP_GATES)}
