"""Several runs beside each other: gates, what differs, style against prompt following, shared cases."""

import re
from typing import Any

import pytest

from lorabench.records.comparison import Comparison, Outcome
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.several_cases import shared_cases
from lorabench.report.several_html import render_several
from lorabench.report.several_pareto import draw, pareto
from lorabench.report.several_text import render_several_markdown, several_as_json
from lorabench.report.several_view import RunCountError, SeveralRuns


def changed(results: Results, **candidate: Any) -> Results:
    """The run with another adapter."""
    assert results.candidate is not None
    return results.model_copy(update={"candidate": results.candidate.model_copy(update=candidate)})


def with_reading(results: Results, *, prompt: float, style: float, half: float = 0.01) -> Results:
    """The run with these pooled differences in prompt following and in style."""
    known = next(k for k in results.comparisons if k.metric == "prompt_following_score" and k.family is None)

    def reading(metric: str, reference: str, value: float) -> Comparison:
        shift = {"estimate": value, "low": value - half, "high": value + half}
        return known.model_copy(update={"metric": metric, "reference": reference, **shift})

    others = tuple(k for k in results.comparisons if k.metric not in ("prompt_following_score", "style_similarity"))
    mine = (reading("prompt_following_score", "B1", prompt), reading("style_similarity", "B0", style))
    return results.model_copy(update={"comparisons": (*mine, *others)})


def short_suite(results: Results, n_cases: int) -> Results:
    """The run with a suite of its first cases, under another version."""
    kept = results.suite.cases[:n_cases]
    ids = {case.id for case in kept}
    suite = results.suite.model_copy(update={"cases": kept, "version": 9})
    plan = tuple(planned for planned in results.plan if planned.cell.case in ids)
    return results.model_copy(update={"suite": suite, "plan": plan})


@pytest.fixture
def results(small_example) -> Results:
    return small_example.results


@pytest.mark.parametrize("n_runs", [0, 1, 27])
def test_fewer_than_two_runs_and_more_than_letters_are_refused(results, n_runs: int) -> None:
    with pytest.raises(RunCountError, match=f"a comparison needs 2 to 26 runs; found {n_runs}. Name each run's folder"):
        SeveralRuns([results] * n_runs)


def test_each_gate_stands_once_with_every_runs_own_verdict(results) -> None:
    fewer = results.model_copy(update={"gates": results.gates[1:]})
    rows = SeveralRuns([results, fewer]).gates

    assert [row.gate for row in rows] == [gate.gate for gate in results.gates]
    assert rows[0].cells[1] is None
    for row, gate in zip(rows[1:], results.gates[1:], strict=True):
        assert [cell.verdict for cell in row.cells if cell is not None] == [gate, gate]


def test_numbers_of_another_metric_version_are_not_drawn_on_the_same_axis(results) -> None:
    gate = results.gates[1]
    wide = gate.comparison.model_copy(update={"metric_version": 99, "low": -50.0, "high": 50.0})
    other = results.model_copy(update={"gates": (gate.model_copy(update={"comparison": wide}),)})
    row = next(row for row in SeveralRuns([results, other]).gates if row.gate == gate.gate)

    assert row.cells[1] is not None
    assert row.cells[1].note == f"metric versions differ: {gate.comparison.metric_version} against 99"
    assert row.reach < 50


def test_drawings_of_a_gate_share_the_widest_axis(results) -> None:
    gate = results.gates[1]
    wide = gate.comparison.model_copy(update={"low": -5.0})
    other = results.model_copy(update={"gates": (gate.model_copy(update={"comparison": wide}),)})
    row = next(row for row in SeveralRuns([results, other]).gates if row.gate == gate.gate)

    assert row.reach == 5.0


def test_only_settings_that_differ_are_told_and_what_is_not_told_stays_none(results) -> None:
    other = changed(results, ranks=(8,), alphas=(4.0,), metadata={"ss_learning_rate": "1e-4"}, name="b")
    rows = {row.name: row.values for row in SeveralRuns([results, other]).settings}

    assert rows["rank"] == ("16", "8")
    assert rows["alpha"] == ("16", "4")
    assert rows["header: ss_learning_rate"] == (None, "1e-4")
    assert "adapter" not in rows
    assert "num inference steps" not in rows


