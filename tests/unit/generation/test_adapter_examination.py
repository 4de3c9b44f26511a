"""Dead, partial and exploding files are told from healthy ones, in every layout, with and without the base."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorabench.generation.adapter import read_adapter
from lorabench.generation.adapter_examination import (
    DEAD_BELOW,
    EXPLODING_FROM,
    RUNAWAY_FROM,
    blocks_chosen_by,
    examine_file,
    judge_health,
)
from lorabench.generation.base_weights import open_base_weights
from lorabench.records.adapter_health import AdapterVerdict, ModuleNorms
from lorabench.storage.shipped import shipped_data

BASE = shipped_data("fixtures/models/tiny-flux")
HEALTHY = shipped_data("fixtures/adapters/healthy")
LAYOUTS = {
    "diffusers": "pytorch_lora_weights.safetensors",
    "kohya": "kohya.safetensors",
    "comfyui": "comfyui.safetensors",
    "peft": "pytorch_lora_weights.safetensors",
}
ALPHA = {
    "lora_adapter_metadata": json.dumps({"transformer.r": 8, "transformer.lora_alpha": 8}),
    "ss_network_alpha": "8",
}


def tensors_of(layout: str) -> dict[str, np.ndarray]:
    tensors = load_file(HEALTHY / LAYOUTS[layout])
    if layout == "peft":
        return {key.replace("transformer.", "base_model.model.", 1): value for key, value in tensors.items()}
    return tensors


def is_up(key: str) -> bool:
    return ".lora_B." in key or ".lora_up." in key


def block_of(key: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in key)


def saved(folder: Path, tensors: dict[str, Any], layout: str, **metadata: str) -> Path:
    header = {**ALPHA, **metadata}
    if layout == "peft":
        header["lora_adapter_metadata"] = json.dumps({"r": 8, "lora_alpha": 8})
    path = folder / f"{layout}-candidate.safetensors"
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path, metadata=header)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
class TestEveryLayout:
    def test_a_trained_adapter_is_healthy_and_weighs_the_same_in_each(self, layout: str, tmp_path: Path) -> None:
        found = examine_file(saved(tmp_path, tensors_of(layout), layout), base=BASE)

        assert (found.health.verdict, found.health.reasons) == (AdapterVerdict.HEALTHY, ())
        assert found.health.relative_norm == pytest.approx(0.1197, abs=1e-3)
        assert found.health.missing == ()

    def test_all_zero_is_dead(self, layout: str, tmp_path: Path) -> None:
        tensors = {key: value * (not is_up(key)) for key, value in tensors_of(layout).items()}

        found = examine_file(saved(tmp_path, tensors, layout), base=BASE)

        assert found.health.verdict is AdapterVerdict.DEAD
        assert "never trained" in found.health.reasons[0]

    def test_too_small_for_half_precision_is_dead(self, layout: str, tmp_path: Path) -> None:
        tensors = {
            key: (value * 1e-3 if is_up(key) else value).astype(np.float32) for key, value in tensors_of(layout).items()
        }

        found = examine_file(saved(tmp_path, tensors, layout), base=BASE)

        assert found.health.verdict is AdapterVerdict.DEAD
        assert "less than float16 rounds off" in found.health.reasons[0]

    def test_modules_left_at_zero_are_partial(self, layout: str, tmp_path: Path) -> None:
        tensors = {
            key: value * (0 if is_up(key) and "single" in key else 1) for key, value in tensors_of(layout).items()
        }

        found = examine_file(saved(tmp_path, tensors, layout), base=BASE)

        assert found.health.verdict is AdapterVerdict.PARTIAL
        assert 0 < found.health.zero_share < 1
        assert "as before training" in found.health.reasons[0]

    def test_a_missing_block_is_partial(self, layout: str, tmp_path: Path) -> None:
        tensors = {
            key: value
            for key, value in tensors_of(layout).items()
            if "single_blocks_2" not in block_of(key) and "single_transformer_blocks_2" not in block_of(key)
        }

        path = saved(tmp_path, tensors, layout)

        for base in (BASE, None):
            found = examine_file(path, base=base)
            assert found.health.verdict is AdapterVerdict.PARTIAL, base
            assert {(one.n_present, one.n_expected) for one in found.health.missing} == {(3, 4)}
            assert "Unless blocks were left out on purpose" in found.health.reasons[0]

    def test_a_scaled_up_file_is_exploding(self, layout: str, tmp_path: Path) -> None:
        tensors = {
            key: (value * 20 if is_up(key) else value).astype(np.float32) for key, value in tensors_of(layout).items()
        }

        found = examine_file(saved(tmp_path, tensors, layout), base=BASE)

        assert found.health.verdict is AdapterVerdict.EXPLODING
        assert found.health.relative_norm == pytest.approx(20 * 0.1197, rel=0.01)
        assert "times as large as the base's weights" in found.health.reasons[0]

    def test_not_a_number_is_exploding(self, layout: str, tmp_path: Path) -> None:
        tensors = tensors_of(layout)
        tensors[next(filter(is_up, tensors))][0, 0] = math.nan

        found = examine_file(saved(tmp_path, tensors, layout), base=BASE)

        assert found.health.verdict is AdapterVerdict.EXPLODING
        assert "NaN or Inf" in found.health.reasons[0]


@pytest.mark.parametrize("name", ["healthy", "overtrained", "palette"])
def test_the_shipped_adapters_are_healthy_as_files(name: str) -> None:
    found = examine_file(shipped_data(f"fixtures/adapters/{name}"), base=BASE)

    assert (found.health.verdict, found.health.reasons) == (AdapterVerdict.HEALTHY, ())


def norms(relative: float, *, name: str = "m", zero: bool = False, **more: Any) -> ModuleNorms:
    update = 0.0 if zero else relative * 10.0
    return ModuleNorms(
        module=name,
        rank=4,
        scaling=1.0,
        update_norm=update,
        top_singular_value=update,
        effective_rank=0.0 if zero else 2.0,
        base_norm=10.0,
        relative_norm=update / 10.0,
        **more,
    )


@pytest.mark.parametrize(
    ("relative", "verdict"),
    [
        (DEAD_BELOW * 0.99, AdapterVerdict.DEAD),
        (DEAD_BELOW * 1.01, AdapterVerdict.HEALTHY),
        (EXPLODING_FROM * 0.99, AdapterVerdict.HEALTHY),
        (EXPLODING_FROM, AdapterVerdict.EXPLODING),
    ],
)
def test_limits_lie_where_they_are_documented(relative: float, verdict: AdapterVerdict) -> None:
    assert judge_health([norms(relative, name=f"m{i}") for i in range(4)]).verdict is verdict


def test_one_runaway_layer_is_enough() -> None:
    others = [norms(0.05, name=f"m{i}") for i in range(200)]

    assert judge_health([*others, norms(RUNAWAY_FROM * 0.99, name="x")]).verdict is AdapterVerdict.HEALTHY
    found = judge_health([*others, norms(RUNAWAY_FROM, name="x")])
    assert found.verdict is AdapterVerdict.EXPLODING
    assert "the largest is x with 3.00" in found.reasons[0]


def test_numbers_beyond_half_precision_are_exploding_without_a_base() -> None:
    found = judge_health([norms(0.1), norms(0.1, name="x", overflows_half=True)])

    assert found.verdict is AdapterVerdict.EXPLODING
    assert "beyond float16's range (65504): x" in found.reasons[0]


def test_matrices_below_half_precision_change_nothing() -> None:
    lost = [norms(0.1, name=f"m{i}", lost_in_half=True) for i in range(3)]

    found = judge_health(lost)

    assert found.verdict is AdapterVerdict.DEAD
    assert found.reasons == ("Every update becomes zero in float16: its matrices are smaller than float16 can hold.",)
    assert any("3 modules become zero in float16: m0" in remark for remark in found.remarks)


def test_few_zero_modules_are_a_remark_and_many_are_partial() -> None:
    def of(n_zero: int) -> list[ModuleNorms]:
        return [norms(0.1, name=f"m{i}", zero=i < n_zero) for i in range(40)]

    assert judge_health(of(1)).verdict is AdapterVerdict.HEALTHY
    assert "1 of 40 modules are zero: m0" in judge_health(of(1)).remarks[0]
    assert judge_health(of(2)).verdict is AdapterVerdict.PARTIAL


def test_last_text_encoder_layers_may_be_zero_because_the_base_skips_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer in range(3):
        base = f"lora_te1_text_model_encoder_layers_{layer}_mlp_fc1"
        tensors[f"{base}.lora_down.weight"] = rng.normal(size=(4, 8)).astype(np.float32)
        tensors[f"{base}.lora_up.weight"] = rng.normal(size=(8, 4)).astype(np.float32) * (layer < 2)
        tensors[f"{base}.alpha"] = np.array(4.0, dtype=np.float32)
    found = examine_file(saved(tmp_path, tensors, "kohya"))

    assert found.health.verdict is AdapterVerdict.HEALTHY
    assert found.health.zero_share == 0
    assert any("the base never uses them" in remark for remark in found.health.remarks)


def test_first_text_encoder_layer_at_zero_is_partial(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer in range(3):
        base = f"lora_te1_text_model_encoder_layers_{layer}_mlp_fc1"
        tensors[f"{base}.lora_down.weight"] = rng.normal(size=(4, 8)).astype(np.float32)
        tensors[f"{base}.lora_up.weight"] = rng.normal(size=(8, 4)).astype(np.float32) * (layer > 0)
        tensors[f"{base}.alpha"] = np.array(4.0, dtype=np.float32)

    assert examine_file(saved(tmp_path, tensors, "kohya")).health.verdict is AdapterVerdict.PARTIAL


@pytest.mark.parametrize(
    ("metadata", "chosen"),
    [
        ({"ss_network_args": '{"train_blocks": "single"}'}, True),
        ({"ss_network_args": '{"train_blocks": "all"}'}, False),
        ({"ss_network_args": '{"train_double_block_indices": "0-1"}'}, True),
        ({"lora_adapter_metadata": '{"transformer.layers_to_transform": null}'}, False),
        ({"lora_adapter_metadata": '{"transformer.layers_to_transform": [0, 1]}'}, True),
        ({"lora_adapter_metadata": '{"transformer.target_modules": ["single_transformer_blocks.1.proj_out"]}'}, True),
        ({"lora_adapter_metadata": '{"transformer.target_modules": ["to_q", "to_out.0", "net.2"]}'}, False),
        ({}, False),
    ],
)
def test_blocks_that_the_trainer_left_out_on_purpose_are_excused(
    metadata: dict[str, str], chosen: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tensors_of("kohya"), path, metadata=metadata)

    assert (blocks_chosen_by(read_adapter(path)) is not None) is chosen


def test_a_file_with_chosen_blocks_is_healthy_with_a_remark(tmp_path: Path) -> None:
    tensors = {key: value for key, value in tensors_of("kohya").items() if "single_blocks_2" not in key}
    path = saved(tmp_path, tensors, "kohya", ss_network_args='{"train_single_block_indices": "0,1,3"}')

    found = examine_file(path, base=BASE)

    assert found.health.verdict is AdapterVerdict.HEALTHY
    assert any("as the trainer was asked by train_single_block_indices" in remark for remark in found.health.remarks)


def test_modules_that_the_base_does_not_have_are_partial(tmp_path: Path) -> None:
    tensors = tensors_of("diffusers")
    for part in ("A", "B"):
        key = f"transformer.transformer_blocks.0.attn.to_q.lora_{part}.weight"
        tensors[f"transformer.transformer_blocks.9.attn.to_q.lora_{part}.weight"] = tensors[key]

    found = examine_file(saved(tmp_path, tensors, "diffusers"), base=BASE)

    assert found.health.verdict is AdapterVerdict.PARTIAL
    assert "52 of the 53" in found.health.reasons[0]


def test_outlier_layers_are_named(tmp_path: Path) -> None:
    tensors = tensors_of("kohya")
    key = "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight"
    tensors[key] = (tensors[key] * 1000).astype(np.float32)

    found = examine_file(saved(tmp_path, tensors, "kohya"))

    assert found.health.outliers == ("lora_unet_double_blocks_0_img_attn_proj",)
    assert any(
        remark.startswith("1 modules are far larger than the others: lora_unet_double_blocks_0_img_attn_proj")
        for remark in found.health.remarks
    )


def test_norms_of_a_base_are_remembered_until_its_files_change(tmp_path: Path) -> None:
    first = open_base_weights(BASE, memory=tmp_path)
    layer = "transformer.transformer_blocks.0.attn.to_q"
    weights = load_file(next((BASE / "transformer").glob("*.safetensors")))
    expected = float(np.linalg.norm(weights[f"{layer.removeprefix('transformer.')}.weight"].astype(np.float64)))
    assert first.norm(layer) == pytest.approx(expected)
    first.remember()

    again = open_base_weights(BASE, memory=tmp_path)

    assert again._known == {layer: first.norm(layer)}
    assert len(list(tmp_path.glob("*.json"))) == 1


@pytest.mark.data
@pytest.mark.skipif("LORABENCH_TEST_DATA" not in os.environ, reason="LORABENCH_TEST_DATA is not set")
def test_a_public_adapter_in_the_oldest_layout_is_healthy() -> None:
    found = examine_file(Path(os.environ["LORABENCH_TEST_DATA"]) / "lora" / "lora_disney.safetensors")

    assert (found.health.verdict, found.health.n_zero, found.health.outliers) == (AdapterVerdict.HEALTHY, 0, ())
    assert found.health.median_effective_rank == pytest.approx(1.0)
    assert len(found.modules) == 192
