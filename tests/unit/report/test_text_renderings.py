"""Terminal, Markdown, GitHub annotations, JUnit."""

import re
from collections import Counter
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console

from lorabench.records.comparison import Outcome
from lorabench.report.compare import gate_changes, obstacles, render_compare, render_compare_markdown
from lorabench.report.github import escape_message, escape_property, render_github
from lorabench.report.junit import render_junit
from lorabench.report.markdown import cap, escape, render_markdown
from lorabench.report.terminal import render_terminal, terminal_text, to_text

HOSTILE = "x\x1b[31m\x00\u202e\nline | [bold]b[/bold] <img src=x> @dev ::error::z %0A"


def with_headline(results, text: str):
    verdict = results.verdict.model_copy(update={"headline": text, "reasons": (text,)})
    gates = tuple(gate.model_copy(update={"reason": text}) for gate in results.gates)
    case = results.suite.cases[0].model_copy(update={"prompt": text})
    suite = results.suite.model_copy(update={"cases": (case, *results.suite.cases[1:])})
    failed = tuple(f.model_copy(update={"reason": text}) for f in results.failed)
    unmeasured = tuple(u.model_copy(update={"reason": text}) for u in results.unmeasured)
    changes = {"verdict": verdict, "gates": gates, "suite": suite, "failed": failed, "unmeasured": unmeasured}
    return results.model_copy(update=changes)


# terminal


def test_the_terminal_block_says_what_matters(example) -> None:
    text = terminal_text(example.results)

    assert text.startswith("✗ FAIL  papercut-002000 got worse")
    for gate in example.results.gates:
        assert re.search(rf"{gate.outcome.value}\s+{re.escape(gate.gate)}\b", text)
    assert "PARTIAL" in text
    assert "memorisation-001" in text
    assert "no picture (1 cell): out of memory" in text
    assert "79 pictures made, 160 from the cache, 2 min 46 s; exit code 1" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_block_fits(example, width: int) -> None:
    assert max(map(len, terminal_text(example.results, width=width).splitlines())) <= width


def test_at_80_columns_no_number_is_cut(example) -> None:
    text = terminal_text(example.results, width=80)

    assert "…" not in text
    assert "−0.376 to −0.170" in text


def test_colour_only_repeats_words(example) -> None:
    plain = Console(width=100, no_color=True, force_terminal=True, color_system=None)
    with plain.capture() as capture:
        plain.print(render_terminal(example.results))

    assert "\x1b" not in capture.get()
    assert "FAIL" in capture.get()


def test_texts_of_the_run_cannot_steer_the_terminal(example) -> None:
    text = terminal_text(with_headline(example.results, HOSTILE), width=200)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "[bold]b[/bold]" in text


# Markdown


def test_markdown_holds_verdict_gates_and_gaps(example) -> None:
    text = render_markdown(example.results)

    assert text.startswith("## ✗ FAIL: ")
    assert "> **Partial:**" in text
    assert text.count("\n| ") == 2 + len(example.results.gates) + 2 + 10
    assert "- **no picture** (1 cell): out of memory after 2 retries" in text
    assert "{style}" not in text


def test_markdown_rows_have_as_many_cells_as_their_head(example) -> None:
    text = render_markdown(with_headline(example.results, HOSTILE))

    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1


def test_markdown_shows_hostile_texts_as_they_are() -> None:
    safe = escape("<img src=x> & | `c` [l](u) *s* @dev https://x.example")

    assert "<img" not in safe
    assert "&lt;img src=x&gt; &amp; \\| \\`c\\` \\[l\\](u) \\*s\\*" in safe
    assert "@dev" not in safe
    assert "://" not in safe


@pytest.mark.parametrize("start", ["- a", "# a", "+ a", "1. a", "> a", "=== a"])
def test_markdown_texts_start_no_block(start: str) -> None:
    assert not re.match(r"[-+#>=]|\d+[.)]", escape(start))


