"""One adapter on two bases: gates beside each other, and what the change of base costs in a sentence."""

from __future__ import annotations

from typing import Any

from lorabench.records.adapter_health import (
    AdapterHealth,
    AdapterVerdict,
    BaseMatch,
    BaseRelation,
    TrainedOn,
)
from lorabench.records.comparison import Outcome
from lorabench.records.results import Results
from lorabench.report.both_bases import base_findings, render_both_bases, render_both_bases_markdown
from lorabench.report.file_findings import file_findings
from lorabench.report.html import render_html
from lorabench.report.markdown import render_markdown
from lorabench.report.terminal import terminal_text, to_text


def on_base(results: Results, name: str, digest: str, **outcomes: Outcome) -> Results:
    gates = tuple(
        gate.model_copy(update={"outcome": outcomes.get(gate.gate.replace("-", "_"), gate.outcome)})
        for gate in results.gates
    )
    base = results.base.model_copy(update={"name": name, "digest": digest})
    return results.model_copy(update={"base": base, "gates": gates})


def pair(example: Any, *, trained: Outcome = Outcome.PASS, used: Outcome = Outcome.FAIL) -> tuple[Results, Results]:
    measured = next(gate for gate in example.results.gates if gate.comparison is not None)
    name = measured.gate.replace("-", "_")
    every = {gate.gate.replace("-", "_"): Outcome.PASS for gate in example.results.gates}
    return (
        on_base(example.results, "de-distilled", "a" * 64, **{**every, name: trained}),
        on_base(example.results, "distilled", "b" * 64, **{**every, name: used}),
    )


def test_a_gate_that_fails_on_the_base_in_use_alone_is_named(small_example: Any) -> None:
    trained, used = pair(small_example)
    name = next(gate.gate for gate in used.gates if gate.outcome is Outcome.FAIL)

    assert base_findings(trained, used) == (
        f"Failing on distilled and not on de-distilled, where it was trained: {name}.",
    )


def test_a_gate_that_fails_where_it_was_trained_alone_is_named_too(small_example: Any) -> None:
    trained, used = pair(small_example, trained=Outcome.FAIL, used=Outcome.PASS)

    (sentence,) = base_findings(trained, used)

    assert sentence.startswith("Failing on de-distilled, where it was trained, and not on distilled: ")


def test_no_difference_and_one_base_are_said(small_example: Any) -> None:
    trained, used = pair(small_example, used=Outcome.PASS)

    assert base_findings(trained, used)[0].startswith("The same gates fail on de-distilled, where it was trained")
    assert base_findings(used, used) == ("distilled and distilled are the same files: nothing can differ.",)


def test_both_renderings_show_both_outcomes_and_leave_out_what_neither_measured(small_example: Any) -> None:
    trained, used = pair(small_example)
    unmeasured = [gate.gate for gate in used.gates if gate.comparison is None]
    text = to_text(render_both_bases(trained, used), width=160)
    document = render_both_bases_markdown(trained, used)

    for shown in (text, document):
        assert "trained on de-distilled, used on distilled" in shown
        assert "PASS" in shown
        assert "FAIL" in shown
    for name in unmeasured:
        assert f"Measured on neither base: {', '.join(unmeasured)}." in text, name


def with_findings(results: Results, relation: BaseRelation) -> Results:
    assert results.candidate is not None
    health = AdapterHealth(verdict=AdapterVerdict.PARTIAL, reasons=("3 modules are zero.",), n_modules=12, n_zero=3)
    match = BaseMatch(
        relation=relation,
        trained_on=TrainedOn(variant="dev", name="flux1-dev", said_by={"ss_sd_model_name": "flux1-dev"}),
        sentence="Trained on flux1-dev, used on schnell: another variant (dev, schnell).",
    )
    candidate = results.candidate.model_copy(update={"health": health, "base_match": match})
    return results.model_copy(update={"candidate": candidate})


def test_findings_on_the_file_stand_in_every_report(small_example: Any) -> None:
    results = with_findings(small_example.results, BaseRelation.OTHER_VARIANT)
    page = render_html(results, picture=small_example.picture)

    for shown in (" ".join(terminal_text(results).split()), render_markdown(results), page):
        assert "The file is partial: 3 modules are zero." in shown
        assert "another variant (dev, schnell)" in shown
    assert "ss_sd_model_name" in page


def test_a_sound_file_on_its_own_base_says_nothing(small_example: Any) -> None:
    results = with_findings(small_example.results, BaseRelation.SAME)
    assert results.candidate is not None
    assert results.candidate.health is not None
    sound = results.candidate.health.model_copy(update={"verdict": AdapterVerdict.HEALTHY, "reasons": ()})

    assert file_findings(results.candidate.model_copy(update={"health": sound})) == ()
    assert file_findings(None) == ()
