"""A pipeline around networks in training: what is shared with the script, what is read from the base, what is not."""

from __future__ import annotations

import gc
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.plan import GenerationSettings
from lorabench.training.first_encoding import encode_once
from lorabench.training.trainers.assembled_pipeline import (
    Networks,
    NoRoomError,
    Origin,
    ScriptBaseError,
    _room_for,
    assemble,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Small bases with random weights."""
    savers = runpy.run_path(str(Path(__file__).parents[1] / "generation" / "conftest.py"))["SAVERS"]
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            declare_missing_operators()
            made[family] = tmp_path_factory.mktemp("bases") / family
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                savers[family](made[family])
        return made[family]

    return of


def networks_of(folder: Path, **kinds: str) -> tuple[Networks, dict[str, Any]]:
    """Networks as a script loads them, with an adapter in the denoiser."""
    import diffusers
    import transformers
    from peft import LoraConfig

    networks, loaded = Networks(), {}
    for name, kind in kinds.items():
        found = getattr(diffusers, kind, None) or getattr(transformers, kind)
        loaded[name] = found.from_pretrained(folder / name)
        networks.add(loaded[name], source=str(folder), component=name)
    for name in ("unet", "transformer"):
        if name in loaded:
            loaded[name].add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    return networks, loaded


UNET = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}


def assembled(folder: Path, networks: Networks, trained: list[Any], *, half_precision: bool = False) -> Any:
    return assemble(
        Origin(str(folder)), networks=networks, trained=trained, device="cpu", half_precision=half_precision
    )


@pytest.mark.parametrize(
    ("family", "denoiser"),
    [
        ("sd15", "UNet2DConditionModel"),
        ("sdxl", "UNet2DConditionModel"),
        ("flux", "FluxTransformer2DModel"),
        ("flux2", "Flux2Transformer2DModel"),
    ],
)
def test_every_family_makes_pictures_with_the_network_in_training(
    family: str, denoiser: str, base: Callable[[str], Path]
) -> None:
    name = "unet" if denoiser.startswith("UNet") else "transformer"
    networks, loaded = networks_of(base(family), **{name: denoiser})

    made = assembled(base(family), networks, [loaded[name]])

    assert getattr(made.pipeline, name) is loaded[name]
    assert made.foreign == ()
    assert made.folder == base(family)
    more = {} if family in ("sd15", "sdxl") else {"max_sequence_length": 16}
    picture = made.pipeline(prompt="a red circle", height=32, width=32, num_inference_steps=1, output_type="np", **more)
    assert picture.images.shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("family", "name", "denoiser"),
    [("sdxl", "unet", "UNet2DConditionModel"), ("flux2", "transformer", "Flux2Transformer2DModel")],
)
def test_text_encoders_hang_up_their_hooks_before_a_guard_records(
    family: str, name: str, denoiser: str, base: Callable[[str], Path]
) -> None:
    from lorabench.generation.families import FAMILIES
    from lorabench.training.guard import undisturbed

    networks, loaded = networks_of(base(family), **{name: denoiser})
    pipeline = assembled(base(family), networks, [loaded[name]]).pipeline
    settings = GenerationSettings(max_sequence_length=16)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    encode_once(pipeline)

    assert torch.equal(torch.get_rng_state(), before)
    with undisturbed(pipeline):
        assert FAMILIES[type(pipeline).__name__].encode(pipeline, "a red circle", settings=settings)


def test_living_networks_are_shared_and_gone_ones_read(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), **UNET)
    gone = loaded.pop("text_encoder").state_dict()

    made = assembled(base("sd15"), networks, [loaded["unet"]])

    assert made.pipeline.vae is loaded["vae"]
    assert made.pipeline.safety_checker is None
    again = made.pipeline.text_encoder.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in gone.items())
    assert not any(one.requires_grad for one in made.pipeline.text_encoder.parameters())


def test_nothing_is_kept_alive_that_the_script_lets_go(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), **UNET)
    index = {"vae": "AutoencoderKL"}

    assert networks.alive(index)["vae"][0] is loaded["vae"]
    loaded.clear()
    gc.collect()
    assert networks.alive(index) == {}


def test_of_several_loads_of_a_component_the_newest_counts(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), **UNET)
    again, newest = networks_of(base("sd15"), vae="AutoencoderKL")
    networks.add(newest["vae"], source="elsewhere", component=None)
    del again

    found, source = networks.alive({"vae": "AutoencoderKL"})["vae"]

    assert found is newest["vae"]
    assert source == "elsewhere"
    assert loaded["vae"] is not found


def test_weights_from_elsewhere_are_told(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), unet=UNET["unet"])
    _, other = networks_of(base("sdxl"), vae="AutoencoderKL")
    networks.add(other["vae"], source=str(base("sdxl")), component=None)

    made = assembled(base("sd15"), networks, [loaded["unet"]])

    assert made.pipeline.vae is other["vae"]
    assert made.foreign == ("vae",)


def test_in_half_precision_the_autoencoder_is_one_in_float32(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), **UNET)
    loaded["vae"].half()

    whole = assembled(base("sd15"), networks, [loaded["unet"]])
    half = assembled(base("sd15"), networks, [loaded["unet"]], half_precision=True)

    assert whole.pipeline.vae is loaded["vae"]
    assert half.pipeline.vae is not loaded["vae"]
    assert {one.dtype for one in half.pipeline.vae.parameters()} == {torch.float32}
    assert half.pipeline.text_encoder is loaded["text_encoder"]


def test_network_on_another_device_is_read_anew(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), **UNET)
    loaded["vae"].to("meta")

    made = assembled(base("sd15"), networks, [loaded["unet"]])

    assert made.pipeline.vae is not loaded["vae"]


def test_both_text_encoders_in_training_are_the_pipeline_s(base: Callable[[str], Path]) -> None:
    kinds = UNET | {"text_encoder_2": "CLIPTextModelWithProjection"}
    networks, loaded = networks_of(base("sdxl"), **kinds)
    trained = [loaded["unet"], loaded["text_encoder"], loaded["text_encoder_2"]]

    made = assembled(base("sdxl"), networks, trained)

    assert [made.pipeline.unet, made.pipeline.text_encoder, made.pipeline.text_encoder_2] == trained


def test_base_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "SanaPipeline"}), encoding="utf-8")

    with pytest.raises(ScriptBaseError, match=r"must hold a text-to-image pipeline .*it says SanaPipeline.*watch"):
        assembled(tmp_path, Networks(), [])


def test_training_of_something_else_is_refused(base: Callable[[str], Path]) -> None:
    networks, loaded = networks_of(base("sd15"), text_encoder="CLIPTextModel")

    with pytest.raises(ScriptBaseError, match="the script trains CLIPTextModel"):
        assembled(base("sd15"), networks, [loaded["text_encoder"]])


def test_base_that_is_not_to_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    declare_missing_operators()
    from diffusers import DiffusionPipeline

    def refused(*_: Any, **__: Any) -> str:
        raise OSError("no such repository")

    monkeypatch.setattr(DiffusionPipeline, "download", refused)

    with pytest.raises(ScriptBaseError, match="someone/else: no such repository"):
        assemble(Origin("someone/else"), networks=Networks(), trained=[], device="cpu", half_precision=False)


def test_full_device_is_told_with_what_had_no_room() -> None:
    with (
        pytest.raises(NoRoomError, match=r"no room for text_encoder_2, .*lorabench watch"),
        _room_for(["text_encoder_2"]),
    ):
        raise torch.OutOfMemoryError