def test_strength_phrases_and_generation_settings_are_settings(results) -> None:
    settings = results.settings.model_copy(update={"guidance_scale": 7.0})
    style = results.style.model_copy(update={"trigger": "qqq"})
    plan = tuple(
        planned.model_copy(update={"cell": planned.cell.model_copy(update={"scale": 0.7})})
        if planned.cell.arm is Arm.CANDIDATE
        else planned
        for planned in results.plan
    )
    other = results.model_copy(update={"settings": settings, "style": style, "plan": plan})
    rows = {row.name: row.values for row in SeveralRuns([results, other]).settings}

    assert rows["guidance scale"] == ("3.5", "7.0")
    assert rows["trigger"] == ("ohwx papercut", "qqq")
    assert rows["strength"] == ("1", "0.7")


def test_equal_settings_are_said_to_be_equal(results, small_example) -> None:
    page = render_several([results, changed(results, digest="cd" * 32)], picture=small_example.picture)
    assert "differ in nothing but the adapter&#39;s weights" in page or "nothing but the adapter's weights" in page


def test_several_differences_at_once_are_not_put_down_to_one(results, small_example) -> None:
    other = changed(results, ranks=(8,), training_step=900)
    page = render_several([results, other], picture=small_example.picture)
    assert re.search(r"differ in 2 things at once: what changes with them cannot be put down to any one of them", page)


def test_unbeaten_runs_are_those_that_no_other_beats_in_both(results) -> None:
    runs = [
        with_reading(results, prompt=prompt, style=style)
        for prompt, style in ((-0.1, 0.9), (0.0, 0.5), (-0.2, 0.4), (-0.1, 0.9))
    ]
    found = pareto(SeveralRuns(runs))

    assert (found.style_metric, found.style_reference, found.with_intervals) == ("style_similarity", "B0", True)
    assert [point.unbeaten for point in found.points] == [True, True, False, True]
    chart = draw(found)
    assert chart is not None
    a, b, c, _ = chart.marks
    assert a.y < b.y < c.y, "more style lies higher"
    assert c.x < a.x < b.x == chart.zero, "better prompt following lies further right"
    assert a.left < a.x < a.right
    assert chart.front == f"M{a.x} {a.y}V{b.y}H{b.x}"


def test_without_a_style_measure_nearness_to_the_training_pictures_stands_in_and_is_turned(results) -> None:
    found = pareto(SeveralRuns([results, results]))
    near = next(k for k in results.comparisons if k.metric == "nearest_training_distance" and k.family is None)

    assert found.style_metric == "nearest_training_distance"
    assert found.points[0].style == (-near.estimate, -near.high, -near.low)


def test_a_run_without_a_number_is_named_with_its_reason(results, small_example) -> None:
    bare = results.model_copy(update={"comparisons": ()})
    found = pareto(SeveralRuns([results, bare]))

    assert [(run.letter, why) for run, why in found.missing] == [
        ("B", "prompt following was not compared with the control")
    ]
    assert draw(pareto(SeveralRuns([bare, bare]))) is None
    page = render_several([results, bare], picture=small_example.picture)
    assert "is not shown: prompt following was not compared with the control." in page


def test_another_suite_is_said_and_only_shared_cases_are_shown(results, small_example) -> None:
    other = short_suite(results, 3)
    several = SeveralRuns([results, other])
    page = render_several([results, other], picture=small_example.picture)

    assert any("the suites differ" in text for text in several.obstacles)
    assert [case.id for case in several.shared_cases] == [case.id for case in results.suite.cases[:3]]
    assert [(run.letter, n) for run, n in several.left_out] == [("A", len(results.suite.cases) - 3)]
    assert page.count('<article class="card"') == 3
    assert page.index("the suites differ") < page.index('class="matrix gate-matrix"')
    assert "shared cases: " in page


def test_a_case_of_another_wording_is_not_shared(results) -> None:
    first, *rest = results.suite.cases
    suite = results.suite.model_copy(update={"cases": (first.model_copy(update={"prompt": "other, {style}"}), *rest)})
    several = SeveralRuns([results, results.model_copy(update={"suite": suite})])

    assert first.id not in {case.id for case in several.shared_cases}


