"""What a course says about its guards, signals, onset and cost; and where the marks of its charts lie."""

from itertools import pairwise
from typing import Any

import pytest

from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, Reason
from lorabench.report.course_chart import Scale, draw_guard, draw_loss, draw_signal, round_step
from lorabench.report.course_view import (
    LossCourse,
    LossFinding,
    LossLevel,
    SignalPoint,
    SignalView,
    control_mean,
    cost,
    guards,
    last_looks,
    loss_findings,
    mark_of,
    row_ids,
    signals,
    standing,
    stops_before_the_end,
)
from lorabench.report.filmstrip import film_steps, film_strips


def one(
    training_step: int,
    harm: float | None,
    *,
    again: float | None = None,
    action: Action = Action.CONTINUE,
    reason: Reason = Reason.HEALTHY,
    **facts: Any,
) -> Evaluation:
    gates = ("prompt",) if action is not Action.CONTINUE else ()
    said = Decision(action=action, reason=reason, sentence="Said so.", training_step=training_step, gates=gates)
    screen = () if harm is None else (read(harm),)
    confirmation = () if again is None else (read(again),)
    return Evaluation(training_step=training_step, screen=screen, confirmation=confirmation, decision=said, **facts)


def read(margins: float) -> GuardReading:
    return GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=margins * 0.1,
        standard_error=0.02,
        margin=0.1,
        n_cases=10,
        low=margins * 0.1 - 0.05,
        high=margins * 0.1 + 0.05,
        p_beyond_margin=0.5,
    )


def course(*evaluations: Evaluation, best: int | None = None) -> Course:
    return Course(identity="0" * 64, evaluations=evaluations, best=best)


REJECT = {"action": Action.REJECT, "reason": Reason.CONFIRMED}
STOP = {"action": Action.STOP, "reason": Reason.PERSISTENT}


# ------------------------------------------------------------------------------------------------------- standing


def test_standing_of_a_stop_a_rejection_and_an_alarm() -> None:
    stopped = standing(course(one(10, 0.1), one(20, 3, again=3, **STOP)), events=[])
    rejected = standing(course(one(20, 3, again=3, **REJECT), best=10), events=[])
    alarmed = standing(course(one(20, 1, again=0.2, reason=Reason.ALARM), best=20), events=[])

    assert (stopped.word, stopped.tone, stopped.training_step) == ("STOPPED", "fail", 20)
    assert stopped.headline == "at step 20, because of prompt (persistent)"
    assert (rejected.word, rejected.tone) == ("NOT STOPPED SO FAR", "fail")
    assert rejected.headline == "the newest checkpoint is rejected, at step 20, because of prompt (confirmed)"
    assert (alarmed.tone, alarmed.headline) == ("pass", "the newest checkpoint stands, at step 20 (alarm)")


def test_a_finished_training_is_told_from_one_that_goes_on() -> None:
    done = [{"kind": "opened"}, {"kind": "evaluated"}, {"kind": "finished"}]

    assert standing(course(one(10, 0.1)), events=done).word == "NOT STOPPED"
    assert standing(course(one(10, 0.1)), events=[*done, {"kind": "opened"}]).word == "NOT STOPPED SO FAR"


def test_a_stop_between_two_evaluations_is_a_stop_until_training_goes_on() -> None:
    stop = {"kind": "stopped", "action": "STOP", "reason": "not_finite", "sentence": "NaN.", "training_step": 33}
    judged = course(one(10, 0.1))

    found = standing(judged, events=[{"kind": "opened"}, {"kind": "evaluated"}, stop, {"kind": "finished"}])
    later = standing(judged, events=[stop, {"kind": "opened"}])
    advice = standing(judged, events=[{**stop, "action": "REJECT"}])

    assert (found.word, found.headline, found.sentence) == ("STOPPED", "at step 33 (not finite)", "NaN.")
    assert later.word == advice.word == "NOT STOPPED SO FAR"


def test_a_stop_that_the_training_did_not_obey_is_named() -> None:
    assert stops_before_the_end(course(one(10, 3, **STOP), one(20, 3, **STOP))) == (10,)


