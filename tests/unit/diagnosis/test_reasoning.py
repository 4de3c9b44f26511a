"""How evidence adds up: for, against, and not at all where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.diagnosis.causes import LoadedCauses, read_causes
from lorabench.diagnosis.facts import Facts
from lorabench.diagnosis.reasoning import diagnose
from lorabench.records.diagnosis import Diagnosis, Fact

TABLE = """
measures:
  "gate.*": judge it
  "audit.*": audit it
causes:
  - id: first
    name: the first
    because: It is so.
    prior: -1.0
    symptoms:
      - {fact: gate.copy, is: [FAIL], weight: 2.0, otherwise: 0.5}
      - {fact: gate.prompt, is: [FAIL], weight: 0.25}
    evidence:
      - {fact: audit.n_pictures, at_most: 12, weight: 1.5, otherwise: 2.0}
    against:
      - {fact: audit.duplicate_share, at_least: 0.1, weight: 1.25}
    fixes: [{effort: setting, do: Do it.}]
    sources: [a book]
  - id: second
    name: the second
    because: It is so.
    prior: -1.0
    symptoms:
      - {fact: gate.copy, is: [FAIL], weight: 2.0}
    fixes: [{effort: setting, do: Do it.}]
    sources: [a book]
"""


@pytest.fixture
def table(tmp_path: Path) -> LoadedCauses:
    path = tmp_path / "causes.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return read_causes(path)


def found(table: LoadedCauses, unknown: dict[str, str] | None = None, **values: float | str) -> Diagnosis:
    named = {name.replace("__", "."): value for name, value in values.items()}
    known = {name: Fact(name=name, value=value, quote=f"{name} is {value}") for name, value in named.items()}
    return diagnose(Facts("run", None, "0" * 64, ("run",), known, unknown or {}), causes=table)


def score(diagnosis: Diagnosis, cause: str) -> float:
    return next(one.score for one in diagnosis.causes if one.cause == cause)


def test_what_is_not_known_counts_neither_way(table: LoadedCauses) -> None:
    assert score(found(table, gate__copy="FAIL"), "first") == pytest.approx(-1.0 + 2.0)


def test_evidence_adds_up(table: LoadedCauses) -> None:
    one = found(table, gate__copy="FAIL", gate__prompt="FAIL", audit__n_pictures=8.0)

    assert score(one, "first") == pytest.approx(-1.0 + 2.0 + 0.25 + 1.5)
    assert one.causes[0].strength == "likely"


def test_a_fact_that_is_known_to_be_otherwise_is_taken_away(table: LoadedCauses) -> None:
    one = found(table, gate__copy="FAIL", audit__n_pictures=40.0)

    assert [cause.cause for cause in one.causes] == ["second"]


def test_what_speaks_against_is_quoted(table: LoadedCauses) -> None:
    one = found(table, gate__copy="FAIL", audit__n_pictures=8.0, audit__duplicate_share=0.5)

    first = one.causes[0]
    assert score(one, "first") == pytest.approx(-1.0 + 2.0 + 1.5 - 1.25)
    assert [(e.fact.quote, e.weight) for e in first.opposing] == [("audit.duplicate_share is 0.5", -1.25)]


def test_of_equal_scores_the_first_in_the_table_comes_first(table: LoadedCauses) -> None:
    assert [cause.cause for cause in found(table, gate__copy="FAIL").causes] == ["first", "second"]


def test_no_cause_without_a_symptom(table: LoadedCauses) -> None:
    one = found(table, gate__copy="PASS", gate__prompt="PASS", audit__n_pictures=8.0)

    assert one.causes == ()
    assert [risk.cause for risk in one.risks] == ["first"]


def test_what_is_missing_is_told_with_the_way_to_know_it(table: LoadedCauses) -> None:
    one = found(table, {"gate.prompt": "prompt INCONCLUSIVE: 10 more cases"}, gate__copy="FAIL")

    gaps = [(gap.facts, gap.measure, gap.reason) for gap in one.causes[0].missing]
    assert gaps == [
        (("gate.prompt",), "judge it", "prompt INCONCLUSIVE: 10 more cases"),
        (("audit.n_pictures", "audit.duplicate_share"), "audit it", None),
    ]


def test_gates_that_no_cause_takes_up_are_told(table: LoadedCauses) -> None:
    assert found(table, gate__halo="FAIL").unexplained == ("halo",)
    assert found(table, gate__halo="FAIL").headline == "No cause in the table takes up what failed: halo."


def test_gates_that_decided_nothing_are_told_where_nothing_is_wrong(table: LoadedCauses) -> None:
    one = found(table, {"gate.copy": "too few"}, gate__prompt="PASS")

    assert one.headline == "Nothing is wrong that a cause would explain. Not decided: copy."


def test_same_facts_same_diagnosis(table: LoadedCauses) -> None:
    one, other = (found(table, gate__copy="FAIL", audit__n_pictures=8.0) for _ in range(2))

    assert one.content_digest() == other.content_digest()


def test_what_no_cause_explains_has_leads_that_say_what_would_tell(table: LoadedCauses) -> None:
    of = found(table, gate__prompt="FAIL", audit__n_pictures=40.0)

    assert of.causes == ()
    assert of.unexplained == ("prompt",)
    assert [lead.cause for lead in of.leads] == ["first"]
    assert of.leads[0].score < 0
    assert of.headline == "No cause is shown for what failed: prompt. Look first at the first."
    assert {gap.measure for gap in of.leads[0].missing} == {"judge it", "audit it"}


def test_what_a_named_cause_explains_needs_no_leads(table: LoadedCauses) -> None:
    assert found(table, gate__copy="FAIL").leads == ()