def test_markdown_is_cut_at_a_line_with_a_note(example) -> None:
    whole = render_markdown(example.results)
    cut = render_markdown(example.results, size_limit=2048)

    assert len(cut.encode()) <= 2048
    assert cut.endswith("*Cut here: a summary holds at most 2 KiB. The HTML report and results.json are complete.*\n")
    kept = cut[: cut.index("\n*Cut here")]
    assert whole.startswith(kept)
    assert whole[len(kept) - 1] == "\n"


def test_a_cut_never_breaks_a_character() -> None:
    cut = cap("€\n" * 5000, size_limit=1024)

    assert len(cut.encode()) <= 1024
    assert cut.startswith("€\n")
    assert "\ufffd" not in cut


def test_a_summary_needs_room_for_its_note() -> None:
    with pytest.raises(ValueError, match="needs room for the note that it was cut; got 10 bytes"):
        cap("x" * 100, size_limit=10)


# GitHub


def test_annotations_are_at_most_ten_of_a_level_and_count_the_rest(example) -> None:
    lines = render_github(example.results, suite_file="suites/a.yaml").splitlines()
    levels = Counter(line.split(" ", 1)[0] for line in lines)

    assert set(levels) == {"::error", "::warning", "::notice"}
    assert max(levels.values()) <= 10
    assert any(re.search(r"and \d+ further warnings; the report lists them all", line) for line in lines)


def test_annotations_point_at_the_line_of_the_case(example) -> None:
    text = render_github(example.results, suite_file="suites/a,b.yaml", lines={"spatial-001": 42})

    assert "::error file=suites/a%2Cb.yaml,line=42,title=case spatial-001::golden case: 1 check failed" in text


def test_annotation_texts_are_escaped(example) -> None:
    text = render_github(with_headline(example.results, HOSTILE), suite_file="s.yaml")

    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in text.splitlines())
    assert "%250A" in text


def test_escapes_of_workflow_commands() -> None:
    assert escape_message("a%b\r\nc:d,e") == "a%25b%0D%0Ac:d,e"
    assert escape_property("a%b\r\nc:d,e") == "a%25b%0D%0Ac%3Ad%2Ce"


@pytest.mark.parametrize(("required", "level"), [(True, "error"), (False, "notice")])
def test_an_unmeasured_gate_is_an_error_where_it_is_required(example, required: bool, level: str) -> None:
    gate = next(g for g in example.results.gates if g.outcome is Outcome.UNMEASURED)
    results = example.results.model_copy(update={"gates": (gate.model_copy(update={"required": required}),)})

    assert f"::{level} file=s.yaml,line=1,title=UNMEASURED%3A gate anatomy::" in render_github(
        results, suite_file="s.yaml"
    )


# JUnit


def by_name(text: str) -> dict[str, Xml.Element]:
    return {case.get("name", ""): case for case in Xml.fromstring(text).iter("testcase")}


def test_junit_has_one_testcase_per_gate_and_per_case(example) -> None:
    root = Xml.fromstring(render_junit(example.results))
    gates, cases = root.findall("testsuite")

    assert len(gates.findall("testcase")) == len(example.results.gates)
    assert len(cases.findall("testcase")) == len(example.results.suite.cases)
    for suite in (gates, cases):
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(count) == str(len(suite.findall(f"testcase/{tag}")))
    assert root.get("tests") == "47"


def test_junit_is_green_only_for_a_pass(example) -> None:
    cases = by_name(render_junit(example.results))
    tags = {g.gate: {c.tag for c in cases[g.gate]} - {"properties"} for g in example.results.gates}

    assert tags == {
        "copy": {"failure"},
        "prompt": {"failure"},
        "clip-text": {"error"},
        "anatomy": {"skipped"},
        "palette-collapse": {"error"},
        "photo-bleed": set(),
        "grain": set(),
    }