@pytest.mark.parametrize(
    ("evaluation", "mark"),
    [
        (one(1, 0.1), "continue"),
        (one(1, 1, reason=Reason.ALARM), "alarm"),
        (one(1, 1, **REJECT), "reject"),
        (one(1, 1, **STOP), "stop"),
        (one(1, None, reason=Reason.NOT_MEASURED), "unmeasured"),
    ],
)
def test_mark_of_a_checkpoint(evaluation: Evaluation, mark: str) -> None:
    assert mark_of(evaluation) == mark


# --------------------------------------------------------------------------------------------------------- guards


def test_place_of_an_interval_against_the_margin() -> None:
    view = guards(course(one(1, 0.4), one(2, 0.6), one(3, 1.6)))[0]

    assert [point.place for point in view.points] == ["within", "unclear", "beyond"]
    assert view.within == (1,)


def test_the_confirmation_counts_where_there_is_one() -> None:
    view = guards(course(one(10, 2, again=0.1, alarmed=("prompt",), reason=Reason.ALARM)))[0]

    assert [(point.look, point.place) for point in view.points] == [("screen", "beyond"), ("confirmation", "within")]
    assert view.within == (10,)
    assert view.sentence == (
        "Alarmed at step 10; no decision speaks against it. Shown to be within its margin at 1 of 1 checkpoint."
    )


def test_onset_goes_back_from_the_first_confirmation_while_harm_is_beyond_the_margin() -> None:
    view = guards(course(one(10, 1.4), one(20, 0.8), one(30, 1.2), one(40, 1.5), one(50, 2, again=2, **REJECT)))[0]

    assert view.onset is not None
    assert (view.onset.training_step, view.onset.after) == (30, 20)


def test_no_onset_without_confirmation_and_none_before_the_first_checkpoint() -> None:
    calm, sudden = guards(course(one(10, 3), one(20, 3)))[0], guards(course(one(10, 3, again=3, **STOP)))[0]

    assert calm.onset is None
    assert sudden.onset is not None
    assert (sudden.onset.training_step, sudden.onset.after) == (10, None)


def test_a_step_that_was_judged_twice_keeps_both_judgements() -> None:
    set_back = course(one(10, 0.1), one(20, 3, again=3, **REJECT), one(10, 0.2), one(20, 0.3))

    view = guards(set_back)[0]

    assert [point.training_step for point in last_looks(view.points)] == [10, 20, 10, 20]
    assert view.sentence.endswith("Shown to be within its margin at 3 of 4 checkpoints.")
    assert row_ids(set_back) == ("earlier-0", "earlier-1", "step-10", "step-20")


def test_a_guard_without_a_reading_carries_its_reason() -> None:
    blind = one(20, None, unmeasured={"prompt": "no sensor"})
    lost = one(30, None, unmeasured={"everything": "crashed"})

    view = guards(course(one(10, 0.1), blind, lost, one(40, None)))[0]

    assert view.missing == ((20, "no sensor"), (30, "crashed"), (40, "no reason was recorded"))


# -------------------------------------------------------------------------------------------------------- signals


def test_errors_and_strata_belong_to_their_signal_and_orphans_stand_alone() -> None:
    values = {"drift": 1.0, "drift_se": 0.1, "drift_s1": 0.5, "drift_s2": 0.7, "lost_se": 3.0, "x_s1": 4.0}

    found = signals(course(one(10, 0.1, signals=values)), runs={})

    assert [view.name for view in found.drift] == ["drift"]
    assert found.drift[0].points == (SignalPoint(10, 1.0, 0.1),)
    assert [points[0].value for points in found.drift[0].strata] == [0.5, 0.7]
    assert [view.name for view in found.others] == ["lost_se", "x_s1"]


@pytest.mark.parametrize("name", ["loss", "loss_held_out", "loss/held_out"])
def test_losses_are_known_by_their_name(name: str) -> None:
    assert [view.name for view in signals(course(one(1, 0, signals={name: 0.1})), runs={}).losses] == [name]


