from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lorabench.generation import diffusers_backend
from lorabench.generation.adapter import read_adapter
from lorabench.generation.adapter_errors import NoEffectError, NotSwitchedOffError, PartialFitError, WrongFamilyError
from lorabench.generation.base_files import (
    BaseNotFoundError,
    FamilyContradictionError,
    NoSafetensorsError,
    UnknownPipelineError,
)
from lorabench.generation.diffusers_backend import AttachmentError, BaseLoadError, DeviceError, DiffusersBackend
from lorabench.generation.families import SettingError, SharedRandomnessError
from lorabench.generation.protocol import Made
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell

Bases = Callable[[str], Path]

ALL_FAMILIES = ["flux", "flux2", "sdxl", "sd15"]
GUIDED: dict[str, dict[str, Any]] = {
    "flux": {"true_cfg_scale": 3.0, "negative_prompt": "blue", "guidance_scale": 2.0, "max_sequence_length": 24},
    "flux2": {"guidance_scale": 3.0, "negative_prompt": "", "max_sequence_length": 24},
    "sdxl": {"guidance_scale": 4.0},
    "sd15": {"guidance_scale": 4.0, "negative_prompt": "blue"},
}
PROMPT = "a red circle left of a cross"


def settings_of(family: str, **changes: Any) -> GenerationSettings:
    values: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 3, **GUIDED[family]}
    return GenerationSettings(**{**values, **changes})


def cell(arm: str = "B0", case: str = "one", seed: int = 1, scale: float = 0.0, prompt: str = PROMPT) -> PlannedCell:
    return PlannedCell(cell=Cell(arm=Arm(arm), case=case, seed=seed, scale=scale), prompt=prompt)


def pictures(backend: DiffusersBackend, cells: Iterable[PlannedCell], settings: GenerationSettings) -> dict[Cell, Any]:
    return {made.planned.cell: picture_of(made) for made in backend.generate(list(cells), settings=settings)}


def picture_of(made: Made) -> Any:
    assert made.failure is None, made.failure
    return made.picture


def load_pipeline(folder: Path) -> Any:
    import diffusers

    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    extra = {"safety_checker": None} if name == "StableDiffusionPipeline" else {}
    pipe = getattr(diffusers, name).from_pretrained(folder, **extra)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def components(family: str) -> dict[str, str]:
    """Component to a pattern of layers to adapt."""
    denoiser = {
        "flux": r".*(attn\.to_q|attn\.to_out\.0|add_k_proj|proj_mlp|norm_out\.linear)",
        "flux2": r".*(attn\.to_q|to_qkv_mlp_proj|ff\.linear_in)",
        "sdxl": r".*(attn1\.to_q|attn2\.to_v|proj_in|conv1|downsamplers\.0\.conv|upsamplers\.0\.conv)",
        "sd15": r".*(attn1\.to_q|attn2\.to_v|proj_in|conv_shortcut)",
    }[family]
    return {"transformer" if family.startswith("flux") else "unet": denoiser}


def with_adapter(folder: Path, family: str, out: Path, *, rank: int = 4, alpha: float = 8.0, text: bool = False) -> Any:
    """A pipeline with a random peft adapter in memory, also written to `out` by diffusers itself."""
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = load_pipeline(folder)
    targets = components(family) | ({"text_encoder": r".*(q_proj|fc1)"} if text else {})
    torch.manual_seed(11)
    layers, models = {}, {}
    for component, pattern in targets.items():
        model = getattr(pipe, component)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern, init_lora_weights=False))
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn_like(parameter) * 0.4
        layers[f"{component}_lora_layers"] = get_peft_model_state_dict(model)
        models[component] = model
    pipe.save_lora_weights(out, **layers, **_collate_lora_metadata(models))
    return pipe


