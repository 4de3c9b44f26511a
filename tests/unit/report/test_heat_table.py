"""Metrics by family: where differences come from, and how they stand beside the margins."""

import pytest

from lorabench.records.measurement import Measurement, Metric
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader
from lorabench.report.heat_table import HeatCell, HeatRow, HeatTable, heat_table


def table_of(results: Results) -> HeatTable:
    return heat_table(results, CaseReader(results).read_all())


def rows_of(results: Results) -> dict[str, HeatRow]:
    table = table_of(results)
    return {row.metric: row for row in (*table.gated, *table.others)}


def test_families_stand_before_the_pooled_column(example) -> None:
    table = table_of(example.results)

    assert table.families == (*example.results.suite.families, None)
    assert all(len(row.cells) == len(table.families) for row in (*table.gated, *table.others))


def test_every_metric_with_a_difference_has_a_row_and_gates_come_first(example) -> None:
    table = table_of(example.results)
    gated = {gate.metric for gate in example.results.gates if gate.family is None and gate.comparison is not None}

    assert {row.metric for row in table.gated} == gated
    assert {c.metric for c in example.results.comparisons} <= set(rows_of(example.results))
    assert [row.worst for row in table.gated] == sorted((row.worst for row in table.gated), reverse=True)


def test_the_control_is_preferred_to_the_base(example) -> None:
    row = rows_of(example.results)["clip_text_similarity"]

    assert row.comparison is not None
    assert row.comparison.reference == "B1"


def test_without_family_comparisons_the_mean_is_bare(example) -> None:
    results = example.results
    pooled = tuple(c for c in results.comparisons if c.family is None and c.metric == "prompt_following_score")

    table = table_of(results.model_copy(update={"comparisons": pooled}))
    row = next(row for row in table.gated if row.metric == "prompt_following_score")
    cells = dict(zip(table.families, row.cells, strict=True))

    assert cells["spatial"] is not None
    assert cells["spatial"].tone is None
    assert cells["spatial"].comparison is None
    assert cells["spatial"].shade == ""
    assert cells["spatial"].n_cases == 5
    assert cells[None] is not None
    assert cells[None].tone == "worse"


def test_a_metric_that_was_not_compared_shows_candidate_minus_control(small_example) -> None:
    results = small_example.results
    case = results.suite.cases[0]
    cells = [p.cell for p in results.plan if p.cell.case == case.id and p.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)]
    values = {Arm.CONTROL: 2.0, Arm.CANDIDATE: 3.5}
    own = Metric(name="own_score", version=1, higher_is_better=True, unit="points")
    measured = [Measurement(cell=c, metric="own_score", metric_version=1, value=values[c.arm]) for c in cells]
    more = results.model_copy(
        update={"metrics": (*results.metrics, own), "measurements": (*results.measurements, *measured)}
    )

    row = rows_of(more)["own_score"]

    assert row.comparison is None
    assert row.margin is None
    assert {cell.mean for cell in row.cells if cell is not None} == {1.5}
    assert [cell.n_cases for cell in row.cells if cell is not None] == [1, 1]


def test_harm_is_in_margins_and_positive_where_it_is_worse(example) -> None:
    row = rows_of(example.results)["prompt_following_score"]
    pooled = row.cells[-1]

    assert pooled is not None
    assert row.margin is not None
    assert pooled.harm == pytest.approx(-pooled.mean / row.margin)
    assert pooled.harm > 0


@pytest.mark.parametrize(
    ("tone", "harm", "shade"),
    [
        ("worse", 1.0, "deep"),
        ("better", -1.2, "deep"),
        ("worse", 0.5, "mid"),
        ("worse", 0.49, "light"),
        ("worse", None, "light"),
        ("unclear", 3.0, ""),
        (None, 3.0, ""),
    ],
)
def test_the_shade_follows_the_margin_and_unclear_ones_have_none(tone, harm, shade) -> None:
    assert HeatCell(0.1, 3, None, tone, harm).shade == shade