def test_readings_between_two_screens_come_from_the_log_and_are_forgotten_when_set_back() -> None:
    events = [
        {"kind": "opened", "equals_base": True, "drift": 0.0},
        {"kind": "opened", "equals_base": None, "drift": 7.0},
        {"kind": "signals", "training_step": 5, "drift": 0.1, "unmeasured": {}},
        {"kind": "signals", "training_step": 15, "drift": 0.9},
        {"kind": "signals", "training_step": 12, "drift": 0.2, "drift_se": float("nan"), "other": True},
    ]

    drift = signals(course(one(10, 0.1, signals={"drift": 0.15})), runs={}, events=events).drift[0]

    assert [(point.training_step, point.value) for point in drift.points] == [(0, 0.0), (5, 0.1), (10, 0.15), (12, 0.2)]


def test_the_controls_mean_is_taken_over_cases_of_means_over_seeds(small_example: Any) -> None:
    results = small_example.results
    values: dict[str, list[float]] = {}
    for item in results.measurements:
        if item.metric == "clip_text_similarity" and item.cell.arm.value == "B1":
            values.setdefault(item.cell.case, []).append(item.value)
    means = [sum(found) / len(found) for found in values.values()]

    assert control_mean(results, "clip_text_similarity") == pytest.approx(sum(means) / len(means))
    assert control_mean(results, "unheard_of") is None


def test_loss_findings_of_another_shape_are_passed_over() -> None:
    good = {"kind": "loss", "training_step": 3, "finding": "spike", "says": "Up."}

    found = loss_findings([good, good, {"kind": "loss"}, {"kind": "loss", "training_step": "3", "says": "x"}])

    assert found == (LossFinding("spike", 3, "Up."),)


# ----------------------------------------------------------------------------------------------------------- cost


def at(minute: int, kind: str, **facts: Any) -> dict[str, Any]:
    return {"at": f"2026-01-01T10:{minute:02d}:00+00:00", "kind": kind, **facts}


def test_cost_leaves_out_the_time_between_two_sittings() -> None:
    events = [at(0, "opened"), at(2, "evaluated", seconds=30.0), at(40, "opened"), at(43, "evaluated", seconds=30.0)]

    found = cost(course(one(10, 0.1, seconds=30.0), one(20, 0.1, seconds=31.0)), events=events)

    assert (found.total, found.longest, found.span) == (61.0, (20, 31.0), 300.0)
    assert found.share == pytest.approx(0.2)


def test_cost_gives_no_share_where_the_log_cannot_tell() -> None:
    judged = course(one(10, 0.1, seconds=30.0))

    assert cost(judged, events=[]).share is None
    assert cost(judged, events=[{"kind": "evaluated", "at": "yesterday", "seconds": 3}]).share is None
    assert cost(judged, events=[at(0, "opened"), at(1, "evaluated", seconds=500.0)]).share is None


def test_cost_knows_what_the_monitor_measured() -> None:
    events = [at(0, "opened"), at(1, "finished", share=0.08)]

    assert cost(course(one(10, 0.1)), events=events).of_training == 0.08


# --------------------------------------------------------------------------------------------------------- charts


def test_a_scale_maps_its_ends_to_its_ends() -> None:
    scale = Scale(-1.0, 3.0, 200.0, 0.0)

    assert (scale.at(-1.0), scale.at(3.0), scale.at(1.0)) == (200.0, 0.0, 100.0)
    assert [tick.text for tick in scale.ticks()] == ["−1", "0", "1", "2", "3"]
    assert [tick.text for tick in Scale(0, 2500, 0, 1).ticks(whole=True)] == [
        "0",
        "500",
        "1,000",
        "1,500",
        "2,000",
        "2,500",
    ]


@pytest.mark.parametrize("raw", [1e-6, 0.03, 0.5, 1.0, 4.2, 77.0, 12345.0])
def test_round_step_is_round_and_not_smaller(raw: float) -> None:
    step = round_step(raw)

    assert raw <= step * (1 + 1e-9) < 2.6 * raw
    assert f"{step:e}"[0] in "125"


