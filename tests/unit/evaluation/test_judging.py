import numpy as np
import pytest

from lorabench.evaluation.comparing import compare
from lorabench.evaluation.gates import DEFAULT_GATES, Gate
from lorabench.evaluation.judging import conclude, judge
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm

GATES = {gate.name: gate for gate in DEFAULT_GATES}
UNITS = {"prompt_following_score": (True, "share"), "photo_bleed": (False, "position")}


def comparison(gate: Gate, by_case, *, reference: str = "B1", same_pictures: bool = False) -> Comparison:
    higher, unit = UNITS.get(gate.metric, (not gate.metric.endswith("_rate"), "share"))
    metric = Metric(name=gate.metric, version=1, higher_is_better=higher, unit=unit)
    found = compare(
        metric,
        {(f"case-{n:02d}", 7): value for n, value in enumerate(by_case)},
        {(f"case-{n:02d}", 7): 0.0 for n in range(len(by_case))},
        candidate_arm=Arm.CANDIDATE,
        reference_name=reference,
        family=None,
        confidence_level=0.95,
        support=gate.support,
        same_pictures=same_pictures,
    )
    assert isinstance(found, Comparison), found
    return found


def around(mean: float, *, n: int = 12, spread: float = 0.02) -> list[float]:
    return [mean + spread * (1 if index % 2 else -1) for index in range(n)]


def judged(*pairs: tuple[Gate, Comparison | Unmeasured]) -> tuple[Verdict, ...]:
    return judge([gate for gate, _ in pairs], {gate.name: found for gate, found in pairs}, significance_level=0.05)


def concluded(*pairs: tuple[Gate, Comparison | Unmeasured], missing: str | None = None, identical: bool = False):
    verdicts = judged(*pairs)
    gates = [gate for gate, _ in pairs]
    return conclude(verdicts, gates, complete=missing is None, missing=missing, identical=identical)


def unmeasured(gate: Gate) -> Unmeasured:
    return Unmeasured(metric=gate.metric, reason="no detector is configured")


PROMPT, ANATOMY, BROKEN, FOILS = GATES["prompt"], GATES["anatomy"], GATES["broken"], GATES["foils"]
PASSING, FAILING, OPEN = around(0.0), around(-0.5), around(-0.08, n=4, spread=0.2)


def test_within_the_margin_is_a_pass() -> None:
    (verdict,) = judged((PROMPT, comparison(PROMPT, PASSING)))

    assert verdict.outcome is Outcome.PASS
    assert verdict.reason.startswith("prompt: no worse than the margin. prompt_following_score +0.000 share [-0.")
    assert verdict.reason.endswith("against the control, margin 0.1, 12 cases.")
    assert verdict.cases_needed is None


def test_shown_to_be_worse_by_more_than_the_margin_is_a_fail() -> None:
    (verdict,) = judged((PROMPT, comparison(PROMPT, FAILING)))

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("prompt: prompts are followed less. prompt_following_score -0.500 share [")


def test_shown_to_be_worse_by_less_than_the_margin_is_no_fail() -> None:
    (verdict,) = judged((PROMPT, comparison(PROMPT, around(-0.05, n=30))))

    assert verdict.comparison is not None
    assert verdict.comparison.p_harm < 0.001
    assert verdict.outcome is Outcome.PASS


def test_neither_is_inconclusive_and_says_how_many_more_cases_would_decide() -> None:
    (verdict,) = judged((PROMPT, comparison(PROMPT, OPEN)))

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.cases_needed is not None
    assert verdict.reason.startswith(f"prompt: not decided; about {verdict.cases_needed} more cases would decide. ")


def test_estimate_on_the_margin_would_never_be_decided() -> None:
    gate = Gate("prompt", "prompt", "prompt_following_score", 0.125, "prompts are followed less")
    (verdict,) = judged((gate, comparison(gate, [-0.25, 0.0, -0.25, 0.0])))

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "not decided; the estimate lies on the margin" in verdict.reason


