"""What a reader is told about one case."""

import pytest

from lorabench.records.plan import Arm, Cell, PlannedCell
from lorabench.report.case_view import CaseReader, CaseView


@pytest.fixture(scope="module")
def views(example) -> dict[str, CaseView]:
    return {view.case.id: view for view in CaseReader(example.results).read_all()}


def kinds(view: CaseView) -> list[str]:
    return [flag.kind for flag in view.flags]


def test_copies_and_broken_golden_cases_come_first(example) -> None:
    first = CaseReader(example.results).read_all()[:2]

    assert {view.case.id for view in first} == {"memorisation-001", "spatial-001"}


def test_all_planned_cases_are_read(example, views) -> None:
    assert set(views) == {case.id for case in example.results.suite.cases}


def test_a_copy_names_the_training_picture(views) -> None:
    flags = {flag.kind: flag.text for flag in views["memorisation-001"].flags}

    assert flags["copy"] == "copies training picture #4"


def test_a_cell_without_picture_keeps_its_reason(views) -> None:
    view = views["attribute-binding-005"]
    absent = [p for seed in view.seeds for p in seed.pictures if p.image is None]

    assert "missing" in kinds(view)
    assert [(p.column.arm, p.seed, p.missing) for p in absent] == [
        (Arm.CANDIDATE, 11, "out of memory after 2 retries at batch size 1")
    ]
    assert view.seeds[0].seed == 11


def test_a_planned_cell_that_vanished_is_told(small_example) -> None:
    results = small_example.results
    gone = results.images[0].cell
    view = CaseReader(results.model_copy(update={"images": results.images[1:]})).read(
        next(case for case in results.suite.cases if case.id == gone.case)
    )

    told = [p.missing for seed in view.seeds for p in seed.pictures if p.column.arm is gone.arm and p.seed == gone.seed]
    assert told == ["planned, but neither made nor reported as failed"]


def test_case_differences_agree_with_the_comparison(example, views) -> None:
    compared = next(
        c
        for c in example.results.comparisons
        if c.metric == "clip_text_similarity" and c.family is None and c.reference == "B1"
    )

    for difference in compared.differences:
        row = next(r for r in views[difference.case].metrics if r.metric.name == compared.metric)
        assert row.difference == pytest.approx(difference.difference)
        assert row.n_pairs == difference.n_pairs


def test_checks_are_read_by_column_and_seed(views) -> None:
    row = views["spatial-001"].checks[-1]

    assert row.words.count("left of") == 1
    assert [[o.passed if o else None for o in column] for column in row.outcomes] == [
        [True, True],
        [True, True],
        [True, False],
    ]


def test_the_seed_with_lost_checks_is_shown_first(views) -> None:
    assert [seed.seed for seed in views["spatial-001"].seeds] == [11, 7]


def test_the_candidate_nearest_to_scale_one_is_judged(small_example) -> None:
    results = small_example.results
    half = tuple(
        PlannedCell(
            cell=Cell(arm=p.cell.arm, case=p.cell.case, seed=p.cell.seed, scale=0.5),
            prompt=p.prompt,
        )
        for p in results.plan
        if p.cell.arm is Arm.CANDIDATE
    )

    columns = CaseReader(results.model_copy(update={"plan": (*results.plan, *half)})).columns

    assert [(c.name, c.main) for c in columns] == [
        ("Base", False),
        ("Control", False),
        ("Candidate ×0.5", False),
        ("Candidate ×1", True),
    ]


def test_a_run_without_candidate_can_be_read(small_example) -> None:
    results = small_example.results
    plan = tuple(p for p in results.plan if p.cell.arm is not Arm.CANDIDATE)

    reader = CaseReader(results.model_copy(update={"plan": plan, "gates": ()}))

    assert reader.main is None
    assert all(row.difference is None for view in reader.read_all() for row in view.metrics)


def test_harm_is_in_units_of_the_margin(example, views) -> None:
    view = views["counting-003"]
    gate = next(g for g in example.results.gates if g.metric == view.harm_metric)
    difference = next(d.difference for d in gate.comparison.differences if d.case == view.case.id)

    assert view.harm == pytest.approx(-difference / gate.margin)
