"""Facts out of records: what is decided counts, what is not is told with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.diagnosis.facts import Facts, facts_of
from lorabench.diagnosis.reasoning import diagnose
from lorabench.generation.adapter import read_adapter
from lorabench.records.adapter_health import (
    AdapterHealth,
    AdapterVerdict,
    BaseMatch,
    BaseRelation,
    Examination,
    TrainedOn,
)
from lorabench.records.audit import Audit
from lorabench.records.comparison import Outcome
from lorabench.records.course import Course, Decision, Evaluation, GuardReading, Reason
from lorabench.records.measurement import Measurement
from lorabench.records.plan import Arm, Cell
from lorabench.records.results import Results
from lorabench.records.step_times import SlowCause, StepTimeChange, StepTimeFinding, StepTimeVerdict
from lorabench.storage.run_folder import read_results

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "diagnosis"


def sample(name: str) -> Results:
    """A real run of a shipped adapter on the screen suite, without pictures and numbers of single cells."""
    return read_results(SAMPLES / f"{name}.json")


def first_cause(name: str) -> str | None:
    causes = diagnose(facts_of(sample(name))).causes
    return causes[0].cause if causes else None


def test_shipped_adapters_get_the_cause_that_was_planted() -> None:
    assert first_cause("healthy") is None
    assert first_cause("overtrained") in {"over-trained", "uniform-pictures"}
    assert first_cause("palette") in {"captions-without-colours", "one-palette"}


def test_a_gate_that_decided_nothing_is_not_known() -> None:
    facts = facts_of(sample("palette"))

    assert facts.known["gate.palette"].value == "FAIL"
    assert "gate.copy" not in facts.known
    assert facts.unknown["gate.copy"].startswith("copy INCONCLUSIVE")
    assert facts.unknown["gate.composition"].startswith("composition UNMEASURED")


def test_harm_is_told_in_margins_and_quoted_with_its_numbers() -> None:
    facts = facts_of(sample("overtrained"))

    assert facts.known["harm.prompt"].value == pytest.approx(0.5631720430 / 0.1)
    assert "prompt_following_score -0.563 (-0.656 to -0.47) against the control" in facts.known["harm.prompt"].quote


def test_the_control_is_the_reference_of_a_metric_where_there_is_one() -> None:
    facts = facts_of(sample("overtrained"))

    assert "against the base" in facts.known["metric.clip_text_similarity"].quote
    assert "against the control" in facts.known["metric.prompt_following_score"].quote


def measured(arm: Arm, value: float, *, seed: int = 1) -> Measurement:
    scale = 1.0 if arm.uses_adapter else 0.0
    cell = Cell(arm=arm, case="a", seed=seed, scale=scale)
    return Measurement(cell=cell, metric="smooth_zone_sigma", metric_version=1, value=value)


def test_change_is_read_on_cells_that_both_arms_have() -> None:
    numbers = (
        measured(Arm.CANDIDATE, 3.0),
        measured(Arm.CANDIDATE, 90.0, seed=2),
        measured(Arm.CONTROL, 2.0),
    )

    facts = facts_of(sample("healthy").model_copy(update={"measurements": numbers}))

    assert facts.known["change.smooth_zone_sigma"].value == pytest.approx(1.5)


def test_a_change_from_nothing_is_not_told() -> None:
    numbers = (measured(Arm.CANDIDATE, 3.0), measured(Arm.CONTROL, 0.0))

    facts = facts_of(sample("healthy").model_copy(update={"measurements": numbers}))

    assert "change.smooth_zone_sigma" not in facts.known


def test_style_uptake_is_what_is_left_of_the_bleed() -> None:
    assert facts_of(sample("healthy")).known["run.style_uptake"].value == pytest.approx(1 - 0.057, abs=1e-3)


# -------------------------------------------------------------------------------------------- the other sources


def with_header(results: Results, **header: str) -> Results:
    assert results.candidate is not None
    candidate = results.candidate.model_copy(update={"metadata": header})
    return results.model_copy(update={"candidate": candidate})


def test_trainers_settings_are_read_from_the_header() -> None:
    facts = facts_of(
        with_header(
            sample("healthy"),
            ss_unet_lr="0.0004",
            ss_text_encoder_lr="[0.0001, 0.0001]",
            ss_guidance_scale="3.5",
            ss_num_train_images="20",
            ss_steps="2000",
            ss_total_batch_size="4",
        )
    )

    assert facts.known["adapter.learning_rate"].value == 0.0004
    assert facts.known["adapter.text_encoder_lr_share"].value == pytest.approx(0.25)
    assert facts.known["adapter.training_guidance"].value == 3.5
    assert facts.known["adapter.views_per_picture"].value == pytest.approx(400)
    assert facts.known["adapter.rank"].value == 8


def test_a_rate_that_the_optimiser_chooses_itself_is_not_told() -> None:
    facts = facts_of(with_header(sample("healthy"), ss_unet_lr="1.0", ss_optimizer="prodigyopt.prodigy.Prodigy"))

    assert "adapter.learning_rate" not in facts.known


HEADER = {
    "ss_unet_lr": "1e-4",
    "ss_optimizer": "torch.optim.adamw.AdamW",
    "ss_steps": "6000",
    "ss_max_train_steps": "6000",
    "ss_batch_size_per_device": "2",
    "ss_num_train_images": "240",
    "ss_dataset_dirs": '{"12_set": {"n_repeats": 12, "img_count": 20}}',
}
"""A training of sd-scripts: 20 pictures, each repeated 12 times an epoch."""


def after_training(tmp_path: Path, results: Results, **changed: str) -> Results:
    """A run of a file with a trainer's header: no course and no file are given beside it."""
    path = tmp_path / "adapter.safetensors"
    rng = np.random.default_rng(0)
    tensors = {
        "transformer.blocks.0.to_q.lora_A.weight": rng.normal(size=(8, 64)).astype(np.float32),
        "transformer.blocks.0.to_q.lora_B.weight": rng.normal(size=(64, 8)).astype(np.float32),
        "transformer.blocks.0.to_q.alpha": np.array(8.0, dtype=np.float32),
    }
    save_file(tensors, path, metadata={**HEADER, **changed})
    return results.model_copy(update={"candidate": read_adapter(path).info})