def reference_picture(pipe: Any, backend: DiffusersBackend, planned: PlannedCell, settings: GenerationSettings) -> Any:
    """The same cell through diffusers alone: text encoded by the pipeline, adapter attached by the pipeline."""
    from lorabench.generation.noise import draw_noise, generator_of

    family = backend._family
    generator = generator_of(planned.cell)
    noise = draw_noise(generator, (1, *family.noise_shape(pipe, settings)))
    call: dict[str, Any] = family.arguments(settings)
    if settings.negative_prompt is not None and family.name != "flux2":
        call["negative_prompt"] = settings.negative_prompt
    if settings.max_sequence_length is not None:
        call["max_sequence_length"] = settings.max_sequence_length
    latents = pipe._pack_latents(noise, *noise.shape) if family.name == "flux" else noise
    made = pipe(prompt=planned.prompt, latents=latents, generator=generator, output_type="np", **call)
    return (made.images[0] * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def flux(bases: Bases) -> DiffusersBackend:
    return DiffusersBackend(ModelConfig(base=str(bases("flux"))))


@pytest.fixture(scope="module")
def flux_adapter(bases: Bases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter")
    with_adapter(bases("flux"), "flux", out)
    return out


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_base_picture_is_the_one_diffusers_makes(family: str, bases: Bases) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases(family))))
    settings = settings_of(family)

    made = pictures(backend, [cell()], settings)[cell().cell]

    expected = reference_picture(load_pipeline(bases(family)), backend, cell(), settings)
    assert np.abs(made.astype(int) - expected).max() <= 1
    assert made.std() > 5


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_candidate_picture_is_that_of_the_adapter_in_memory(family: str, bases: Bases, tmp_path: Path) -> None:
    pipe = with_adapter(bases(family), family, tmp_path)
    backend = DiffusersBackend(ModelConfig(base=str(bases(family))))
    settings = settings_of(family)
    planned = cell("L1", scale=1.0)

    base = pictures(backend, [cell("B1")], settings)[cell("B1").cell]
    backend.load_candidate(read_adapter(tmp_path))
    made = pictures(backend, [planned, cell("B1")], settings)

    expected = reference_picture(pipe, backend, planned, settings)
    assert np.abs(made[planned.cell].astype(int) - expected).max() <= 1
    assert np.abs(made[planned.cell].astype(int) - base).mean() > 1
    assert np.array_equal(made[cell("B1").cell], base)


@pytest.mark.parametrize("family", ["flux", "sd15", "sdxl"])
def test_text_encoder_adapter_changes_candidate_and_leaves_base(family: str, bases: Bases, tmp_path: Path) -> None:
    pipe = with_adapter(bases(family), family, tmp_path, text=True)
    backend = DiffusersBackend(ModelConfig(base=str(bases(family))))
    settings = settings_of(family)
    planned = cell("L1", scale=1.0)
    base = pictures(backend, [cell("B1")], settings)[cell("B1").cell]

    adapter = read_adapter(tmp_path)
    backend.load_candidate(adapter)
    made = pictures(backend, [cell("B1"), planned], settings)

    assert adapter.info.text_encoder
    expected = reference_picture(pipe, backend, planned, settings)
    assert np.abs(made[planned.cell].astype(int) - expected).max() <= 1
    assert np.array_equal(made[cell("B1").cell], base)


def test_scale_zero_gives_the_base_to_the_last_bit_and_scales_differ(
    flux: DiffusersBackend, flux_adapter: Path
) -> None:
    flux.load_candidate(read_adapter(flux_adapter))
    cells = [cell("B1"), *(cell("L1", scale=scale) for scale in (0.0, 0.5, 1.0))]

    made = pictures(flux, cells, settings_of("flux"))

    base, zero, half, full = (made[one.cell] for one in cells)
    assert np.array_equal(base, zero)
    assert not np.array_equal(half, full)
    assert not np.array_equal(base, half)


def test_a_second_candidate_replaces_the_first_and_unloading_restores_the_base(bases: Bases, tmp_path: Path) -> None:
    with_adapter(bases("flux"), "flux", tmp_path / "a")
    pipe = with_adapter(bases("flux"), "flux", tmp_path / "b", rank=2, alpha=1.0)
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))))
    settings, planned = settings_of("flux"), cell("L1", scale=1.0)
    base = pictures(backend, [cell()], settings)[cell().cell]
    names = [name for name, _ in backend._pipe.transformer.named_modules()]

    backend.load_candidate(read_adapter(tmp_path / "a"))
    backend.load_candidate(read_adapter(tmp_path / "b"))
    second = pictures(backend, [planned], settings)[planned.cell]
    backend.unload_candidate()

    expected = reference_picture(pipe, backend, planned, settings)
    assert np.abs(second.astype(int) - expected).max() <= 1
    assert [name for name, _ in backend._pipe.transformer.named_modules()] == names
    assert np.array_equal(pictures(backend, [cell()], settings)[cell().cell], base)


