"""The stopping rule, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorabench.records.config import CourseConfig
from lorabench.records.course import Action, Decision, GuardReading, PolicyState, Reason
from lorabench.training import policy

SETTINGS = CourseConfig()
BEYOND, WITHIN = 0.001, 0.5
"""p-values of harm beyond the margin: shown, and not shown."""


def reading(gate: str = "prompt", *, harm: float = 0.0, p: float = WITHIN, **facts: object) -> GuardReading:
    """A guard with margin 0.1 and standard error 0.02."""
    error = float(facts.get("standard_error", 0.02))  # type: ignore[arg-type]
    values = {
        "metric": f"{gate}_score",
        "standard_error": error,
        "margin": 0.1,
        "n_cases": 15,
        "low": harm - 2.14 * error,
        "high": harm + 2.14 * error,
        **facts,
    }
    return GuardReading(gate=gate, harm=harm, p_beyond_margin=p, **values)  # type: ignore[arg-type]


def judged(
    looks: Sequence[Sequence[GuardReading]], settings: CourseConfig = SETTINGS, state: PolicyState | None = None
) -> list[Decision]:
    """Decisions on checkpoints whose confirmations read like this; an empty one did not alarm."""
    state = PolicyState() if state is None else state
    decisions = []
    for number, look in enumerate(looks):
        decision, state = policy.conclude(
            training_step=100 * number,
            alarmed=[one.gate for one in look],
            confirmed=look,
            state=state,
            settings=settings,
        )
        decisions.append(decision)
    return decisions


def actions(pattern: str, settings: CourseConfig = SETTINGS) -> str:
    """Initials of the actions on a course: `x` confirmed, `a` alarmed only, `.` healthy."""
    look = {"x": [reading(harm=0.2, p=BEYOND)], "a": [reading(harm=0.09)], ".": []}
    return "".join(decision.action.value[0] for decision in judged([look[mark] for mark in pattern], settings))


# ---------------------------------------------------------------------------------------------------------- alarms


@pytest.mark.parametrize(("harm", "alarmed"), [(0.0, False), (0.0699, False), (0.0701, True), (-0.5, False)])
def test_screen_alarms_from_the_share_of_the_margin_on(harm: float, alarmed: bool) -> None:
    names, _ = policy.alarms([reading(harm=harm)], PolicyState(), SETTINGS)

    assert names == (("prompt",) if alarmed else ())


def test_every_guard_alarms_for_itself_in_the_order_of_the_readings() -> None:
    looks = [reading("copy", harm=0.2), reading("prompt"), reading("anatomy", harm=0.09)]

    names, _ = policy.alarms(looks, PolicyState(), SETTINGS)

    assert names == ("copy", "anatomy")


def test_cusum_adds_the_excess_over_margin_and_allowance_in_standard_errors() -> None:
    _, state = policy.alarms([reading(harm=0.15)], PolicyState(), SETTINGS)
    assert state.cusum == {"prompt": pytest.approx(2.5 - 0.5)}

    _, state = policy.alarms([reading(harm=0.11)], state, SETTINGS)
    assert state.cusum == {"prompt": pytest.approx(2.0 + 0.5 - 0.5)}

    _, state = policy.alarms([reading(harm=0.0)], state, SETTINGS)
    assert state.cusum == {"prompt": 0.0}


def test_cusum_alarms_where_the_mean_alone_does_not() -> None:
    below = reading(harm=0.068, standard_error=0.05)
    assert policy.alarms([below], PolicyState(), SETTINGS)[0] == ()

    _, state = policy.alarms([reading(harm=0.3)], PolicyState(), SETTINGS)
    names, state = policy.alarms([below], state, SETTINGS)
    again, _ = policy.alarms([below], state, SETTINGS)

    assert names == ("prompt",)
    assert again == ()


def test_one_terrible_checkpoint_does_not_make_every_later_one_be_looked_at_twice() -> None:
    _, state = policy.alarms([reading(harm=50.0)], PolicyState(), SETTINGS)
    assert state.cusum["prompt"] == policy.CUSUM_LIMIT * SETTINGS.cusum_threshold

    names, _ = policy.alarms([reading(harm=0.0)], state, SETTINGS)

    assert names == ()


@pytest.mark.parametrize(
    ("harm", "cusum"), [(0.2, policy.CUSUM_LIMIT * SETTINGS.cusum_threshold), (0.1, 0.5), (0.05, 0.0)]
)
def test_cusum_of_a_reading_without_spread_is_finite(harm: float, cusum: float) -> None:
    _, state = policy.alarms([reading(harm=harm, standard_error=0.0)], PolicyState(cusum={"prompt": 1.0}), SETTINGS)

    assert state.cusum == {"prompt": cusum}


def test_guard_without_a_reading_keeps_its_memory() -> None:
    before = PolicyState(cusum={"anatomy": 1.5, "prompt": 1.5}, confirmed=(True,))

    _, after = policy.alarms([reading(harm=0.0)], before, SETTINGS)

    assert after.cusum == {"anatomy": 1.5, "prompt": 0.0}
    assert after.confirmed == (True,)
    assert before.cusum == {"anatomy": 1.5, "prompt": 1.5}


@pytest.mark.parametrize("look", ["alarms", "confirmed", "conclude"])
def test_two_readings_of_one_guard_are_refused(look: str) -> None:
    twice = [reading(), reading("copy"), reading()]
    calls = {
        "alarms": lambda: policy.alarms(twice, PolicyState(), SETTINGS),
        "confirmed": lambda: policy.confirmed(twice, SETTINGS),
        "conclude": lambda: judged([twice]),
    }

    with pytest.raises(ValueError, match="each guard must have one reading per look; got several of prompt"):
        calls[look]()


# ---------------------------------------------------------------------------------------------------- confirmation


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], ("g0",)),
        ([0.04, 0.02, 0.01], ("g0", "g1", "g2")),
        ([0.02, 0.02, 0.02], ()),
        ([0.05], ("g0",)),
        ([], ()),
    ],
)
def test_confirmation_is_holm_over_all_guards_that_were_read(p_values: list[float], expected: tuple[str, ...]) -> None:
    readings = [reading(f"g{i}", harm=0.2, p=p) for i, p in enumerate(p_values)]

    assert policy.confirmed(readings, SETTINGS) == expected


def test_large_harm_that_is_not_shown_to_be_beyond_the_margin_is_not_confirmed() -> None:
    assert policy.confirmed([reading(harm=0.9, p=0.06, standard_error=0.5)], SETTINGS) == ()


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=4))
def test_conclusion_is_the_same_from_all_readings_and_from_the_confirmed_ones_alone(p_values: list[float]) -> None:
    readings = [reading(f"g{i}", harm=0.2, p=p) for i, p in enumerate(p_values)]
    names = policy.confirmed(readings, SETTINGS)
    alone = [one for one in readings if one.gate in names]

    (from_all,), (from_some,) = judged([readings]), judged([alone])

    assert (from_all.action, from_all.gates) == (from_some.action, from_some.gates)
    assert from_all.gates == names


# -------------------------------------------------------------------------------------------------------- decisions


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("....", "CCCC"),
        ("aaaa", "CCCC"),
        ("x...", "RCCC"),
        ("xx", "RS"),
        ("x.x", "RCS"),
        ("xax", "RCS"),
        ("x..x", "RCCR"),
        ("x..x.x", "RCCRCS"),
        ("xx.", "RSC"),
        ("xx.x", "RSCS"),
    ],
)
def test_training_stops_at_two_confirmed_of_the_last_three(course: str, expected: str) -> None:
    assert actions(course) == expected


@pytest.mark.parametrize(
    ("confirmations", "window", "course", "expected"),
    [(1, 1, ".x", "CS"), (3, 4, "xx.x", "RRCS"), (3, 3, "xx.xxx", "RRCRRS"), (2, 5, "x...x", "RCCCS")],
)
def test_patience_is_that_of_the_settings(confirmations: int, window: int, course: str, expected: str) -> None:
    settings = CourseConfig(confirmations=confirmations, window=window)

    assert actions(course, settings) == expected


def test_more_confirmations_than_the_window_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="confirmations must not exceed window, or nothing ever stops; got 4 of 3"):
        CourseConfig(confirmations=4)


@given(st.text(alphabet="xa.", max_size=30))
def test_no_course_stops_without_two_confirmed_of_three_the_last_one_among_them(course: str) -> None:
    for number, action in enumerate(actions(course)):
        recent = course[max(0, number - 2) : number + 1]
        assert (action == "S") == (course[number] == "x" and recent.count("x") >= 2)
        assert (action == "C") == (course[number] != "x")


def test_two_guards_that_are_confirmed_by_turns_stop_too() -> None:
    first, second = reading("prompt", harm=0.2, p=BEYOND), reading("anatomy", harm=0.2, p=BEYOND)

    decisions = judged([[first], [second]])

    assert [decision.action for decision in decisions] == [Action.REJECT, Action.STOP]
    assert decisions[1].gates == ("anatomy",)


def test_state_remembers_no_more_than_the_window() -> None:
    state = PolicyState()
    for look in ([reading(harm=0.2, p=BEYOND)], [], [reading(harm=0.09)], []):
        _, state = policy.conclude(training_step=1, alarmed=(), confirmed=look, state=state, settings=SETTINGS)

    assert state.confirmed == (False, False, False)


@pytest.mark.parametrize(
    ("harm", "standard_error", "caught"),
    [(0.6, 0.05, True), (0.41, 0.02, False), (0.46, 0.02, False), (0.48, 0.02, True), (0.401, 0.0, True)],
)
def test_one_look_is_enough_only_far_beyond_four_margins(harm: float, standard_error: float, caught: bool) -> None:
    """At 15 cases the level of two confirmations together, 0.0025, is 3.33 standard errors beyond 0.4."""
    (decision,) = judged([[reading(harm=harm, p=BEYOND, standard_error=standard_error)]])

    assert decision.action is (Action.STOP if caught else Action.REJECT)
    assert decision.reason is (Reason.CATASTROPHE if caught else Reason.CONFIRMED)


def test_catastrophe_needs_the_whole_interval_beyond_and_cases_to_speak_of() -> None:
    wide = reading(harm=0.6, p=BEYOND, low=0.39)
    single = reading(harm=0.6, p=BEYOND, n_cases=1)

    assert [judged([[one]])[0].reason for one in (wide, single)] == [Reason.CONFIRMED, Reason.CONFIRMED]


def test_catastrophe_needs_confirmation() -> None:
    (decision,) = judged([[reading(harm=0.6, p=0.2)]])

    assert decision.action is Action.CONTINUE


@pytest.mark.parametrize(
    ("metric", "low", "p", "action"),
    [
        ("copy_rate", 0.21, BEYOND, Action.STOP),
        ("copy_rate", 0.21, 0.2, Action.STOP),
        ("copy_rate", 0.20, BEYOND, Action.REJECT),
        ("composition_copy_rate", 0.21, BEYOND, Action.REJECT),
    ],
)
def test_copies_beyond_doubt_stop_at_once(metric: str, low: float, p: float, action: Action) -> None:
    look = reading("copy", metric=metric, harm=0.28, p=p, low=low, high=0.4, margin=0.1)

    (decision,) = judged([[look]])

    assert decision.action is action
    assert decision.gates == ("copy",)


# ------------------------------------------------------------------------------------------------------------ words


def test_healthy_checkpoint_is_told_so() -> None:
    (decision,) = judged([[]])

    assert decision.reason is Reason.HEALTHY
    assert decision.sentence == "No guard came near its margin. The checkpoint stands, training goes on."


def test_alarm_that_fresh_seeds_do_not_confirm_is_told_with_what_they_read() -> None:
    (decision,) = judged([[reading(harm=0.05)]])

    assert decision.reason is Reason.ALARM
    assert decision.gates == ()
    assert decision.sentence == (
        "The screen alarmed (prompt), but fresh seeds do not show harm beyond a margin: prompt reads +0.05 "
        "(0.0072 to 0.0928) against a margin of 0.1. The checkpoint stands, training goes on."
    )


def test_alarm_without_readings_to_tell_is_told_all_the_same() -> None:
    decision, _ = policy.conclude(
        training_step=1, alarmed=("prompt",), confirmed=(), state=PolicyState(), settings=SETTINGS
    )

    assert decision.reason is Reason.ALARM
    assert decision.sentence.startswith(
        "The screen alarmed (prompt), but fresh seeds do not show harm beyond a margin."
    )


def test_rejection_says_by_how_much_against_what_and_what_happens_next() -> None:
    (decision,) = judged([[reading(harm=0.2, p=BEYOND)]])

    assert decision.reason is Reason.CONFIRMED
    assert decision.gates == ("prompt",)
    assert decision.sentence == (
        "prompt is worse than the control by 0.2 (0.157 to 0.243) in prompt_score, where 0.1 is tolerated, confirmed "
        "on fresh seeds. This checkpoint is rejected, training goes on; it stops when 2 of 3 checkpoints in a row are "
        "confirmed, so far 1."
    )


def test_stop_says_how_often_it_was_confirmed() -> None:
    decision = judged([[reading(harm=0.2, p=BEYOND)], [], [reading(harm=0.2, p=BEYOND)]])[-1]

    assert decision.reason is Reason.PERSISTENT
    assert decision.training_step == 200
    assert decision.sentence.startswith("Stop: prompt is worse than the control by 0.2")
    assert "confirmed on fresh seeds at 2 of the last 3 checkpoints (2 of 3 are enough)" in decision.sentence


def test_catastrophe_says_which_limit_was_passed() -> None:
    (far,) = judged([[reading(harm=0.6, p=BEYOND)]])
    (copies,) = judged([[reading("copy", metric="copy_rate", harm=0.5, p=BEYOND, low=0.31)]])

    assert "beyond doubt (prompt: more than 4 margins, 0.4)" in far.sentence
    assert "beyond doubt (copy: at least 0.31 more copies, where 0.2 end it)" in copies.sentence


def test_dip_is_named_where_the_harm_does_not_show_again() -> None:
    decisions = judged([[reading(harm=0.2, p=BEYOND)], [], [], []])

    told = ["What an earlier checkpoint showed did not show again" in one.sentence for one in decisions]
    assert told == [False, True, True, False]


@pytest.mark.parametrize("look", [[reading(harm=0.2, p=BEYOND)], [reading(harm=0.6, p=BEYOND)]])
def test_settings_that_only_want_advice_never_stop_and_say_that_a_stop_was_advised(look: list[GuardReading]) -> None:
    settings = CourseConfig(stop=False)

    decisions = judged([look] * 5, settings)

    assert {decision.action for decision in decisions} == {Action.REJECT}
    assert all(decision.sentence.endswith("stop = false keeps the training going.") for decision in decisions[1:])
    assert decisions[1].reason in (Reason.PERSISTENT, Reason.CATASTROPHE)


# -------------------------------------------------------------------------------------------------------- hard stops


@pytest.mark.parametrize("reason", sorted(policy.HARD_REASONS))
def test_hard_reasons_stop_at_once_and_tell_the_detail(reason: Reason) -> None:
    decision = policy.hard_stop(reason, training_step=7, detail="loss is nan at training step 7.")

    assert (decision.action, decision.reason, decision.training_step) == (Action.STOP, reason, 7)
    assert decision.sentence.startswith("Stop: ")
    assert decision.sentence.endswith(": loss is nan at training step 7.")


def test_hard_stop_is_advice_where_the_settings_want_no_more() -> None:
    decision = policy.hard_stop(
        Reason.NOT_FINITE, training_step=7, detail="loss is nan", settings=CourseConfig(stop=False)
    )

    assert decision.action is Action.REJECT
    assert decision.reason is Reason.NOT_FINITE
    assert "A stop was advised" in decision.sentence


@pytest.mark.parametrize("reason", [Reason.HEALTHY, Reason.PERSISTENT])
def test_reasons_that_need_statistics_are_no_hard_reasons(reason: Reason) -> None:
    with pytest.raises(ValueError, match="a hard stop must have one of the reasons broken_pictures, dead_adapter"):
        policy.hard_stop(reason, training_step=0, detail="")
