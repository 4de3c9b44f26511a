"""Slow trainings are found: by a rise within the training without any table, and by figures where there are some."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.records.course import Course, Decision, Evaluation
from lorabench.records.step_times import StepTimeFigure, StepTimes, StepTimeVerdict, TrainingSetup
from lorabench.training.step_times import (
    MAX_BLOCKS,
    StepTimeTrack,
    evaluation_share,
    expected_figure,
    find_rise,
    setup_from_header,
    shipped_figures,
    slow_causes,
    step_time_finding,
)

SDXL = TrainingSetup(gpu="NVIDIA GeForce RTX 3090", family="sdxl", resolution=1024, batch_size=1, system="linux")


def times(seconds: np.ndarray | list[float]) -> StepTimes:
    track = StepTimeTrack()
    for step, one in enumerate(seconds, start=1):
        track.add(step, float(one))
    found = track.record()
    assert found is not None
    return found


def noisy(level: float, n: int, *, seed: int = 0, spread: float = 0.05) -> np.ndarray:
    return level * np.exp(spread * np.random.default_rng(seed).normal(size=n))


def course(seconds: np.ndarray | list[float], *, setup: TrainingSetup | None = None, looks: float = 0.0) -> Course:
    judged = Evaluation(training_step=10, seconds=looks, decision=Decision(sentence="-", training_step=10))
    return Course(identity="x", evaluations=(judged,), step_times=times(seconds), setup=setup)


def test_median_and_quartiles_are_those_of_the_steps() -> None:
    found = times([1.0, 2.0, 3.0, 4.0] * 50)

    assert (found.n_steps, found.median, found.low, found.high) == (200, 2.5, 1.75, 3.25)


def test_blocks_stay_bounded_and_keep_every_step() -> None:
    found = times(noisy(1.0, 20_000))

    assert len(found.blocks) < MAX_BLOCKS
    assert found.n_steps == sum(block.n for block in found.blocks) > 19_500
    assert found.median == pytest.approx(1.0, rel=0.02)


def test_a_training_that_goes_on_goes_on_from_what_was_recorded() -> None:
    seconds = noisy(1.0, 400)
    half = StepTimeTrack(times(seconds[:200]))
    for step, one in enumerate(seconds[200:], start=201):
        half.add(step, float(one))

    assert half.record() == times(seconds)


def test_steps_after_a_set_back_are_forgotten() -> None:
    track = StepTimeTrack()
    for step in range(1, 81):
        track.add(step, 9.0 if step > 40 else 1.0)
    for step in range(41, 81):
        track.add(step, 1.0)

    found = track.record()

    assert found is not None
    assert {block.median for block in found.blocks} == {1.0}


def test_times_that_cannot_be_are_left_out() -> None:
    track = StepTimeTrack()
    for step, seconds in enumerate([1.0, float("nan"), float("inf"), -1.0, 1.0, 1.0, 1.0], start=1):
        track.add(step, seconds)

    found = track.record()

    assert found is not None
    assert found.n_steps == 4


@pytest.mark.parametrize("at", [40, 200, 400, 560])
def test_a_doubled_step_time_is_found_where_it_began(at: int) -> None:
    seconds = np.concatenate([noisy(1.0, at), noisy(2.0, 600 - at, seed=1)])

    found = find_rise(times(seconds).blocks)

    assert found is not None
    assert found.training_step == pytest.approx(at, abs=12)
    assert found.ratio == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_training_with_spikes_has_no_rise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = noisy(1.0, 800, seed=seed, spread=0.15)
    seconds[rng.random(800) < 0.05] *= 8.0  # checkpoints being written
    seconds[:3] = 60.0  # compiled at the first steps

    assert find_rise(times(seconds).blocks) is None


def test_a_slow_creep_of_a_tenth_is_none_and_getting_faster_is_none() -> None:
    assert find_rise(times(noisy(1.0, 400) * np.linspace(1.0, 1.1, 400)).blocks) is None
    assert find_rise(times(np.concatenate([noisy(2.0, 200), noisy(1.0, 200)])).blocks) is None


def test_buckets_of_two_resolutions_are_no_rise() -> None:
    pattern = np.tile([1.0] * 6 + [2.2] * 4, 60)

    assert find_rise(times(pattern).blocks) is None


def test_too_few_steps_say_nothing_of_a_rise() -> None:
    assert find_rise(times([1.0] * 12 + [5.0] * 12).blocks) is None


def test_slowing_is_said_without_any_figure() -> None:
    setup = TrainingSetup(gpu="NVIDIA L4", system="win32")

    found = step_time_finding(course(np.concatenate([noisy(1.0, 300), noisy(3.0, 300)]), setup=setup))

    assert found is not None
    assert found.verdict is StepTimeVerdict.SLOWING
    assert found.ratio is None
    assert "times as long" in found.sentence
    assert "No figure" in found.sentence
    assert [one.name for one in found.causes] == ["memory_spill", "heat", "shared_device", "data_loading"]
    assert "system memory fallback" in found.causes[0].sentence


def test_slow_against_what_others_measured_names_the_settings_that_are_seen() -> None:
    setup = SDXL.model_copy(update={"mixed_precision": "no", "latents_cached": False, "gradient_checkpointing": True})

    found = step_time_finding(course(noisy(5.6, 200), setup=setup))

    assert found is not None
    assert found.verdict is StepTimeVerdict.SLOW
    assert found.ratio == pytest.approx(5.6 / 1.4, rel=0.02)
    assert "kohya_ss/issues/1288" in found.sentence
    seen = [one.name for one in found.causes if one.seen]
    assert seen == ["precision", "checkpointing", "latents"]
    assert [one.seen for one in found.causes] == sorted((one.seen for one in found.causes), reverse=True)


def test_usual_time_is_usual_and_names_no_cause() -> None:
    found = step_time_finding(course(noisy(1.3, 200), setup=SDXL))

    assert found is not None
    assert (found.verdict, found.causes) == (StepTimeVerdict.USUAL, ())


def test_unknown_device_is_unknown_and_never_usual() -> None:
    for setup in (None, SDXL.model_copy(update={"gpu": "NVIDIA H200"}), SDXL.model_copy(update={"batch_size": None})):
        found = step_time_finding(course(noisy(99.0, 200), setup=setup))
        assert found is not None
        assert found.verdict is StepTimeVerdict.UNKNOWN
        assert found.ratio is None


def test_a_course_without_step_times_has_no_finding() -> None:
    assert step_time_finding(Course(identity="x")) is None


def test_evaluations_that_take_their_toll_are_named() -> None:
    slow = course([1.0] * 100, looks=50.0)

    found = step_time_finding(slow)

    assert evaluation_share(slow) == pytest.approx(0.5)
    assert found is not None
    assert found.causes[0].name == "evaluations"
    assert "Evaluations take 50% of the training's time" in found.causes[0].sentence


def test_settings_that_are_right_are_no_cause() -> None:
    setup = SDXL.model_copy(
        update={
            "mixed_precision": "bf16",
            "gradient_checkpointing": False,
            "latents_cached": True,
            "text_encoder_cached": True,
            "offloaded": False,
            "attention": "sdpa",
            "memory_used_share": 0.8,
        }
    )

    assert [(one.name, one.seen) for one in slow_causes(setup, rose=False)] == [("data_loading", False)]


@pytest.mark.parametrize(
    ("name", "shown", "words"),
    [
        ("cpu", {"gpu": "cpu"}, "The training runs on the CPU: check that the launcher was given the GPU."),
        (
            "precision",
            {"mixed_precision": "no"},
            "Mixed precision is off: float32 takes about twice as long; use bf16.",
        ),
        ("checkpointing", {"gradient_checkpointing": True}, "Gradient checkpointing runs every block forward twice"),
        ("text_encoder", {"text_encoder_cached": False}, "Captions are encoded anew at every step"),
        ("latents", {"latents_cached": False}, "Pictures are encoded anew at every step: cache the latents."),
        ("offload", {"offloaded": True}, "Weights move between host and device: keep them on the device."),
        ("attention", {"attention": "plain"}, "Attention is computed without a fused kernel: use sdpa or xformers."),
        ("memory_spill", {"memory_used_share": 0.99}, "Lower rank, batch size or resolution, or quantise the base."),
        ("data_loading", {"dataloader_workers": 0}, "Pictures may be read too slowly: raise the loader's workers"),
    ],
)
def test_a_cause_that_the_setup_shows_is_seen_and_says_what_to_do(name: str, shown: dict[str, Any], words: str) -> None:
    (cause,) = (one for one in slow_causes(TrainingSetup(**shown), rose=False) if one.name == name)
    (unknown,) = (one for one in slow_causes(TrainingSetup(), rose=False) if one.name == name)

    assert cause.seen
    assert words in cause.sentence
    assert not unknown.seen, "where nothing is known it is to be looked for"


def test_after_a_rise_heat_and_other_processes_are_to_be_looked_for() -> None:
    sentences = " ".join(one.sentence for one in slow_causes(TrainingSetup(), rose=True))

    assert "The device may be too hot and run slower: look at its temperature and clock." in sentences
    assert "Another process may have started on the device: look who uses it." in sentences


def test_a_finding_says_the_time_and_what_it_could_not_be_compared_with() -> None:
    found = step_time_finding(course([2.0] * 40))

    assert found is not None
    assert found.sentence == (
        "A step takes 2 s (quartiles 2 to 2, 40 steps). "
        "No figure for this family, device, resolution and batch size is known to compare it with."
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA GeForce RTX 3090", True),
        ("NVIDIA GeForce RTX 3090 Ti", True),
        ("NVIDIA GeForce RTX 3090 Laptop GPU", False),
        ("NVIDIA GeForce RTX 3080", False),
        ("NVIDIA RTX 4090 D", False),
    ],
)
def test_figures_hold_for_their_own_device_only(name: str, known: bool) -> None:
    assert (expected_figure(SDXL.model_copy(update={"gpu": name})) is not None) is known


def test_every_shipped_figure_has_a_source_and_a_range() -> None:
    figures = shipped_figures()

    assert len(figures) >= 5
    for one in figures:
        assert one.source.startswith("https://")
        assert one.seconds[0] < one.seconds[1]
        assert one.conditions


def test_the_page_lists_every_figure_with_its_source() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "step-times.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"^\| `\w+` \|", line)]

    assert [row[:6] for row in rows] == [
        [
            f"`{one.family}`",
            one.gpu,
            str(one.resolution),
            str(one.batch_size),
            f"{one.seconds[0]:g} to {one.seconds[1]:g}",
            one.conditions,
        ]
        for one in shipped_figures()
    ]
    assert all(
        url in row[6] for row, one in zip(rows, shipped_figures(), strict=True) for url in one.source.split(" and ")
    )


@pytest.mark.parametrize(
    ("setup", "slowest"),
    [
        (TrainingSetup(gpu="NVIDIA H100 80GB HBM3", family="flux", resolution=627, batch_size=1), 1.8),
        (TrainingSetup(gpu="NVIDIA GeForce RTX 4090", family="flux", resolution=640, batch_size=4), 3.6),
        (TrainingSetup(gpu="NVIDIA GeForce RTX 2080 Ti", family="sd15", resolution=512, batch_size=4), 1.3),
        (TrainingSetup(gpu="NVIDIA GeForce RTX 2080", family="sd15", resolution=512, batch_size=4), None),
        (TrainingSetup(gpu="NVIDIA L40S", family="flux2", resolution=512, batch_size=2), None),
    ],
)
def test_figures_of_several_families_and_device_classes(setup: TrainingSetup, slowest: float | None) -> None:
    found = expected_figure(setup)

    assert (None if found is None else found.seconds[1]) == slowest


def test_stated_figures_replace_the_shipped_ones() -> None:
    own = StepTimeFigure(
        family="flux", gpu="H200", resolution=512, seconds=(0.2, 0.4), conditions="own", source="https://example.org"
    )
    setup = TrainingSetup(gpu="NVIDIA H200", family="flux", resolution=512, batch_size=1)

    found = step_time_finding(course(noisy(1.0, 100), setup=setup), figures=[own])

    assert found is not None
    assert found.verdict is StepTimeVerdict.SLOW


def test_header_of_sd_scripts_says_size_batch_and_settings() -> None:
    header = {
        "ss_resolution": "(768, 1365)",
        "ss_batch_size_per_device": "2",
        "ss_gradient_accumulation_steps": "2",
        "ss_mixed_precision": "bf16",
        "ss_gradient_checkpointing": "True",
        "ss_cache_latents": "False",
    }

    found = setup_from_header(header, TrainingSetup(gpu="NVIDIA A40", mixed_precision="no"))

    assert (found.resolution, found.batch_size, found.mixed_precision) == (1024, 4, "no")
    assert (found.gradient_checkpointing, found.latents_cached, found.gpu) == (True, False, "NVIDIA A40")
    assert setup_from_header({**header, "ss_total_batch_size": "4"}).batch_size == 4, "the total holds the accumulation"
    assert setup_from_header({}) == TrainingSetup()