def flux_variants(source: dict[str, Any], alpha: float) -> dict[str, dict[str, Any]]:
    """The same adapter as other tools write it; norm_out is left out where its name has no counterpart."""
    bare = {key.removeprefix("transformer."): value for key, value in source.items()}
    kohya: dict[str, Any] = {}
    for key, value in bare.items():
        path, _, part = key.removesuffix(".weight").rpartition(".")
        name = f"lora_unet_{path.replace('.', '_')}"
        kohya[f"{name}.lora_{'down' if part == 'lora_A' else 'up'}.weight"] = value
        kohya[f"{name}.alpha"] = np.array(alpha, dtype=np.float32)
    return {
        "prefixed, alpha stated": source,
        "no prefix": bare,
        "peft": {f"base_model.model.{key}": value for key, value in bare.items()},
        "comfyui with diffusers names": {f"diffusion_model.{key}": value for key, value in bare.items()},
        "kohya with diffusers names": kohya,
        "alpha tensors": source
        | {key.replace("lora_A.weight", "alpha"): np.array(alpha, np.float32) for key in source if "lora_A" in key},
        "old endings": {
            key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): value for key, value in source.items()
        },
    }


@pytest.mark.parametrize("layout", list(flux_variants({"transformer.a.lora_A.weight": 0}, 1.0)))
def test_every_layout_of_one_adapter_makes_the_same_picture(
    layout: str, flux: DiffusersBackend, flux_adapter: Path, tmp_path: Path
) -> None:
    settings, planned = settings_of("flux"), cell("L1", scale=1.0)
    flux.load_candidate(read_adapter(flux_adapter))
    expected = pictures(flux, [planned], settings)[planned.cell]
    variant = flux_variants(load_file(flux_adapter / "pytorch_lora_weights.safetensors"), 8.0)[layout]
    save_file(variant, tmp_path / "variant.safetensors")

    flux.load_candidate(read_adapter(tmp_path / "variant.safetensors", alpha=8.0))

    assert np.array_equal(pictures(flux, [planned], settings)[planned.cell], expected)


@pytest.mark.parametrize("style", ["kohya", "comfyui"])
def test_fused_layers_are_split_by_the_real_widths_of_the_base(style: str, bases: Bases, tmp_path: Path) -> None:
    """Oracle: the fused product, cut and added to the base's weights by hand."""
    rng = np.random.default_rng(4)
    fused = {
        "double_blocks.0.img_attn.qkv": (["attn.to_q", "attn.to_k", "attn.to_v"], "transformer_blocks.0"),
        "double_blocks.0.txt_mlp.0": (["ff_context.net.0.proj"], "transformer_blocks.0"),
        "single_blocks.1.linear1": (
            ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
            "single_transformer_blocks.1",
        ),
    }
    pipe = load_pipeline(bases("flux"))
    tensors: dict[str, Any] = {}
    for name, (leaves, block) in fused.items():
        weights = [pipe.transformer.get_submodule(f"{block}.{leaf}").weight for leaf in leaves]
        down = rng.normal(size=(4, 16)).astype(np.float32) * 0.4
        up = rng.normal(size=(sum(len(weight) for weight in weights), 4)).astype(np.float32) * 0.4
        key = f"lora_unet_{name.replace('.', '_')}" if style == "kohya" else f"diffusion_model.{name}"
        ends = ("lora_down", "lora_up") if style == "kohya" else ("lora_A", "lora_B")
        tensors |= {f"{key}.{ends[0]}.weight": down, f"{key}.{ends[1]}.weight": up}
        tensors[f"{key}.alpha"] = np.array(2.0, np.float32)
        start = 0
        for weight in weights:
            weight.data += 0.5 * torch.from_numpy(up[start : start + len(weight)] @ down)
            start += len(weight)
    save_file(tensors, tmp_path / "fused.safetensors")
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))))
    settings, planned = settings_of("flux"), cell("L1", scale=1.0)

    backend.load_candidate(read_adapter(tmp_path / "fused.safetensors"))
    made = pictures(backend, [planned], settings)[planned.cell]

    expected = reference_picture(pipe, backend, planned, settings)
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_noise_is_the_same_whatever_the_batch_the_order_and_the_suite(bases: Bases) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux")), batch_size=4))
    settings = settings_of("flux")
    few = [cell(case="one", seed=7)]
    many = [cell(case=case, seed=seed) for case in ("zero", "one", "two") for seed in (8, 7)]

    seen = [pictures(backend, cells, settings) for cells in (few, many, many[::-1])]

    one = few[0].cell
    assert all(np.abs(seen[0][one].astype(int) - other[one]).max() <= 1 for other in seen[1:])
    assert not np.array_equal(seen[1][one], seen[1][cell(case="one", seed=8).cell])
    assert not np.array_equal(seen[1][one], seen[1][cell(case="two", seed=7).cell])