def test_metric_that_is_better_low_fails_upwards() -> None:
    bleed = GATES["photo-bleed"]
    verdicts = [
        judged((bleed, comparison(bleed, values, reference="training")))[0] for values in (around(0.9), around(-0.9))
    ]

    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAIL, Outcome.PASS]
    assert "against the training pictures" in verdicts[0].reason


def test_holm_adjusts_within_primary_and_within_style_gates_apart() -> None:
    copy, palette = GATES["copy"], GATES["palette"]
    verdicts = judged(
        (copy, comparison(copy, [0.0] * 8)),
        (PROMPT, comparison(PROMPT, around(-0.3, n=5, spread=0.25))),
        (ANATOMY, comparison(ANATOMY, [0.0] * 8)),
        (palette, comparison(palette, around(-0.3, n=5, spread=0.25))),
    )
    by_gate = {verdict.gate: verdict for verdict in verdicts}
    raw = by_gate["prompt"].comparison.p_harm

    assert by_gate["prompt"].p_adjusted == pytest.approx(3 * raw)
    assert by_gate["palette"].p_adjusted == pytest.approx(raw)
    assert 0.05 / 3 < raw <= 0.05
    assert by_gate["prompt"].outcome is Outcome.INCONCLUSIVE
    assert by_gate["palette"].outcome is Outcome.FAIL
    assert (by_gate["prompt"].primary, by_gate["palette"].primary) == (True, False)


def test_unmeasured_gates_cost_the_others_nothing() -> None:
    verdicts = judged((PROMPT, comparison(PROMPT, OPEN)), (ANATOMY, unmeasured(ANATOMY)))

    assert verdicts[0].p_adjusted == pytest.approx(verdicts[0].comparison.p_harm)
    assert verdicts[1].p_adjusted is None


def test_unmeasured_gate_carries_its_reason() -> None:
    (verdict,) = judged((PROMPT, unmeasured(PROMPT)))

    assert verdict.outcome is Outcome.UNMEASURED
    assert verdict.reason == "prompt: not measured. no detector is configured"
    assert verdict.comparison is None


def test_hard_gate_fails_on_one_case_and_knows_no_inconclusive() -> None:
    worse = judged((BROKEN, comparison(BROKEN, [0.5, *[0.0] * 11])))[0]
    even = judged((BROKEN, comparison(BROKEN, [0.0, 0.0])))[0]
    better = judged((BROKEN, comparison(BROKEN, [-1.0, 0.0, 0.0])))[0]

    assert [one.outcome for one in (worse, even, better)] == [Outcome.FAIL, Outcome.PASS, Outcome.PASS]
    assert worse.reason == "broken: 1 of 12 cases have broken pictures where their control has none."
    assert worse.p_adjusted is None


def test_hard_gate_against_a_baseline_names_the_baseline() -> None:
    gate = Gate("broken-baseline", "broken", "broken_rate", 0.01, "broken", hard=True, against="baseline")
    found = comparison(gate, [1.0, 0.0], reference="baseline")

    assert judged((gate, found))[0].reason == (
        "broken-baseline: 1 of 2 cases have broken pictures where the baseline has none."
    )


def test_identical_pictures_say_so() -> None:
    (verdict,) = judged((PROMPT, comparison(PROMPT, [0.0] * 5, same_pictures=True)))

    assert verdict.outcome is Outcome.PASS
    assert verdict.reason == "prompt: identical; every pair is exactly equal (5 cases)."


def test_all_gates_passed_is_a_pass_with_code_0() -> None:
    run = concluded((PROMPT, comparison(PROMPT, PASSING)), (BROKEN, comparison(BROKEN, [0.0] * 12)))

    assert (run.outcome, run.exit_code) == (Outcome.PASS, 0)
    assert run.headline == "No worse than the base within every margin, on 2 gates."
    assert run.reasons == ()


def test_failed_gates_are_named_by_what_they_mean() -> None:
    run = concluded((BROKEN, comparison(BROKEN, [1.0, 0.0])), (PROMPT, comparison(PROMPT, FAILING)))

    assert (run.outcome, run.exit_code) == (Outcome.FAIL, 1)
    assert run.headline == "Worse than the base: pictures are broken; prompts are followed less."
    assert [reason.split(":")[0] for reason in run.reasons] == ["broken", "prompt"]