def with_outcomes(results: Results, **outcomes: Outcome) -> Results:
    """Only these gates, decided so."""
    gate = results.gates[0]
    gates = tuple(
        gate.model_copy(update={"gate": name.replace("_", "-"), "outcome": found, "comparison": None})
        for name, found in outcomes.items()
    )
    return results.model_copy(update={"gates": gates, "comparisons": (), "set_measurements": ()})


def test_settings_of_the_files_header_are_known_without_course_and_without_the_file(tmp_path: Path) -> None:
    facts = facts_of(after_training(tmp_path, sample("healthy"), ss_steps="1500")).known

    assert facts["adapter.learning_rate"].value == 1e-4
    assert facts["adapter.learning_rate"].quote == "learning rate 0.0001 (torch.optim.adamw.AdamW)"
    assert facts["adapter.planned_share"].value == pytest.approx(0.25)
    assert facts["adapter.planned_share"].quote == "step 1500 of 6000 that were planned"
    assert facts["adapter.n_training_pictures"].value == 20, "repeats are no pictures"
    assert facts["adapter.views_per_picture"].value == pytest.approx(1500 * 2 / 20)


def test_every_second_picture_is_another_where_regularising_ones_were_mixed_in(tmp_path: Path) -> None:
    facts = facts_of(after_training(tmp_path, sample("healthy"), ss_num_reg_images="500")).known

    assert facts["adapter.views_per_picture"].value == pytest.approx(6000 * 2 / 20 / 2)


def test_accumulation_counts_once(tmp_path: Path) -> None:
    accumulated = {"ss_gradient_accumulation_steps": "3"}
    apart = facts_of(after_training(tmp_path, sample("healthy"), **accumulated))
    total = facts_of(after_training(tmp_path, sample("healthy"), **accumulated, ss_total_batch_size="6"))

    for facts in (apart, total):
        assert facts.known["adapter.views_per_picture"].value == pytest.approx(6000 * 6 / 20)


@pytest.mark.parametrize(
    ("outcomes", "header", "cause", "quoted"),
    [
        ({"copy": Outcome.FAIL, "prompt": Outcome.FAIL}, {}, "over-trained", "each picture shown 600 times"),
        ({"broken": Outcome.FAIL, "prompt": Outcome.FAIL}, {"ss_unet_lr": "2e-3"}, "learning-rate-too-high", "0.002"),
        ({"trigger": Outcome.FAIL}, {"ss_unet_lr": "1e-5"}, "learning-rate-too-low", "learning rate 1e-05"),
        (
            {"trigger": Outcome.FAIL},
            {"ss_steps": "200"},
            "under-trained",
            "each picture shown 20 times (200 steps of 2, 20 pictures)",
        ),
    ],
)
def test_a_cause_is_named_from_the_header_where_the_run_has_no_history(
    outcomes: dict[str, Outcome], header: dict[str, str], cause: str, quoted: str, tmp_path: Path
) -> None:
    results = with_outcomes(after_training(tmp_path, sample("healthy"), **header), **outcomes)
    without = with_outcomes(sample("healthy"), **outcomes)

    first = diagnose(facts_of(results)).causes[0]
    before = {one.cause: one.score for one in diagnose(facts_of(without)).causes}

    assert first.cause == cause
    assert quoted in " ".join(found.fact.quote for found in first.supporting)
    assert first.score > before.get(cause, 0.0), "the header is what decides"


def test_nothing_stands_for_settings_that_are_missing() -> None:
    facts = facts_of(with_header(sample("healthy"), ss_unet_lr="None"))

    assert "adapter.learning_rate" not in facts.known
    assert "adapter.views_per_picture" not in facts.known