def test_same_cells_in_the_same_batches_are_equal_to_the_last_bit(flux: DiffusersBackend, bases: Bases) -> None:
    cells = [cell(seed=seed) for seed in range(4)]
    settings = settings_of("flux")

    first = pictures(flux, cells, settings)
    again = pictures(flux, cells, settings)
    other = pictures(DiffusersBackend(ModelConfig(base=str(bases("flux")))), cells, settings)

    assert all(np.array_equal(first[one.cell], again[one.cell]) for one in cells)
    assert all(np.array_equal(first[one.cell], other[one.cell]) for one in cells)


def test_all_arms_start_from_one_noise(flux: DiffusersBackend, flux_adapter: Path) -> None:
    flux.load_candidate(read_adapter(flux_adapter))

    made = pictures(flux, [cell("B0"), cell("B1"), cell("L1", scale=0.0)], settings_of("flux"))

    first, *others = made.values()
    assert all(np.array_equal(first, other) for other in others)


def test_global_random_state_is_left_alone(bases: Bases, flux_adapter: Path) -> None:
    before = torch.get_rng_state()
    backend = DiffusersBackend(ModelConfig(base=str(bases("sdxl"))))
    pictures(backend, [cell()], settings_of("sdxl"))
    adapted = DiffusersBackend(ModelConfig(base=str(bases("flux"))))
    adapted.load_candidate(read_adapter(flux_adapter))
    pictures(adapted, [cell("L1", scale=1.0)], settings_of("flux"))

    assert torch.equal(torch.get_rng_state(), before)


def test_stochastic_sampler_draws_from_the_cells_own_generator(bases: Bases) -> None:
    """SDXL's tiny base carries an ancestral sampler, which draws noise at every step."""
    backend = DiffusersBackend(ModelConfig(base=str(bases("sdxl")), batch_size=4))
    settings = settings_of("sdxl")
    alone = pictures(backend, [cell(seed=2)], settings)
    among = pictures(backend, [cell(seed=1), cell(seed=2), cell(seed=3)], settings)

    assert np.abs(alone[cell(seed=2).cell].astype(int) - among[cell(seed=2).cell]).max() <= 1


def test_out_of_memory_halves_the_batch_and_loses_no_cell(bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux")), batch_size=4))
    sample, sizes = backend._sample, []

    def limited(batch: Any, *, settings: GenerationSettings) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return sample(batch, settings=settings)

    monkeypatch.setattr(backend, "_sample", limited)
    cells = [cell(seed=seed) for seed in range(5)]

    made = pictures(backend, cells, settings_of("flux"))

    assert set(made) == {one.cell for one in cells}
    assert sizes == [4, 2, 2, 1]


def test_round_trip_keeps_size_and_repeats_exactly(flux: DiffusersBackend) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)

    once, twice = flux.round_trip([picture, picture])

    assert once.shape == picture.shape
    assert np.array_equal(once, twice)
    assert not np.array_equal(once, picture)


