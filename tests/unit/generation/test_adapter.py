from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.generation.adapter import read_adapter, split_component
from lorabench.generation.placement import Shapes, check_fit
from lorabench.generation.safetensors_file import read_safetensors

LAYER = "transformer.transformer_blocks.0.attn.to_q"


def pair(
    base: str = LAYER, *, rank: int = 4, inputs: int = 8, outputs: int = 8, down: str = "lora_A"
) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    up = down.replace("lora_A", "lora_B").replace("down", "up")
    return {
        f"{base}.{down}.weight": rng.normal(size=(rank, inputs)).astype(np.float32),
        f"{base}.{up}.weight": rng.normal(size=(outputs, rank)).astype(np.float32),
    }


def stored(path: Path, tensors: dict[str, Any], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata or None)
    return path


def peft_header(**entries: Any) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in entries.items()})}


def test_digest_ignores_the_header_and_follows_the_tensors(tmp_path: Path) -> None:
    tensors = pair()
    plain = read_adapter(stored(tmp_path / "a.safetensors", tensors, ss_network_alpha="4", ss_steps="10"))
    renamed = read_adapter(stored(tmp_path / "b.safetensors", tensors, ss_network_alpha="4", ss_steps="20", x="y"))
    tensors[f"{LAYER}.lora_A.weight"][0, 0] += 1
    changed = read_adapter(stored(tmp_path / "c.safetensors", tensors, ss_network_alpha="4"))

    assert plain.info.digest == renamed.info.digest != changed.info.digest


def test_digest_follows_the_strength_wherever_it_is_stated(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.safetensors", pair())
    with_header = stored(tmp_path / "b.safetensors", pair(), **peft_header(r=4, lora_alpha=8))

    assert read_adapter(path, alpha=8.0).info.digest == read_adapter(with_header).info.digest
    assert read_adapter(path, alpha=8.0).info.digest != read_adapter(path, alpha=4.0).info.digest


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        (peft_header(r=4, lora_alpha=8), 2.0),
        (peft_header(r=4, lora_alpha=8, use_rslora=True), 4.0),
        (peft_header(r=4, lora_alpha=8, alpha_pattern={"attn.to_q": 2}), 0.5),
        ({"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 8})}, 2.0),
        ({"ss_network_alpha": "1.0"}, 0.25),
        ({"software": '{"name": "ai-toolkit"}'}, 1.0),
        ({"ot_branch": "master", "ot_revision": "23df383"}, 1.0),
    ],
)
def test_strength_comes_from_the_header(metadata: dict[str, str], scaling: float, tmp_path: Path) -> None:
    adapter = read_adapter(stored(tmp_path / "a.safetensors", pair(), **metadata))

    assert adapter.modules[0].scaling == scaling


def test_alpha_tensor_comes_before_the_header(tmp_path: Path) -> None:
    tensors = pair() | {f"{LAYER}.alpha": np.array(2.0, np.float32)}

    adapter = read_adapter(stored(tmp_path / "a.safetensors", tensors, ss_network_alpha="16"))

    assert (adapter.info.alphas, adapter.modules[0].scaling, adapter.unused) == ((2.0,), 0.5, ())


def test_peft_configuration_beside_the_file_counts(tmp_path: Path) -> None:
    stored(tmp_path / "run" / "adapter_model.safetensors", pair("base_model.model.transformer_blocks.0.attn.to_q"))
    (tmp_path / "run" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))

    adapter = read_adapter(tmp_path / "run")

    assert (adapter.info.name, adapter.info.layout, adapter.modules[0].scaling) == ("run", "peft", 4.0)


def test_dora_in_the_header_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.safetensors", pair(), **peft_header(r=4, lora_alpha=8, use_dora=True))

    with pytest.raises(Exception, match="must be a plain LoRA; a holds DoRA weights"):
        read_adapter(path)


@pytest.mark.parametrize(
    ("name", "metadata", "training_step"),
    [
        ("checkpoint-500/pytorch_lora_weights.safetensors", {}, 500),
        ("style-step00000250.safetensors", {}, 250),
        ("style_000001500.safetensors", {}, 1500),
        ("style-000003.safetensors", {}, None),
        ("style.safetensors", {"ss_steps": "77"}, 77),
        ("style.safetensors", {"training_info": '{"step": 42, "epoch": 1}'}, 42),
        ("style.safetensors", {"training_info": "broken"}, None),
    ],
)
def test_training_step_is_read_from_header_or_name(
    name: str, metadata: dict[str, str], training_step: int | None, tmp_path: Path
) -> None:
    path = stored(tmp_path / name, pair(), ss_network_alpha="4", **metadata)

    assert read_adapter(path).info.training_step == training_step


def test_info_says_what_is_adapted_and_keeps_only_listed_metadata(tmp_path: Path) -> None:
    tensors = pair() | pair("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", rank=2)
    path = stored(tmp_path / "a.safetensors", tensors, ss_network_alpha="4", ss_dataset_dirs="/home/someone")

    info = read_adapter(path).info

    assert (info.n_modules, info.ranks, info.targets) == (2, (2, 4), ("q_proj", "to_q"))
    assert info.text_encoder
    assert info.metadata == {"ss_network_alpha": "4"}