def test_an_examination_says_health_and_base() -> None:
    match = BaseMatch(relation=BaseRelation.OTHER_FAMILY, trained_on=TrainedOn(family="sdxl"), sentence="for sdxl")
    health = AdapterHealth(
        verdict=AdapterVerdict.PARTIAL, reasons=("half is zero",), n_modules=10, n_zero=5, zero_share=0.5
    )

    facts = facts_of(sample("healthy"), examination=Examination(name="x", health=health, base_match=match))

    assert facts.known["adapter.health"].value == "partial"
    assert facts.known["adapter.health"].quote == "the file is partial: half is zero"
    assert facts.known["adapter.base_fits"].value == "no"


def checkpoint(training_step: int, harm: float, **signals: float) -> Evaluation:
    reading = GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=harm,
        standard_error=0.01,
        margin=0.1,
        n_cases=10,
        low=harm - 0.05,
        high=harm + 0.05,
        p_beyond_margin=0.5,
    )
    decision = Decision(sentence="Go on.", training_step=training_step)
    return Evaluation(training_step=training_step, screen=(reading,), signals=signals, decision=decision)


def test_a_course_says_when_harm_set_in_and_whether_it_grows() -> None:
    course = Course(
        identity="x",
        best=100,
        evaluations=(
            checkpoint(0, 0.0),
            checkpoint(100, 0.02, loss_gap=0.01, style=0.4),
            checkpoint(200, 0.05, loss_gap=0.05, style=0.7),
            checkpoint(300, 0.30, loss_gap=0.2, style=0.9),
        ),
    )

    facts = facts_of(sample("overtrained"), course=course).known

    assert facts["course.first_harm"].value == pytest.approx(0.2)
    assert facts["course.harm_rise"].value == pytest.approx(2.8)
    assert facts["course.within_share"].value == pytest.approx(2 / 3)
    assert facts["course.best_share"].value == pytest.approx(1 / 3)
    assert facts["course.gap_rise"].value == pytest.approx(0.19)
    assert facts["course.style_rise"].value == pytest.approx(0.2)
    assert facts["course.not_finite"].value == "no"
    assert "course.held_out_rise" not in facts


def test_a_course_that_ended_in_nan_says_so() -> None:
    last = checkpoint(100, 0.0)
    last = last.model_copy(update={"decision": last.decision.model_copy(update={"reason": Reason.NOT_FINITE})})

    facts = facts_of(sample("healthy"), course=Course(identity="x", evaluations=(last,))).known

    assert facts["course.not_finite"].value == "yes"
    assert facts["course.not_finite"].quote == "numbers were not finite at step 100"


def test_slow_steps_are_told_with_what_is_seen() -> None:
    cause = SlowCause(name="memory", seen=True, sentence="Memory is full.")
    finding = StepTimeFinding(verdict=StepTimeVerdict.SLOW, sentence="9 s a step.", ratio=4.5, causes=(cause,))

    facts = facts_of(sample("healthy"), step_time=finding)

    assert facts.known["course.step_time"].quote == "9 s a step. Memory is full."
    assert diagnose(facts).causes[0].cause == "step-time"


def test_step_times_are_quoted_with_their_numbers() -> None:
    change = StepTimeChange(training_step=300, before=1.0, after=3.2, ratio=3.2)
    finding = StepTimeFinding(verdict=StepTimeVerdict.SLOWING, sentence="3.2 s a step.", ratio=4.5, change=change)

    facts = facts_of(sample("healthy"), step_time=finding).known

    assert facts["course.step_time_ratio"].quote == "steps take 4.5 times the slowest usual time"
    assert facts["course.step_time_rise"].quote == "steps took 1 s before step 300, 3.2 s from there"


def audit_with(**facts: float) -> Audit:
    return Audit(folder="set", pictures=(), facts=facts, unmeasured={"lettering_share": "no reader"})


def test_an_audit_changes_which_cause_comes_first() -> None:
    results = sample("overtrained")
    alike = audit_with(composition_cluster_share=0.9, n_different=16.0, duplicate_share=0.0)
    varied = audit_with(composition_cluster_share=0.1, n_different=40.0, duplicate_share=0.0)

    assert diagnose(facts_of(results, audit=alike)).causes[0].cause == "uniform-pictures"
    assert diagnose(facts_of(results, audit=varied)).causes[0].cause == "over-trained"
    assert facts_of(results, audit=alike).unknown["audit.lettering_share"] == "no reader"
    assert facts_of(results, audit=alike).sources == ("run", "adapter", "audit")


def test_a_fail_of_a_family_counts_where_the_pooled_gate_decided_nothing() -> None:
    results = sample("healthy")
    gate = next(one for one in results.gates if one.gate == "prompt")
    mixed = (
        gate.model_copy(update={"outcome": Outcome.INCONCLUSIVE}),
        gate.model_copy(update={"outcome": Outcome.FAIL, "family": "spatial"}),
    )

    facts: Facts = facts_of(results.model_copy(update={"gates": mixed}))

    assert facts.known["gate.prompt"].value == "FAIL"
    assert "gate.prompt" not in facts.unknown
