"""Pictures of a live pipeline are those of the saved adapter, and the pipeline stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorabench.generation.adapter import read_adapter
from lorabench.generation.adapter_errors import NoEffectError
from lorabench.generation.diffusers_backend import DiffusersBackend
from lorabench.generation.live_backend import LiveBackend, LivePipelineError, save_live_adapter, saved_adapter_shown
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell
from lorabench.training.guard import undisturbed

Bases = Callable[[str], Path]

FAMILIES = ["flux", "flux2", "sdxl", "sd15"]
TARGETS = r".*(attn\.to_q|attn1\.to_q|attn2\.to_v|to_qkv_mlp_proj|proj_in)"
GUIDED: dict[str, dict[str, Any]] = {
    "flux": {"true_cfg_scale": 3.0, "negative_prompt": "blue", "guidance_scale": 2.0, "max_sequence_length": 24},
    "flux2": {"guidance_scale": 3.0, "negative_prompt": "", "max_sequence_length": 24},
    "sdxl": {"guidance_scale": 4.0},
    "sd15": {"guidance_scale": 4.0, "negative_prompt": "blue"},
}
CELLS = (
    PlannedCell(cell=Cell(arm=Arm.CONTROL, case="one", seed=3), prompt="a red circle"),
    PlannedCell(cell=Cell(arm=Arm.CANDIDATE, case="one", seed=3, scale=1.0), prompt="zvq a red circle"),
)


def settings_of(family: str) -> GenerationSettings:
    return GenerationSettings(height=32, width=32, num_inference_steps=3, **GUIDED[family])


def live_pipeline(folder: Path, *, trained: bool = True, text: bool = False) -> Any:
    import diffusers
    from peft import LoraConfig

    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    extra = {"safety_checker": None} if name == "StableDiffusionPipeline" else {}
    pipe = getattr(diffusers, name).from_pretrained(folder, **extra)
    models = [getattr(pipe, "transformer", None) or pipe.unet]
    models[0].add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS))
    if text:
        pipe.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"]))
        models.append(pipe.text_encoder)
    if trained:
        train(models)
    return pipe


def train(models: list[Any], *, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for model in models:
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.data.normal_(0, 0.3, generator=generator)


def pictures(backend: DiffusersBackend, family: str) -> list[np.ndarray]:
    made = {one.planned.cell.arm: one for one in backend.generate(list(CELLS), settings=settings_of(family))}
    assert all(one.failure is None for one in made.values()), made
    return [made[planned.cell.arm].picture for planned in CELLS]


@pytest.mark.parametrize("family", FAMILIES)
def test_live_pictures_and_cache_keys_are_those_of_the_saved_adapter_on_a_fresh_base(
    bases: Bases, family: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)  # an adapter whose last bits are seen: torch multiplies by the needs of gradients
    pipe = live_pipeline(bases(family))
    saved = read_adapter(save_live_adapter(pipe, tmp_path / "checkpoint-7" / "pytorch_lora_weights.safetensors"))
    live, fresh = LiveBackend(pipe), DiffusersBackend(ModelConfig(base=str(bases(family)), device="cpu"))

    live.load_candidate(saved)
    fresh.load_candidate(saved)

    assert (saved.info.training_step, saved.info.ranks, saved.info.alphas) == (7, (3,), (6.0,))
    assert dict(live.fingerprint()) == dict(fresh.fingerprint())
    assert live.base_info() == fresh.base_info()
    for mine, theirs in zip(pictures(live, family), pictures(fresh, family), strict=True):
        assert np.array_equal(mine, theirs)


def test_pipeline_is_left_with_its_scheduler_its_gradients_and_its_adapter_on(bases: Bases, tmp_path: Path) -> None:
    pipe = live_pipeline(bases("flux"))
    scheduler = pipe.scheduler
    before = [p.requires_grad for p in pipe.transformer.parameters()]
    layers = [layer for layer in pipe.transformer.modules() if "default" in getattr(layer, "scaling", {})]
    live = LiveBackend(pipe)

    live.load_candidate(read_adapter(save_live_adapter(pipe, tmp_path / "a.safetensors")))
    pictures(live, "flux")
    live.release()

    assert pipe.scheduler is scheduler
    assert scheduler.timesteps.numel() == scheduler.config.num_train_timesteps
    assert [p.requires_grad for p in pipe.transformer.parameters()] == before
    assert all(layer.scaling["default"] == 2.0 and not layer.disable_adapters for layer in layers)


def test_step_zero_is_the_base_and_a_trained_adapter_is_not(bases: Bases) -> None:
    pipe = live_pipeline(bases("flux"), trained=False)
    live = LiveBackend(pipe)

    assert live.step_zero_equals_base()
    train([pipe.transformer])
    assert not live.step_zero_equals_base()


def test_live_weights_are_seen_as_they_are_now(bases: Bases, tmp_path: Path) -> None:
    pipe = live_pipeline(bases("flux"))
    live = LiveBackend(pipe)
    shown = []
    for seed in (1, 2):
        train([pipe.transformer], seed=seed)
        live.load_candidate(read_adapter(save_live_adapter(pipe, tmp_path / f"{seed}.safetensors")))
        shown.append(pictures(live, "flux"))

    assert np.array_equal(shown[0][0], shown[1][0])
    assert not np.array_equal(shown[0][1], shown[1][1])


def test_prompts_encoded_once_serve_after_the_text_encoders_are_gone(
    bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = live_pipeline(bases("flux"))
    live = LiveBackend(pipe)
    live.load_candidate(read_adapter(save_live_adapter(pipe, tmp_path / "a.safetensors")))
    whole = pictures(live, "flux")
    again = LiveBackend(pipe)
    again.encode_prompts([planned.prompt for planned in CELLS], settings=settings_of("flux"))
    again.load_candidate(read_adapter(tmp_path / "a.safetensors"))

    def gone(*_: object, **__: object) -> None:
        raise AssertionError("a text encoder was asked")

    monkeypatch.setattr(again._family, "encode", gone)

    for mine, theirs in zip(pictures(again, "flux"), whole, strict=True):
        assert np.array_equal(mine, theirs)


def test_trained_text_encoder_is_saved_too_and_its_prompts_are_encoded_anew(bases: Bases, tmp_path: Path) -> None:
    pipe = live_pipeline(bases("sd15"), text=True)
    live = LiveBackend(pipe)
    saved = read_adapter(save_live_adapter(pipe, tmp_path / "1.safetensors"))
    live.load_candidate(saved)
    first = pictures(live, "sd15")
    train([pipe.text_encoder], seed=9)
    live.load_candidate(read_adapter(save_live_adapter(pipe, tmp_path / "2.safetensors")))
    second = pictures(live, "sd15")

    assert saved.info.text_encoder
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])


def test_base_without_a_folder_is_named_by_its_weights_whatever_the_adapter_is(bases: Bases) -> None:
    pipe = live_pipeline(bases("sd15"))
    pipe.unet.config._name_or_path = ""
    digests = []
    for seed in (1, 2):
        train([pipe.unet], seed=seed)
        backend = LiveBackend(pipe)
        backend._model = ModelConfig(base="")
        digests.append(backend.base_info().digest)
    pipe.unet.conv_in.weight.data.add_(0.1)
    other = LiveBackend(pipe)
    other._model = ModelConfig(base="")

    assert digests[0] == digests[1] != other.base_info().digest


def test_adapter_that_changes_nothing_is_found(bases: Bases, tmp_path: Path) -> None:
    pipe = live_pipeline(bases("flux"))
    live = LiveBackend(pipe)
    saved = read_adapter(save_live_adapter(pipe, tmp_path / "a.safetensors"))
    for name, value in pipe.transformer.named_parameters():
        if "lora_B" in name:
            value.data.zero_()

    with pytest.raises(NoEffectError, match="must change what the base makes"):
        live.load_candidate(saved)


def test_other_pipelines_missing_and_fused_adapters_are_refused(bases: Bases, tmp_path: Path) -> None:
    class Elsewhere:
        name_or_path = ""

    with pytest.raises(LivePipelineError, match=r"must be one of FluxPipeline.*found Elsewhere.*lorabench watch"):
        LiveBackend(Elsewhere())
    pipe = live_pipeline(bases("flux"))
    with pytest.raises(LivePipelineError, match="found none named 'mine', but default"):
        LiveBackend(pipe, adapter_name="mine")
    with pytest.raises(LivePipelineError, match="found none named 'mine'"):
        save_live_adapter(pipe, tmp_path / "a.safetensors", adapter_name="mine")
    next(layer for layer in pipe.transformer.modules() if "default" in getattr(layer, "scaling", {})).merge()
    with pytest.raises(LivePipelineError, match="must not be fused into the base"):
        LiveBackend(pipe)


def test_an_earlier_state_is_shown_and_the_live_one_comes_back(bases: Bases, tmp_path: Path) -> None:
    pipe = live_pipeline(bases("flux"))
    early = save_live_adapter(pipe, tmp_path / "early.safetensors")
    train([pipe.transformer], seed=2)
    late = save_live_adapter(pipe, tmp_path / "late.safetensors")
    live = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}

    with saved_adapter_shown(pipe, early):
        shown = save_live_adapter(pipe, tmp_path / "shown.safetensors")
        digests = [read_adapter(file).info.digest for file in (shown, early, late)]
        assert digests[0] == digests[1] != digests[2]
    with pytest.raises(RuntimeError, match="out of memory"), saved_adapter_shown(pipe, early):
        raise RuntimeError("out of memory")

    assert all(torch.equal(value, live[name]) for name, value in pipe.transformer.state_dict().items())


def test_a_file_of_another_adapter_is_not_shown(bases: Bases, tmp_path: Path) -> None:
    with_text = save_live_adapter(live_pipeline(bases("sd15"), text=True), tmp_path / "text.safetensors")

    with pytest.raises(LivePipelineError, match=r"an earlier adapter must have the tensors of the live one; in .*text"):
        saved_adapter_shown(live_pipeline(bases("sd15")), with_text).__enter__()


@pytest.mark.parametrize(
    ("family", "changed"), [("flux2", {"is_distilled": True}), ("sdxl", {"force_zeros_for_empty_prompt": False})]
)
def test_what_the_base_says_of_itself_holds_for_the_live_pipeline(
    family: str, changed: dict[str, bool], bases: Bases
) -> None:
    pipe = live_pipeline(bases(family))
    pipe.register_to_config(**changed)

    own = LiveBackend(pipe)._pipe

    assert {name: own.config[name] for name in changed} == changed
    assert getattr(own, "watermark", None) is None


@pytest.mark.parametrize(("device", "sliced"), [("cuda:1", True), ("cpu", False)])
def test_autoencoder_decodes_picture_by_picture_where_memory_is_the_training_s(
    device: str, sliced: bool, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = live_pipeline(bases("flux"))
    backend = LiveBackend(pipe)
    monkeypatch.setattr(backend, "_device", device)
    monkeypatch.setattr(DiffusersBackend, "generate", lambda *_, **__: iter(()))

    with undisturbed(pipe):
        assert list(backend.generate(list(CELLS), settings=settings_of("flux"))) == []
        assert pipe.vae.use_slicing is sliced
    assert not pipe.vae.use_slicing, "the guard puts it back"