def test_true_guidance_without_negative_prompt_is_not_dropped(flux: DiffusersBackend) -> None:
    plain = settings_of("flux", true_cfg_scale=None, negative_prompt=None)
    silent = settings_of("flux", negative_prompt=None)
    empty = settings_of("flux", negative_prompt="")

    made = [pictures(flux, [cell()], settings)[cell().cell] for settings in (plain, silent, empty)]

    assert np.array_equal(made[1], made[2])
    assert not np.array_equal(made[0], made[1])


def test_text_is_encoded_once_per_prompt(bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))))
    backend._load()
    encode, texts = backend._pipe.encode_prompt, []

    def counting(**arguments: Any) -> Any:
        if arguments.get("prompt_embeds") is None:
            texts.append(arguments["prompt"])
        return encode(**arguments)

    monkeypatch.setattr(backend._pipe, "encode_prompt", counting)
    cells = [cell(seed=seed, case=case, prompt=case) for case in ("one", "two") for seed in range(3)]

    pictures(backend, cells, settings_of("flux"))

    assert sorted(texts) == ["blue", "one", "two"]


def test_fingerprint_and_info_need_no_weights_and_name_the_base(bases: Bases, tmp_path: Path) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))), cache_dir=tmp_path)

    first, info = backend.fingerprint(), backend.base_info()
    again = DiffusersBackend(ModelConfig(base=str(bases("flux"))), cache_dir=tmp_path).fingerprint()

    assert backend._pipe is None
    assert first == again
    assert info.digest == first["base"]
    assert (info.family, info.dtype, info.device_class) == ("flux", "float32", "cpu")
    assert list((tmp_path / "base-digests").glob("*.json"))


@pytest.mark.parametrize("changed", ["weights", "scheduler"])
def test_a_changed_base_has_another_digest(changed: str, bases: Bases, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(bases("sd15"), folder)
    before = DiffusersBackend(ModelConfig(base=str(folder))).fingerprint()["base"]
    if changed == "weights":
        file = folder / "vae" / "diffusion_pytorch_model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file = folder / "scheduler" / "scheduler_config.json"
        file.write_text(file.read_text().replace('"beta_end": 0.02', '"beta_end": 0.03'))

    assert DiffusersBackend(ModelConfig(base=str(folder))).fingerprint()["base"] != before


def test_adapter_without_effect_is_refused(
    flux: DiffusersBackend, flux_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flux.unload_candidate()
    monkeypatch.setattr(flux, "_probe", lambda: torch.zeros(3))

    with pytest.raises(NoEffectError, match=r"must change what the base makes.*stays the same to the last bit"):
        flux.load_candidate(read_adapter(flux_adapter))
    assert flux._attached == []


def test_adapter_that_cannot_be_switched_off_is_refused(
    flux: DiffusersBackend, flux_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flux.unload_candidate()
    monkeypatch.setattr(flux, "_probe", lambda: torch.zeros(3) if flux._state is None else torch.ones(3))

    with pytest.raises(NotSwitchedOffError, match="scale 0 must leave the base's output as it is"):
        flux.load_candidate(read_adapter(flux_adapter))


def test_adapter_of_another_family_is_refused(flux: DiffusersBackend, bases: Bases, tmp_path: Path) -> None:
    with_adapter(bases("sd15"), "sd15", tmp_path)

    with pytest.raises(WrongFamilyError, match=r"must be made for the base; none of the \d+ modules.*Stable Diffusion"):
        flux.load_candidate(read_adapter(tmp_path))


def test_half_matching_adapter_is_refused(flux: DiffusersBackend, flux_adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(flux_adapter / "pytorch_lora_weights.safetensors")
    tensors = {
        key.replace("single_transformer_blocks.1.", "single_transformer_blocks.9."): v for key, v in tensors.items()
    }
    save_file(tensors, tmp_path / "half.safetensors")

    with pytest.raises(PartialFitError, match=r"all modules of an adapter must be in the base; \d+ of the \d+"):
        flux.load_candidate(read_adapter(tmp_path / "half.safetensors", alpha=8.0))


def test_candidate_cells_without_candidate_are_a_programming_error(bases: Bases) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))))

    with pytest.raises(ValueError, match="need a candidate; none is loaded"):
        list(backend.generate([cell("L1", scale=1.0)], settings=settings_of("flux")))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("flux", {"height": 33}, "height and width must be multiples of 4"),
        ("sd15", {"true_cfg_scale": 3.0}, "must be ones that sd15 takes; found true_cfg_scale"),
        ("sd15", {"max_sequence_length": 24}, "found max_sequence_length"),
        (
            "flux",
            {"true_cfg_scale": None},
            "negative_prompt acts only with classifier-free guidance.*true_cfg_scale above 1",
        ),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    family: str, changes: dict[str, Any], words: str, bases: Bases
) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases(family))))

    with pytest.raises(SettingError, match=words):
        list(backend.generate([cell()], settings=settings_of(family, **changes)))


