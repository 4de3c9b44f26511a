"""Style against prompt following by strength."""

from pathlib import Path

from lorabench.records.measurement import Measurement, Metric
from lorabench.records.plan import Arm, PlannedCell
from lorabench.records.results import Results
from lorabench.records.sweep import Curve, CurvePoint, Side, Sweep
from lorabench.report.case_view import CaseReader
from lorabench.report.pareto_chart import run_pareto, sweep_pareto, tradeoffs

OLD_SWEEP = next(Path(__file__).with_name("old_results").glob("sweep-1-*.json"))


def points(**values: float) -> dict[float, CurvePoint]:
    """`s05=0.3`: 0.3 at strength 0.5."""
    found = {}
    for name, value in values.items():
        at = int(name[1:]) / 10
        found[at] = CurvePoint(at=at, value=value, low=value - 0.05, high=value + 0.05)
    return found


def curve(name: str, found: dict[float, CurvePoint]) -> Curve:
    return Curve(
        name=name, axis="strength", side=Side.CANDIDATE, unit="", higher_is_better=True, points=tuple(found.values())
    )


def swept(style: dict[float, CurvePoint], prompt: dict[float, CurvePoint]) -> Sweep:
    old = Sweep.model_validate_json(OLD_SWEEP.read_text(encoding="utf-8"))
    return old.model_copy(update={"curves": (curve("style_position", style), curve("prompt_following_score", prompt))})


def test_a_strength_is_beaten_by_one_that_is_no_worse_in_either() -> None:
    style = points(s0=0.0, s5=0.6, s10=0.9, s15=0.85)
    prompt = points(s0=0.9, s5=0.9, s10=0.7, s15=0.6)

    assert [(one.strength, one.unbeaten) for one in tradeoffs(style, prompt)] == [
        (0.0, False),
        (0.5, True),
        (1.0, True),
        (1.5, False),
    ]


def test_equal_strengths_do_not_beat_each_other() -> None:
    assert all(one.unbeaten for one in tradeoffs(points(s0=0.5, s5=0.5), points(s0=0.7, s5=0.7)))


def test_only_strengths_with_both_numbers_are_compared() -> None:
    assert [one.strength for one in tradeoffs(points(s0=0.1, s5=0.5), points(s5=0.7, s10=0.2))] == [0.5]


def test_more_style_lies_higher_and_better_prompts_further_right() -> None:
    chart = sweep_pareto(swept(points(s0=0.0, s5=0.6, s10=0.9), points(s0=0.9, s5=0.8, s10=0.7)))

    assert chart is not None
    first, _, last = chart.places
    assert last.y < first.y
    assert last.x < first.x
    assert all(place.left < place.x < place.right and place.above < place.y < place.below for place in chart.places)
    assert chart.unbeaten == (0.0, 0.5, 1.0)
    assert chart.front.count("L") == chart.trail.count("L") == 2


def test_a_sweep_without_prompt_following_has_no_chart() -> None:
    found = swept(points(s0=0.0, s5=0.6), points(s0=0.9, s5=0.8))

    assert sweep_pareto(found.model_copy(update={"curves": found.curves[:1]})) is None
    assert sweep_pareto(swept(points(s0=0.0, s5=0.6), points(s5=0.9))) is None


def with_scale(results: Results, scale: float) -> Results:
    """The run with the candidate at a second scale, and its style at both."""
    style = Metric(name="style_similarity", version=1, higher_is_better=True, unit="cosine")
    plan, measured = list(results.plan), list(results.measurements)
    for planned in results.plan:
        if planned.cell.arm is Arm.CANDIDATE:
            other = planned.cell.model_copy(update={"scale": scale})
            plan.append(PlannedCell(cell=other, prompt=planned.prompt))
            for cell, value, prompt in ((planned.cell, 0.8, None), (other, 0.5, 1.0)):
                measured.append(Measurement(cell=cell, metric=style.name, metric_version=1, value=value))
                if prompt is not None:
                    name = "prompt_following_score"
                    measured.append(Measurement(cell=cell, metric=name, metric_version=2, value=prompt))
    return results.model_copy(
        update={"plan": tuple(plan), "measurements": tuple(measured), "metrics": (*results.metrics, style)}
    )


def test_a_run_at_several_scales_has_a_chart_of_its_own(small_example) -> None:
    chart = run_pareto(CaseReader(with_scale(small_example.results, 0.5)))

    assert chart is not None
    assert [place.tradeoff.strength for place in chart.places] == [0.5, 1.0]
    assert chart.places[0].tradeoff.style.value == 0.5
    assert not chart.with_intervals


def test_a_run_at_one_scale_has_none(small_example) -> None:
    assert run_pareto(CaseReader(small_example.results)) is None
