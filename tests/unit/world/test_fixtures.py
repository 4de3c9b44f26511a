"""The committed fixtures agree with the world: training sets, adapters, settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from lorabench.world.captions import TRIGGER_PHRASE
from lorabench.world.drawing import PAGE
from lorabench.world.oracle import detect
from lorabench.world.scene import COLOURS, HELD_OUT_PAIRS

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
NAMES = ("healthy", "overtrained", "palette")


def rows(name: str) -> list[dict[str, str]]:
    lines = (FIXTURES / "datasets" / name / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pictures(name: str) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(FIXTURES / "datasets" / name / row["file_name"]).convert("RGB")) for row in rows(name)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_training_sets_are_small_flat_and_captioned_with_the_trigger(name: str) -> None:
    assert 16 <= len(rows(name)) <= 40
    assert all(row["text"].startswith(TRIGGER_PHRASE) for row in rows(name))
    for picture in pictures(name):
        assert picture.shape == (128, 128, 3)
        assert np.abs(picture[0, 0] / 255 - np.asarray(PAGE)).max() < 0.01


def test_healthy_set_shows_every_colour_and_no_held_out_pair() -> None:
    looks = {(d.color, d.label) for picture in pictures("healthy") for d in detect(picture)}

    assert {colour for colour, _ in looks} == set(COLOURS)
    assert not looks & HELD_OUT_PAIRS


def test_overtrained_set_has_one_composition_and_no_two_pictures_with_the_same_shapes() -> None:
    shapes = []
    for picture in pictures("overtrained"):
        seen = {(round((d.box[0] + d.box[2]) / 2), round((d.box[1] + d.box[3]) / 2)): d for d in detect(picture)}
        (middle,) = [d for place, d in seen.items() if max(abs(place[0] - 64), abs(place[1] - 64)) <= 6]
        corners = [d for d in seen.values() if d is not middle]
        assert len(corners) == 4
        assert len({(d.label, d.color) for d in corners}) == 1
        shapes.append((middle.label, corners[0].label))

    assert len(set(shapes)) == len(shapes) == 16


def test_palette_set_has_two_colours_and_names_none() -> None:
    colours = {d.color for picture in pictures("palette") for d in detect(picture)}

    assert colours == {"red", "yellow"}
    assert not any(word in COLOURS for row in rows("palette") for word in row["text"].split())


@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_half_precision_finite_and_end_at_their_last_checkpoint(name: str) -> None:
    folder = FIXTURES / "adapters" / name
    steps = sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))
    last = load_file(folder / "pytorch_lora_weights.safetensors")

    assert len(steps) >= 4
    assert set(np.diff([0, *steps])) == {steps[0]} <= {50, 100}
    assert all(tensor.dtype == np.float16 and np.isfinite(tensor).all() for tensor in last.values())
    checkpoint = load_file(folder / f"checkpoint-{steps[-1]}" / "pytorch_lora_weights.safetensors")
    assert all(np.array_equal(last[key], checkpoint[key]) for key in last)


@pytest.mark.parametrize("name", ["healthy", "overtrained"])
@pytest.mark.parametrize(("layout", "prefix"), [("kohya", "lora_unet_"), ("comfyui", "diffusion_model.")])
def test_other_layouts_hold_the_same_change(name: str, layout: str, prefix: str) -> None:
    plain = load_file(FIXTURES / "adapters" / name / "pytorch_lora_weights.safetensors")
    other = load_file(FIXTURES / "adapters" / name / f"{layout}.safetensors")
    module = "single_blocks.2.linear1"
    key = prefix + (module.replace(".", "_") if layout == "kohya" else module)
    down, up = (other[f"{key}.lora_{part}.weight"].astype(np.float32) for part in ("down", "up"))
    block = "transformer.single_transformer_blocks.2"
    parts = [f"{block}.{part}" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    rank = plain[f"{parts[0]}.lora_A.weight"].shape[0]
    wanted = [
        plain[f"{part}.lora_B.weight"].astype(np.float32) @ plain[f"{part}.lora_A.weight"].astype(np.float32)
        for part in parts
    ]

    assert all(k.startswith(prefix) for k in other)
    assert down.shape[0] == 4 * rank
    assert up @ down * other[f"{key}.alpha"] / down.shape[0] == pytest.approx(np.concatenate(wanted), abs=1e-6)


def test_models_are_small_and_name_their_settings() -> None:
    folder = FIXTURES / "models" / "tiny-flux"
    settings = json.loads((folder / "lorabench.json").read_text(encoding="utf-8"))["generation"]
    size = sum(path.stat().st_size for path in (FIXTURES / "models").rglob("*") if path.is_file())

    assert settings["height"] == settings["width"] == 128
    assert settings["max_sequence_length"] == 24
    assert settings["negative_prompt"] == ""
    assert size < 12_000_000