def test_every_mark_of_a_guard_lies_where_its_number_says() -> None:
    view = guards(course(one(10, 0.2), one(20, 2.5, again=2.2, **REJECT)))[0]

    chart = draw_guard(view, steps=[10, 20])

    y = chart.frame.y
    for mark in chart.marks:
        value = y.low + (mark.y - y.start) / (y.end - y.start) * (y.high - y.low)
        assert value == pytest.approx(mark.point.harm, abs=0.02)
        assert chart.frame.top <= mark.high <= mark.y <= mark.low <= chart.frame.bottom
    assert chart.marks[0].y > chart.margin > chart.marks[1].y  # up is worse
    assert chart.marks[1].x < chart.frame.x.at(20) < chart.marks[2].x
    assert chart.onset == (chart.frame.x.at(10), chart.frame.x.at(20))


def test_values_that_never_change_can_be_drawn() -> None:
    view = SignalView("x", "x", (SignalPoint(1, 0.0), SignalPoint(2, 0.0)))

    chart = draw_signal(view, steps=[1, 2])

    assert chart.frame.y.low < 0 < chart.frame.y.high
    assert chart.line.path.startswith("M")


def test_labels_of_strata_do_not_lie_on_each_other() -> None:
    strata = tuple((SignalPoint(1, 0.5 + index * 1e-6), SignalPoint(2, 0.5 + index * 1e-6)) for index in range(8))

    chart = draw_signal(SignalView("x", "x", (SignalPoint(1, 0.0), SignalPoint(2, 1.0)), strata), steps=[1, 2])

    heights = sorted(at for at, _ in chart.labels)
    assert {number for _, number in chart.labels} == set(range(1, 9))
    assert all(later - earlier >= 10.99 for earlier, later in pairwise(heights))
    assert heights[-1] <= chart.frame.bottom


def test_blocks_of_the_loss_lie_at_their_middle_and_findings_at_their_step() -> None:
    loss = LossCourse((LossLevel(1, 3, 0.5), LossLevel(4, 8, 0.25)), "")

    chart = draw_loss(loss, [LossFinding("spike", 5, "Up.")], steps=[8])

    assert [x for x, _ in chart.places] == [chart.frame.x.at(2), chart.frame.x.at(6)]
    assert [x for x, _ in chart.findings] == [chart.frame.x.at(5)]
    assert chart.places[0][1] < chart.places[1][1]


# ------------------------------------------------------------------------------------------------------ filmstrip


def test_few_checkpoints_are_all_shown_and_of_many_the_telling_ones() -> None:
    many = [one(10 * k, 0.1, run_ids=(f"r{k}",)) for k in range(1, 41)]
    many[16] = one(170, 3, again=3, run_ids=("r17",), **REJECT)
    whole = course(*many, best=130)
    there = {f"r{k}": object() for k in range(1, 41)}

    assert film_steps(course(*many[:3]), available=there) == (10, 20, 30)
    shown = film_steps(whole, available=there)
    assert len(shown) == 10
    assert {10, 130, 170, 400} <= set(shown)
    assert list(shown) == sorted(shown)


def test_a_checkpoint_without_its_run_is_not_shown() -> None:
    assert film_steps(course(one(10, 0.1), one(20, 0.1, run_ids=("a",))), available={}) == ()


def test_strips_hold_the_worst_cases_and_a_sample_that_results_have_no_say_in(small_example: Any) -> None:
    judged = course(one(10, 0.1, run_ids=("a",)), one(20, 0.1, run_ids=("b",)))
    runs = {"a": small_example.results, "b": small_example.results}

    strips = film_strips(judged, runs=runs, steps=(10, 20))

    worst = [strip.harm for strip in strips if strip.worst]
    assert worst == sorted(worst, reverse=True)
    assert len(worst) == 4
    assert sum(strip.sampled for strip in strips) == 3
    assert len({strip.case for strip in strips}) == len(strips)
    assert all([frame.training_step for frame in strip.frames] == [10, 20] for strip in strips)
    for strip in strips:
        for frame in strip.frames:
            assert frame.control is not None
            assert frame.candidate is not None
            assert frame.control.seed == frame.candidate.seed == frame.seed
            assert frame.control.column.name == "Control"