def test_scheduler_on_the_global_generator_is_refused(bases: Bases) -> None:
    backend = DiffusersBackend(ModelConfig(base=str(bases("flux"))))
    backend._load()
    backend._pipe.scheduler.register_to_config(stochastic_sampling=True)

    with pytest.raises(SharedRandomnessError, match="must draw all its noise from the cell's own generator"):
        list(backend.generate([cell()], settings=settings_of("flux")))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("", "the base must be a folder .* none is named"),
        ("/no/such/folder", "no such folder"),
        (".", r"no model_index\.json in it"),
    ],
)
def test_missing_base_is_refused(base: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BaseNotFoundError, match=words):
        DiffusersBackend(ModelConfig(base=base))


def write_index(folder: Path, name: str) -> ModelConfig:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, "unet": ["diffusers", "X"]}))
    return ModelConfig(base=str(folder))


def test_unknown_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownPipelineError, match=r"must be one of FluxPipeline.* says KandinskyPipeline"):
        DiffusersBackend(write_index(tmp_path, "KandinskyPipeline"))


def test_contradicting_family_is_refused(bases: Bases) -> None:
    with pytest.raises(FamilyContradictionError, match="stated family must be the base's; stated sdxl"):
        DiffusersBackend(ModelConfig(base=str(bases("flux")), family="sdxl"))


def test_base_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSafetensorsError, match="weights must be safetensors files"):
        DiffusersBackend(write_index(tmp_path, "FluxPipeline")).fingerprint()


def test_incomplete_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseLoadError, match="must be loadable by diffusers"):
        list(DiffusersBackend(write_index(tmp_path, "FluxPipeline")).generate([cell()], settings=settings_of("flux")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "tpu"}, "the device must be there; asked for 'tpu'"),
        ({"device": "cpu", "dtype": "bfloat16"}, "on a CPU the dtype must be float32; asked for bfloat16"),
    ],
)
def test_device_and_dtype_that_do_not_exist_here_are_refused(changes: dict[str, str], words: str, bases: Bases) -> None:
    with pytest.raises(DeviceError, match=words):
        DiffusersBackend(ModelConfig(base=str(bases("flux")), **changes))


def test_not_finite_pixels_become_black() -> None:
    values = np.array([[[np.nan, np.inf, -np.inf], [0.5, 1.5, -1.0]]], dtype=np.float32)

    assert diffusers_backend._to_uint8(values).tolist() == [[[0, 255, 0], [128, 255, 0]]]


def test_unknown_hub_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    def unreachable(*arguments: Any, **options: Any) -> str:
        raise OSError("no such repository")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", unreachable)

    with pytest.raises(BaseNotFoundError, match=r"not to be had from the hub: no such repository"):
        DiffusersBackend(ModelConfig(base="someone/some-model"))


def test_layer_that_takes_no_adapter_is_refused(
    flux: DiffusersBackend, flux_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    flux.unload_candidate()
    monkeypatch.setattr(peft, "inject_adapter_in_model", lambda config, model, adapter_name: model)

    with pytest.raises(
        AttachmentError, match=r"every module of an adapter must be attached; transformer\..* did not take"
    ):
        flux.load_candidate(read_adapter(flux_adapter))
    assert flux._attached == []
