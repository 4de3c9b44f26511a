"""Gates, families and gaps of a run."""

from lorabench.records.comparison import Outcome
from lorabench.records.measurement import Unmeasured
from lorabench.report.run_view import missing_rows, pictures_left_over, tally, tone


def test_gates_are_counted_gravest_first(example) -> None:
    assert tally(example.results) == (
        (Outcome.FAIL, 2),
        (Outcome.INCONCLUSIVE, 2),
        (Outcome.UNMEASURED, 1),
        (Outcome.PASS, 2),
    )


def test_tone_follows_the_metrics_direction(example) -> None:
    grain = next(c for c in example.results.comparisons if c.metric == "smooth_zone_sigma" and c.family is None)

    assert grain.high < 0
    assert tone(grain) == "better"
    assert tone(grain.model_copy(update={"higher_is_better": True})) == "worse"
    assert tone(grain.model_copy(update={"high": 0.1})) == "unclear"


def test_gaps_are_gathered_by_reason_and_none_is_lost(example) -> None:
    rows = missing_rows(example.results)

    assert sum(len(row.cells) for row in rows) == len(example.results.failed) + sum(
        u.cell is not None for u in example.results.unmeasured
    )
    assert {row.metric for row in rows} == {None, "smooth_zone_sigma", "part_count_error", "clip_text_similarity"}
    assert next(row for row in rows if row.metric == "clip_text_similarity").families == ("spatial",)


def test_a_metric_without_any_value_is_a_gap(small_example) -> None:
    nothing = (Unmeasured(metric="photo_bleed", reason="no training pictures"),)

    rows = missing_rows(small_example.results.model_copy(update={"unmeasured": nothing, "failed": ()}))

    assert [(row.metric, row.reason, row.cells) for row in rows] == [("photo_bleed", "no training pictures", ())]


def test_cells_that_vanished_are_found(small_example) -> None:
    results = small_example.results

    assert pictures_left_over(results) == ()
    assert pictures_left_over(results.model_copy(update={"images": results.images[2:]})) == (
        results.images[0].cell,
        results.images[1].cell,
    )
