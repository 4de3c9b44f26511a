from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lorabench.errors import SpecError
from lorabench.generation.base_files import BaseNotFoundError
from lorabench.generation.diffusers_backend import BaseLoadError
from lorabench.storage.shipped import shipped_data
from lorabench.training.guard_errors import LeftChangedError
from lorabench.training.proof import Proof, prove

BASE = shipped_data("fixtures/models/tiny-flux")
IDENTICAL = Proof(
    base="tiny",
    device="cpu",
    n_steps=12,
    n_evaluations=3,
    n_compared=100,
    repeated=(),
    watched=(),
    bare=("generator torch", "transformer.lora_A"),
    seconds=1.0,
)


def test_guarded_evaluations_leave_no_trace_on_the_embedded_base_and_unguarded_ones_do() -> None:
    told: list[str] = []
    proof = prove(BASE, device="cpu", n_steps=4, every=2, observe=told.append)

    assert proof.outcome == "identical"
    assert proof.n_evaluations == 2
    assert proof.n_compared > 500
    assert any(name.endswith("lorabench_proof.weight") for name in proof.bare)
    assert told[-1] == "training with unguarded evaluations, as a control"


@pytest.mark.gpu
def test_guarded_evaluations_leave_no_trace_on_a_gpu() -> None:
    assert prove(BASE, device="cuda", n_steps=6, every=2).outcome == "identical"


def test_evaluations_that_change_nothing_show_nothing() -> None:
    proof = prove(BASE, device="cpu", n_steps=3, every=1, evaluate=lambda _pipeline: None)

    assert proof.outcome == "not shown"
    assert proof.sentence == (
        "not shown: the evaluations change nothing even without the guard, so the comparison cannot fail."
    )


def test_an_evaluation_that_the_guard_finds_out_is_told() -> None:
    def casting(pipeline: Any) -> None:
        pipeline.vae.half()

    with pytest.raises(LeftChangedError, match=r"vae\.\S+ from torch\.float32"):
        prove(BASE, device="cpu", n_steps=3, every=1, evaluate=casting)


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({}, "identical", "bit-identical: 12 training steps with 3 evaluations end in the same weights, optimiser"),
        ({}, "identical", "(100 compared). Without the guard they differ in 2 places, first generator torch."),
        (
            {"watched": ("a",)},
            "disturbed",
            "disturbed: 12 training steps with 3 evaluations end elsewhere than without",
        ),
        ({"watched": ("a",)}, "disturbed", "in 1 place, first a."),
        (
            {"repeated": ("b",)},
            "not shown",
            "two trainings of 12 steps without any evaluation differ on cpu in 1 place",
        ),
        ({"repeated": ("b",), "watched": ("a",)}, "not shown", "its kernels are not deterministic"),
        ({"bare": ()}, "not shown", "so the comparison cannot fail"),
    ],
)
def test_the_outcome_needs_a_deterministic_device_and_a_control_that_differs(
    changes: dict[str, Any], outcome: str, words: str
) -> None:
    proof = dataclasses.replace(IDENTICAL, **changes)

    assert proof.outcome == outcome
    assert words in proof.sentence


def test_a_disturbance_must_have_time_to_show() -> None:
    with pytest.raises(ValueError, match="a disturbance shows in later steps; got 4 steps with evaluations every 4"):
        prove(BASE, n_steps=4, every=4)


def test_a_folder_without_a_base_is_refused(tmp_path: Any) -> None:
    with pytest.raises(BaseNotFoundError, match=r"no model_index\.json in it"):
        prove(tmp_path)
    assert issubclass(BaseNotFoundError, SpecError)


def test_a_base_that_does_not_load_is_refused(tmp_path: Any) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(BaseLoadError, match="must be loadable by diffusers; loading"):
        prove(tmp_path)