def test_junit_fails_single_cases_only_for_golden_checks_and_missing_pictures(example) -> None:
    cases = by_name(render_junit(example.results))
    hit = {name: c.find("failure") if c.find("failure") is not None else c.find("error") for name, c in cases.items()}
    ids = {case.id for case in example.results.suite.cases}

    assert {name for name, found in hit.items() if found is not None and name in ids} == {
        "spatial-001",
        "attribute-binding-005",
    }
    assert "out of memory" in (cases["attribute-binding-005"].findtext("error") or "")
    assert "copies training picture #4" in (cases["memorisation-001"].findtext("system-out") or "")


def test_junit_keeps_numbers_as_properties(example) -> None:
    gate = by_name(render_junit(example.results))["prompt"]
    properties = {p.get("name"): p.get("value") for p in gate.iter("property")}
    comparison = next(g.comparison for g in example.results.gates if g.gate == "prompt")

    assert float(properties["lorabench.difference"] or "nan") == comparison.estimate
    assert properties["lorabench.verdict"] == "FAIL"


def test_junit_parses_whatever_the_texts_hold(example) -> None:
    text = render_junit(with_headline(example.results, HOSTILE + "\ud800\ufffe]]>"))

    root = Xml.fromstring(text.encode("utf-8"))
    messages = [f.get("message") for f in root.iter("failure")]
    assert any(message and "<img src=x>" in message for message in messages)
    assert "\x1b" not in text
    assert "\x00" not in text


# two runs


def second(results):
    """The same run with a better prompt gate, a new metric version and no copy gate."""
    changes = {}
    for gate in results.gates:
        k = gate.comparison
        if gate.gate == "prompt":
            better = k.model_copy(update={"estimate": k.estimate + 0.2, "low": k.low + 0.2, "high": k.high + 0.2})
            changes[gate.gate] = {"outcome": Outcome.INCONCLUSIVE, "comparison": better}
        if gate.gate == "grain":
            changes[gate.gate] = {"comparison": k.model_copy(update={"metric_version": 4})}
    gates = tuple(gate.model_copy(update=changes.get(gate.gate, {})) for gate in results.gates[1:])
    return results.model_copy(update={"gates": gates, "run_id": "second"})


def test_gates_of_two_runs_are_subtracted(example) -> None:
    changes = {c.gate: c for c in gate_changes(example.results, second(example.results))}

    assert changes["prompt"].change == pytest.approx(0.2)
    assert changes["prompt"].note == "better, FAIL → INCONCLUSIVE"
    assert changes["photo-bleed"].change == 0
    assert changes["copy"].note == "only in the first run"
    assert changes["anatomy"].note == "not measured in the first and the second run"


def test_other_metric_versions_are_not_subtracted(example) -> None:
    changes = {c.gate: c for c in gate_changes(example.results, second(example.results))}

    assert changes["grain"].change is None
    assert changes["grain"].note == "metric versions differ: 3 against 4"


def test_lower_is_better_is_worded_the_right_way(example) -> None:
    results = example.results
    gates = tuple(
        g.model_copy(update={"comparison": g.comparison.model_copy(update={"estimate": g.comparison.estimate + 0.1})})
        if g.gate == "photo-bleed"
        else g
        for g in results.gates
    )

    changes = {c.gate: c for c in gate_changes(results, results.model_copy(update={"gates": gates}))}

    assert changes["photo-bleed"].note == "worse"


def test_what_else_differs_between_two_runs_is_told(example, small_example) -> None:
    told = obstacles(example.results, small_example.results)

    assert told[0].startswith("the suites differ: papercut version 3 against papercut version 3")
    assert "the generation settings differ" in told
    assert "the first run is partial" in told
    assert obstacles(example.results, example.results) == ("the first run is partial", "the second run is partial")


def test_two_runs_in_both_renderings(example) -> None:
    b = second(example.results)

    terminal = to_text(render_compare(example.results, b), width=140)
    summary = render_compare_markdown(example.results, b)

    for text in (terminal, summary):
        assert "FAIL → INCONCLUSIVE" in text
        assert "+0.200" in text
        assert "the first run is partial" in text