def test_means_over_shared_cases_are_plain_means_of_their_differences(results) -> None:
    several = SeveralRuns([results, short_suite(results, 3)])
    shared = {case.id for case in several.shared_cases}
    gate = next(row for row in several.gates if row.gate == "prompt")
    cell = gate.cells[0]
    assert cell is not None
    own = [d.difference for d in cell.verdict.comparison.differences if d.case in shared]  # type: ignore[union-attr]

    assert cell.shared_mean == pytest.approx(sum(own) / len(own))
    assert SeveralRuns([results, results]).gates[1].cells[0].shared_mean is None  # type: ignore[union-attr]


def test_another_base_and_a_partial_run_are_said(results) -> None:
    base = results.base.model_copy(update={"digest": "other", "name": "other-base"})
    verdict = results.verdict.model_copy(update={"complete": True})
    other = results.model_copy(update={"base": base, "verdict": verdict})

    assert SeveralRuns([other, results]).obstacles == (
        "B against A: the bases differ: other-base against mini-world",
        "run B is partial",
    )


def test_the_control_stands_once_unless_it_is_another_picture(results) -> None:
    once = shared_cases(SeveralRuns([results, results]))[0].seeds[0]
    assert [frame.key for frame in once.frames] == ["b0", "b1", "ra", "rb"]

    images = tuple(
        one.model_copy(update={"sha256": "0" * 64}) if one.cell.arm is Arm.CONTROL else one for one in results.images
    )
    twice = shared_cases(SeveralRuns([results, results.model_copy(update={"images": images})]))[0].seeds[0]
    assert [frame.key for frame in twice.frames] == ["b0", "b1", "b1b", "ra", "rb"]
    assert [frame.name for frame in twice.frames][2] == "Control of B"


def test_disagreement_is_the_widest_gap_in_margins(results) -> None:
    case = results.suite.cases[2].id
    raised = tuple(
        one.model_copy(update={"value": one.value + 0.3})
        if (one.metric, one.cell.arm, one.cell.case) == ("prompt_following_score", Arm.CANDIDATE, case)
        else one
        for one in results.measurements
    )
    first, *others = shared_cases(SeveralRuns([results, results.model_copy(update={"measurements": raised})]))
    margin = next(gate.margin for gate in results.gates if gate.metric == "prompt_following_score")

    assert first.case.id == case
    assert first.disagreement == pytest.approx(0.3 / margin)
    assert [row.metric.name for row in first.telling] == ["prompt_following_score"]
    assert all(other.disagreement == 0 for other in others)
    assert [other.place for other in others] == sorted(other.place for other in others)


def test_a_picture_that_is_missing_in_one_run_is_told(results, small_example) -> None:
    gone = next(image for image in results.images if image.cell.arm is Arm.CANDIDATE)
    images = tuple(image for image in results.images if image is not gone)
    other = results.model_copy(update={"images": images, "failed": ()})
    found = shared_cases(SeveralRuns([results, other]))
    case = next(one for one in found if one.case.id == gone.cell.case)

    assert ("missing", "1 picture missing") in case.flags
    assert "planned, but neither made nor reported as failed" in render_several(
        [results, other], picture=small_example.picture
    )


def test_the_same_words_in_every_text_form(results) -> None:
    several = SeveralRuns([results, changed(results, ranks=(8,)), results])
    markdown, plain = render_several_markdown(several), several_as_json(several)

    assert markdown.startswith("## 3 runs")
    assert "| rank | 16 | 8 | 16 |" in markdown
    assert [run["letter"] for run in plain["runs"]] == ["A", "B", "C"]
    prompt = next(gate for gate in plain["gates"] if gate["gate"] == "prompt")
    assert [run["outcome"] for run in prompt["runs"]] == [Outcome.FAIL.value] * 3
    assert prompt["runs"][0]["low"] < prompt["runs"][0]["estimate"] < prompt["runs"][0]["high"]


def test_every_label_of_the_page_points_at_something(results, small_example) -> None:
    page = render_several([results, changed(results, ranks=(8,))], picture=small_example.picture)
    ids = re.findall(r' id="([^"]+)"', page)
    wanted = [name for names in re.findall(r'aria-labelledby="([^"]+)"', page) for name in names.split()]

    assert len(ids) == len(set(ids))
    assert set(wanted) <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert " style=" not in page