def test_inconclusive_gate_needs_more_cases() -> None:
    run = concluded((PROMPT, comparison(PROMPT, OPEN)), (BROKEN, comparison(BROKEN, [0.0] * 4)))

    assert (run.outcome, run.exit_code) == (Outcome.INCONCLUSIVE, 4)
    assert run.headline == "Not decided: more cases are needed for prompt."


def test_required_gate_without_number_gives_no_verdict() -> None:
    run = concluded((PROMPT, unmeasured(PROMPT)), (BROKEN, comparison(BROKEN, [0.0] * 4)))

    assert (run.outcome, run.exit_code) == (Outcome.UNMEASURED, 3)
    assert run.headline == "No verdict: prompt could not be measured."


def test_gate_that_is_not_required_may_stay_unmeasured() -> None:
    run = concluded((FOILS, unmeasured(FOILS)), (BROKEN, comparison(BROKEN, [0.0] * 4)))

    assert (run.outcome, run.exit_code) == (Outcome.PASS, 0)
    assert run.headline.endswith("on 1 gates.")


def test_run_without_any_decision_is_no_pass() -> None:
    run = concluded((FOILS, unmeasured(FOILS)))

    assert (run.outcome, run.exit_code) == (Outcome.UNMEASURED, 3)
    assert run.headline == "No verdict: no gate could be measured."


@pytest.mark.parametrize(
    ("failed", "blind", "undecided", "missing", "code"),
    [
        (True, True, True, "2 of 5 cases", 3),
        (True, False, True, "2 of 5 cases", 5),
        (True, False, True, None, 1),
        (False, False, True, None, 4),
        (False, False, False, "2 of 5 cases", 5),
        (False, True, False, None, 3),
        (False, False, False, None, 0),
    ],
)
def test_exit_codes_take_precedence_3_5_1_4(failed, blind, undecided, missing, code) -> None:
    run = concluded(
        (BROKEN, comparison(BROKEN, [1.0 if failed else 0.0, 0.0])),
        (ANATOMY, unmeasured(ANATOMY) if blind else comparison(ANATOMY, [0.0] * 60)),
        (PROMPT, comparison(PROMPT, OPEN if undecided else PASSING)),
        missing=missing,
    )

    assert run.exit_code == code
    assert run.complete is (missing is None)
    if missing is not None:
        assert run.headline.startswith("Incomplete (2 of 5 cases). ")


def test_candidate_identical_to_its_control_passes_whatever_could_not_be_measured() -> None:
    run = concluded(
        (PROMPT, comparison(PROMPT, [0.0] * 5, same_pictures=True)), (ANATOMY, unmeasured(ANATOMY)), identical=True
    )

    assert (run.outcome, run.exit_code, run.identical) == (Outcome.PASS, 0, True)
    assert run.headline == "Identical to the base: every picture is bit-equal to its control."
    assert run.reasons == ()


def test_candidate_identical_to_its_control_can_still_be_worse_than_the_baseline() -> None:
    gate = Gate("prompt-baseline", "prompt", PROMPT.metric, 0.1, "prompts are followed less", against="baseline")

    run = concluded(
        (PROMPT, comparison(PROMPT, [0.0] * 12, same_pictures=True)),
        (gate, comparison(gate, FAILING, reference="baseline")),
        identical=True,
    )

    assert (run.outcome, run.exit_code) == (Outcome.FAIL, 1)
    assert run.headline == "Worse than the baseline: prompts are followed less."


def test_verdict_does_not_depend_on_the_order_of_cases() -> None:
    values = np.linspace(-0.3, 0.1, 9).tolist()
    forth, back = (judged((PROMPT, comparison(PROMPT, order)))[0] for order in (values, values[::-1]))

    assert forth.outcome is back.outcome
    assert forth.comparison.low == pytest.approx(back.comparison.low)