def test_bfloat16_and_half_are_read_exactly(tmp_path: Path) -> None:
    """Oracle: torch writes and converts."""
    import torch
    from safetensors.torch import save_file as save_torch

    values = torch.tensor([1.0, -2.5, 3.140625, 1e-30, 65280.0])
    save_torch({"b": values.bfloat16(), "h": values.half(), "d": values.double()}, tmp_path / "x.safetensors")

    file = read_safetensors(tmp_path / "x.safetensors")

    assert np.array_equal(file.read("b"), values.bfloat16().float().numpy())
    assert np.array_equal(file.read("h"), values.half().float().numpy())
    assert np.array_equal(file.read("d"), values.numpy())


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("transformer.a.b", ("denoiser", "a.b", "dotted")),
        ("base_model.model.a.b", ("denoiser", "a.b", "dotted")),
        ("diffusion_model.double_blocks.0.img_attn.qkv", ("denoiser", "double_blocks.0.img_attn.qkv", "dotted")),
        ("lora_unet_down_blocks_0", ("denoiser", "down_blocks_0", "flattened")),
        ("lora_te2_text_model_x", ("text_encoder_2", "text_model_x", "flattened")),
        ("lora_te_text_model_x", ("text_encoder", "text_model_x", "flattened")),
        ("lora_te3_encoder_block_0", ("text_encoder_2", "encoder_block_0", "flattened")),
        ("text_encoders.t5xxl.transformer.encoder.x", ("text_encoder_2", "encoder.x", "dotted")),
        ("text_model.encoder.x", ("text_encoder", "text_model.encoder.x", "dotted")),
        ("unet:7", ("denoiser", "7", "ordinal")),
    ],
)
def test_component_is_split_off(base: str, expected: tuple[str, str, str]) -> None:
    assert split_component(base) == expected


def shapes_of(component: str, model: Any) -> Shapes:
    import torch

    kinds = torch.nn.Linear | torch.nn.Conv2d
    return {f"{component}.{k}": tuple(m.weight.shape) for k, m in model.named_modules() if isinstance(m, kinds)}


def sd15_shapes() -> Shapes:
    import torch

    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        return {**shapes_of("unet", unet), **shapes_of("text_encoder", CLIPTextModel(config))}


@pytest.mark.parametrize(
    ("original", "layer"),
    [
        ("lora_unet_input_blocks_1_0_in_layers_2", "unet.down_blocks.0.resnets.0.conv1"),
        ("lora_unet_input_blocks_2_1_proj_in", "unet.down_blocks.0.attentions.1.proj_in"),
        ("lora_unet_input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_middle_block_1_proj_out", "unet.mid_block.attentions.0.proj_out"),
        ("lora_unet_middle_block_2_out_layers_3", "unet.mid_block.resnets.1.conv2"),
        ("lora_unet_output_blocks_2_1_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("lora_unet_output_blocks_5_2_conv", "unet.up_blocks.1.upsamplers.0.conv"),
        (
            "lora_unet_output_blocks_3_1_transformer_blocks_0_attn2_to_k",
            "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
        ),
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "unet.down_blocks.0.attentions.0.proj_in"),
        (
            "lora_te_text_model_encoder_layers_11_self_attn_q_proj",
            "text_encoder.encoder.layers.11.self_attn.q_proj",
        ),
    ],
)
def test_flattened_and_original_unet_names_find_their_layer(original: str, layer: str, tmp_path: Path) -> None:
    shapes = sd15_shapes()
    layer = layer if layer in shapes else layer.replace("text_encoder.", "text_encoder.text_model.")
    outputs, inputs, *window = shapes[layer]
    down, up = np.ones((2, inputs, *window), np.float32), np.ones((outputs, 2, *[1] * len(window)), np.float32)
    tensors = {f"{original}.lora_down.weight": down, f"{original}.lora_up.weight": up}
    tensors[f"{original}.alpha"] = np.array(1.0, np.float32)

    placed = check_fit(read_adapter(stored(tmp_path / "a.safetensors", tensors)), shapes)

    assert [one.layer for one in placed] == [layer]


def test_final_modulation_changes_the_order_of_its_halves(tmp_path: Path) -> None:
    up = np.arange(8, dtype=np.float32).reshape(8, 1)
    key = "diffusion_model.final_layer.adaLN_modulation.1"
    tensors = {f"{key}.lora_A.weight": np.ones((1, 4), np.float32), f"{key}.lora_B.weight": up}
    adapter = read_adapter(stored(tmp_path / "a.safetensors", tensors), alpha=1.0)

    (placed,) = check_fit(adapter, {"transformer.norm_out.linear": (8, 4)})

    assert placed.up(adapter)[:, 0].tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


@pytest.mark.data
@pytest.mark.skipif("LORABENCH_TEST_DATA" not in os.environ, reason="LORABENCH_TEST_DATA is not set")
def test_public_sd15_file_in_the_oldest_layout_covers_every_attention_layer() -> None:
    adapter = read_adapter(Path(os.environ["LORABENCH_TEST_DATA"]) / "lora" / "lora_disney.safetensors")

    assert (adapter.info.layout, adapter.info.n_modules, adapter.info.ranks) == ("cloneofsimo", 192, (1,))
    assert adapter.unused == ("<s1>", "<s2>")
    assert {module.scaling for module in adapter.modules} == {1.0}
    from dataclasses import replace

    placed = check_fit(replace(adapter, unused=()), sd15_shapes())
    assert len({one.layer for one in placed}) == 192
