"""The loss on fixed noise and the function drift, on live pipelines of every family."""

from __future__ import annotations

import json
import math
import random
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.plan import GenerationSettings
from lorabench.training.asking import ByLevel, Encoded, LossNotFiniteError, NoLiveAdapterError
from lorabench.training.drift import (
    GuidanceUnheardError,
    NoGuidanceInputError,
    drift,
    drift_reading,
    guidance_reading,
)
from lorabench.training.loss import (
    LossReading,
    OtherLossError,
    chosen_pictures,
    denoising_loss,
    loss_gap,
    relative_loss,
)
from lorabench.training.objectives import (
    EncoderGoneError,
    FluxFlow,
    NoiseDensity,
    UnknownObjectiveError,
    denoiser_of,
    family_of,
    objective_of,
)
from lorabench.training.unrelated_prompts import UNRELATED_PROMPTS

torch = pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[3]
SETTINGS = GenerationSettings(height=128, width=128, max_sequence_length=24)
SMALL = GenerationSettings(height=32, width=32)
PROMPTS = ("a photo of a red circle", "a photo of a blue square left of a green star")
FAMILIES = ("flux", "flux2", "sdxl", "sd15")


@pytest.fixture(scope="module")
def base() -> Any:
    declare_missing_operators()
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(ROOT / "fixtures" / "models" / "tiny-flux")
    pipe.transformer.requires_grad_(False)
    return pipe


@pytest.fixture
def flux(base: Any) -> Iterator[Any]:
    """Tiny FLUX with an adapter that acts; taken off again after the test."""
    attach(base.transformer)
    yield base
    base.transformer.delete_adapters(["default"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A pipeline of a family, with random weights and an adapter in its network."""
    savers = runpy.run_path(str(ROOT / "tests" / "unit" / "generation" / "conftest.py"))["SAVERS"]
    made: dict[str, Any] = {}

    def of(family: str) -> Any:
        if family not in made:
            declare_missing_operators()
            from diffusers import DiffusionPipeline

            folder = tmp_path_factory.mktemp("bases") / family
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                savers[family](folder)
            pipe = DiffusionPipeline.from_pretrained(folder)
            attach(getattr(pipe, "transformer", None) or pipe.unet)
            made[family] = pipe
        return made[family]

    return of


def attach(model: Any, *, dropout: float = 0.0) -> None:
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model.add_adapter(
            LoraConfig(
                r=4, lora_alpha=4, lora_dropout=dropout, target_modules=["to_q", "to_v"], init_lora_weights=False
            )
        )


def lora_layers(pipe: Any) -> list[Any]:
    model = getattr(pipe, "transformer", None) or pipe.unet
    return [layer for layer in model.modules() if hasattr(layer, "lora_A")]


def set_scale(pipe: Any, scale: float) -> None:
    for layer in lora_layers(pipe):
        layer.scaling["default"] = scale


def training_set(count: int, *, first: int = 0) -> tuple[list[np.ndarray], list[str]]:
    folder = ROOT / "fixtures" / "datasets" / "healthy"
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = rows[first : first + count]
    return [np.asarray(Image.open(folder / row["file_name"]).convert("RGB")) for row in rows], [
        row["text"] for row in rows
    ]


def random_pictures(count: int, *, size: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def everything_of(pipe: Any) -> list[Any]:
    """Modes, gradient flags, switches and weights."""
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    flags = [parameter.requires_grad for part in modules for parameter in part.parameters()]
    modes = [module.training for part in modules for module in part.modules()]
    switches = [(layer.disable_adapters, tuple(layer.active_adapters)) for layer in lora_layers(pipe)]
    sums = [float(parameter.detach().double().sum()) for part in modules for parameter in part.parameters()]
    return [flags, modes, switches, sums, dict(pipe.scheduler.config), torch.is_grad_enabled()]


def generators() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


# ------------------------------------------------------------------------------------------------------ the loss


def test_two_calls_give_identical_bits(flux: Any) -> None:
    pictures, captions = training_set(2)

    first = denoising_loss(flux, pictures, captions, settings=SETTINGS)
    second = denoising_loss(flux, pictures, captions, settings=SETTINGS, encoded=Encoded())

    assert first == second


def test_a_picture_s_loss_does_not_depend_on_the_others_or_their_order(flux: Any) -> None:
    pictures, captions = training_set(3)
    together = denoising_loss(flux, pictures, captions, settings=SETTINGS)
    backwards = denoising_loss(flux, pictures[::-1], captions[::-1], settings=SETTINGS)
    alone = denoising_loss(flux, pictures[1:2], captions[1:2], settings=SETTINGS)

    assert together.values == backwards.values[::-1]
    assert together.values[1] == alone.values[0]


def test_nothing_is_left_changed_and_no_generator_is_touched(flux: Any) -> None:
    flux.transformer.train()
    flux.text_encoder.eval()
    next(flux.transformer.parameters()).requires_grad_(True)
    lora_layers(flux)[0].lora_A["default"].weight.requires_grad_(False)
    pictures, captions = training_set(1)
    before, drawn = everything_of(flux), generators()

    denoising_loss(flux, pictures, captions, settings=SETTINGS)
    drift(flux, PROMPTS, settings=SETTINGS)

    assert everything_of(flux) == before
    assert generators() == drawn
    next(flux.transformer.parameters()).requires_grad_(False)


def test_dropout_is_off(base: Any) -> None:
    pictures, captions = training_set(1)
    readings = []
    for dropout in (0.0, 0.5):
        attach(base.transformer, dropout=dropout)
        base.transformer.train()
        readings.append(denoising_loss(base, pictures, captions, settings=SETTINGS))
        base.transformer.delete_adapters(["default"])

    assert readings[0] == readings[1]


def test_modes_and_switches_come_back_after_an_error(flux: Any) -> None:
    flux.transformer.train()
    before = everything_of(flux)

    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    flux.transformer.forward = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        drift(flux, PROMPTS, settings=SETTINGS)
    del flux.transformer.forward

    assert everything_of(flux) == before


def test_zero_predictor_on_unit_noise_gives_one_plus_the_mean_square_of_the_latents(base: Any) -> None:
    pictures, captions = training_set(2)
    encoded = Encoded()
    original = type(base.transformer).forward

    def zero(_self: Any, *, hidden_states: Any, **_kwargs: Any) -> Any:
        return (torch.zeros_like(hidden_states),)

    type(base.transformer).forward = zero
    try:
        reading = denoising_loss(base, pictures, captions, settings=SETTINGS, n_strata=8, encoded=encoded)
    finally:
        type(base.transformer).forward = original

    # E (e - x0)^2 = 1 + E x0^2 and the antithetic pair takes the cross term out, so only chi^2 noise is left.
    for picture, loss in zip(pictures, reading.pictures, strict=True):
        expected = 1 + float(encoded.latents(base, picture).square().mean())
        assert loss == pytest.approx(expected, abs=5 * math.sqrt(2 / (8 * 8 * 256)))


def test_cost_is_counted_in_forwards(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, captions = training_set(2)
    seen = []
    original = type(base.transformer).forward

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(kwargs["hidden_states"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(base.transformer), "forward", counting)
    reading = denoising_loss(base, pictures, captions, settings=SETTINGS, n_strata=4, batch_size=3)

    assert reading.n_forwards == sum(seen) == 2 * 2 * 4
    assert max(seen) == 3


def test_pictures_and_texts_are_encoded_once(flux: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, captions = training_set(1)
    encoded = Encoded()
    first = denoising_loss(flux, pictures, captions, settings=SETTINGS, n_strata=2, encoded=encoded)
    started = drift(flux, PROMPTS[:1], settings=SETTINGS, encoded=encoded)
    monkeypatch.setattr(flux, "encode_prompt", None)
    monkeypatch.setattr(flux.vae, "encode", None)

    assert denoising_loss(flux, pictures, captions, settings=SETTINGS, n_strata=2, encoded=encoded) == first
    assert drift(flux, PROMPTS[:1], settings=SETTINGS, encoded=encoded) == started


@pytest.mark.parametrize("told", [True, False])
def test_texts_are_encoded_anew_while_a_text_encoder_is_trained(flux: Any, told: bool) -> None:
    pictures, captions = training_set(1)
    encoded = Encoded(text_is_trained=told)
    if not told:
        from peft import LoraConfig

        flux.text_encoder_2.add_adapter(LoraConfig(r=2, target_modules=["q", "v"]), adapter_name="default")
    first = denoising_loss(flux, pictures, captions, settings=SETTINGS, n_strata=2, encoded=encoded)
    changed = next(layer for layer in flux.text_encoder_2.modules() if type(layer).__name__.endswith("RMSNorm")
                   or hasattr(layer, "variance_epsilon"))  # fmt: skip
    with torch.no_grad():
        changed.weight.mul_(1.5)
    second = denoising_loss(flux, pictures, captions, settings=SETTINGS, n_strata=2, encoded=encoded)
    with torch.no_grad():
        changed.weight.div_(1.5)
    if not told:
        flux.text_encoder_2.delete_adapter("default")

    assert second.values != first.values


@pytest.mark.parametrize(("part", "name"), [("vae", "autoencoder"), ("text_encoder", "text encoder")])
def test_an_encoder_that_is_gone_is_said(
    part: str, name: str, tiny: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tiny("sd15")
    monkeypatch.setattr(pipe, part, None)

    with pytest.raises(EncoderGoneError, match=f"be encoded while the pipeline still has its {name}; that of Stable"):
        denoising_loss(pipe, random_pictures(1), ["a cat"])


def test_the_network_is_asked_without_what_wraps_it() -> None:
    model = torch.nn.Linear(1, 1)

    for wrapped in (torch.compile(model), torch.nn.DataParallel(model), torch.nn.DataParallel(torch.compile(model))):
        assert denoiser_of(SimpleNamespace(transformer=wrapped)) is model


def test_damaged_weights_are_found(flux: Any) -> None:
    pictures, captions = training_set(1)
    weight = lora_layers(flux)[0].lora_B["default"].weight
    with torch.no_grad():
        kept = weight.clone()
        weight[0, 0] = float("nan")
    with pytest.raises(LossNotFiniteError, match=r"on fixed noise must be finite; picture 0 at noise level 0\.062"):
        denoising_loss(flux, pictures, captions, settings=SETTINGS)
    with pytest.raises(LossNotFiniteError, match="the adapter on 'a photo of a red circle'"):
        drift(flux, PROMPTS, settings=SETTINGS)
    with torch.no_grad():
        weight.copy_(kept)


def test_pictures_need_captions(base: Any) -> None:
    with pytest.raises(ValueError, match="a loss needs pictures with one caption each; got 1 pictures, 0 captions"):
        denoising_loss(base, random_pictures(1), [])
    with pytest.raises(ValueError, match="n_strata must be at least 1"):
        denoising_loss(base, random_pictures(1, size=128), ["a"], settings=SETTINGS, n_strata=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        denoising_loss(base, random_pictures(1), ["a"], batch_size=0)


# ------------------------------------------------------------------------------------------------------ families


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_twice_alike_and_hears_its_adapter(family: str, tiny: Callable[[str], Any]) -> None:
    pipe, pictures, encoded = tiny(family), random_pictures(2), Encoded()
    set_scale(pipe, 1.0)
    first = denoising_loss(pipe, pictures, ["a cat", "a dog"], n_strata=4, encoded=encoded)
    again = denoising_loss(pipe, pictures, ["a cat", "a dog"], n_strata=4, encoded=encoded)
    moved = drift(pipe, ["a cat"], settings=SMALL)
    set_scale(pipe, 0.0)
    without = denoising_loss(pipe, pictures, ["a cat", "a dog"], n_strata=4, encoded=encoded)

    assert first == again
    assert first.values != without.values
    assert moved > 0
    assert drift(pipe, ["a cat"], settings=SMALL) == 0.0


@pytest.mark.parametrize("family", ["flux", "flux2"])
def test_flow_network_is_asked_as_its_pipeline_asks_it(family: str, tiny: Callable[[str], Any]) -> None:
    """One step of the pipeline's own sampler from noise to clean is noise minus velocity."""
    pipe = tiny(family)
    set_scale(pipe, 1.0)
    encoded, objective = Encoded(), objective_of(pipe)
    noise = torch.randn((1, *family_of(pipe).noise_shape(pipe, SMALL)), generator=torch.Generator().manual_seed(1))
    text = encoded.text(pipe, "a cat", settings=SMALL)
    with torch.no_grad():
        velocity = objective.predict(pipe, noise, levels=torch.ones(1, 1, 1, 1), text=text, guidance_scale=1.0)
    arguments = {"guidance_scale": 1.0, "num_inference_steps": 1, "output_type": "latent", "return_dict": False}
    packed = family_of(pipe).pack(noise)
    made = pipe(prompt="a cat", height=32, width=32, latents=packed.clone(), **arguments)[0]

    expected = noise - velocity
    if made.dim() == 3:
        expected = family_of(pipe).pack(expected)
    else:
        mean = pipe.vae.bn.running_mean.view(1, -1, 1, 1)
        std = torch.sqrt(pipe.vae.bn.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps)
        expected = pipe._unpatchify_latents(expected * std + mean)
    assert torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
def test_unet_is_asked_as_its_pipeline_asks_it(family: str, tiny: Callable[[str], Any]) -> None:
    pipe = tiny(family)
    set_scale(pipe, 1.0)
    seen: list[Any] = []
    hook = pipe.unet.register_forward_hook(
        lambda _module, args, kwargs, output: seen.append((args, kwargs, output)), with_kwargs=True
    )
    pipe("a cat", height=32, width=32, guidance_scale=1.0, num_inference_steps=1, output_type="latent",
         generator=torch.Generator().manual_seed(1))  # fmt: skip
    hook.remove()
    (noised, timestep), kwargs, output = seen[0]
    level = torch.full((1, 1, 1, 1), (float(timestep) + 0.5) / 1000)
    text = Encoded().text(pipe, "a cat", settings=SMALL)
    with torch.no_grad():
        answer = objective_of(pipe).predict(pipe, noised, levels=level, text=text, guidance_scale=1.0)

    assert torch.allclose(answer, output[0], atol=1e-5)
    if family == "sdxl":
        assert kwargs["added_cond_kwargs"]["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_targets_of_diffusion_are_those_of_its_scheduler(kind: str, tiny: Callable[[str], Any]) -> None:
    pipe = tiny("sd15")
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=kind)
    like = SimpleNamespace(scheduler=scheduler)
    x, e = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([10, 500, 990])
    levels = ((timesteps + 0.5) / 1000).reshape(-1, 1, 1, 1)
    objective = objective_of(pipe)

    noised = objective.mix(like, x, e, levels=levels)
    target = objective.target(like, x, e, levels=levels)
    clean, noise = objective.split(like, noised, target, levels=levels)

    assert torch.allclose(noised, scheduler.add_noise(x, e, timesteps), atol=1e-5)
    assert torch.allclose(target, e if kind == "epsilon" else scheduler.get_velocity(x, e, timesteps), atol=1e-5)
    assert torch.allclose(clean, x, atol=1e-3)
    assert torch.allclose(noise, e, atol=1e-3)


def test_flow_splits_what_it_mixed() -> None:
    x, e = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    levels = torch.tensor([0.1, 0.5, 1.0]).reshape(-1, 1, 1, 1)
    flow = FluxFlow()
    noised, target = flow.mix(None, x, e, levels=levels), flow.target(None, x, e, levels=levels)
    clean, noise = flow.split(None, noised, target, levels=levels)

    assert torch.allclose(clean, x, atol=1e-5)
    assert torch.allclose(noise, e, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_strata_are_shifted_as_the_base_s_scheduler_shifts(dynamic: bool, base: Any) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    like = SimpleNamespace(scheduler=scheduler)
    latents = torch.zeros(1, 8, 64, 64)  # 1024 tokens
    shift = objective_of(base).shift(like, latents)
    even = np.array([0.9, 0.5, 0.1])
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (1024 - 256)
    scheduler.set_timesteps(sigmas=even, **({"mu": mu} if dynamic else {}))

    assert [NoiseDensity().level(q, shift=shift) for q in even] == pytest.approx(scheduler.sigmas[:-1].tolist())


def test_strata_have_equal_shares_of_the_trainer_s_density() -> None:
    density = NoiseDensity(kind="logit_normal", mean=1.8, std=1.3, shift=1.0)
    drawn = 1 / (1 + np.exp(-(1.8 + 1.3 * np.random.default_rng(1).standard_normal(200_000))))
    edges = [density.level(k / 8, shift=7.0) for k in range(1, 8)]

    assert np.diff([0, *np.searchsorted(np.sort(drawn), edges), len(drawn)]) / len(drawn) == pytest.approx(
        1 / 8, abs=0.003
    )


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ({"config": SimpleNamespace(prediction_type="sample"), "alphas_cumprod": 1}, "prediction type 'sample'"),
        ({"config": SimpleNamespace(prediction_type="epsilon")}, "SimpleNamespace has no table of noise levels"),
    ],
)
def test_unknown_objectives_are_unmeasured_with_a_reason(scheduler: dict[str, Any], words: str) -> None:
    pipe = type("StableDiffusionPipeline", (), {"scheduler": SimpleNamespace(**scheduler)})()

    with pytest.raises(UnknownObjectiveError, match="whose training objective is known; StableDiffusionPipeline") as e:
        denoising_loss(pipe, random_pictures(1), ["a cat"])
    assert words in str(e.value)
    with pytest.raises(UnknownObjectiveError, match="known are FluxPipeline"):
        objective_of(SimpleNamespace())


# --------------------------------------------------------------------------------------------------- comparisons


def reading(values: list[list[float]], *, identity: str = "a") -> LossReading:
    n = len(values[0])
    levels = tuple((k + 0.5) / n for k in range(n))
    return LossReading(identity=identity, levels=levels, values=tuple(map(tuple, values)), n_forwards=2 * n)


def test_relative_loss_is_one_at_step_0_and_a_ratio_of_means_after() -> None:
    first = reading([[1.0, 3.0], [2.0, 2.0]])
    now = reading([[0.5, 3.0], [1.0, 2.0]])

    same, moved = relative_loss(first, first), relative_loss(now, first)

    assert (same.value, same.standard_error, same.strata) == (1.0, 0.0, (1.0, 1.0))
    assert moved.value == pytest.approx(6.5 / 8)
    assert moved.strata == pytest.approx((0.5, 1.0))
    # By hand: picture means 1.75 and 1.5 against 2 and 2; residuals 0.125 and -0.125 over a mean of 2.
    assert moved.standard_error == pytest.approx(0.0625 * math.sqrt(2) / math.sqrt(2))
    assert (now.pictures, now.strata) == ((1.75, 1.5), (0.75, 2.5))


def test_one_picture_has_no_standard_error_and_no_signal_of_it() -> None:
    one = relative_loss(reading([[1.0, 3.0]]), reading([[1.0, 3.0]]))

    assert one.standard_error is None
    assert one.signals("loss") == {"loss": 1.0, "loss_s1": 1.0, "loss_s2": 1.0}


def test_signals_carry_their_standard_error() -> None:
    level = ByLevel(value=0.5, standard_error=0.1, levels=(0.5,), strata=(0.5,))

    assert level.signals("drift") == {"drift": 0.5, "drift_s1": 0.5, "drift_se": 0.1}


def test_gap_is_zero_at_step_0_and_grows_when_only_training_pictures_get_better() -> None:
    held_out, training = reading([[1.0, 2.0], [2.0, 3.0]]), reading([[4.0, 4.0], [5.0, 5.0]], identity="b")
    better = reading([[3.0, 4.0], [4.0, 5.0]], identity="b")

    start = loss_gap(held_out, training, held_out_first=held_out, training_first=training)
    later = loss_gap(held_out, better, held_out_first=held_out, training_first=training)

    assert (start.value, start.strata) == (0.0, (0.0, 0.0))
    assert later.value == pytest.approx(0.5 / 2.0)
    assert later.strata == pytest.approx((1.0 / 1.5, 0.0))
    assert later.standard_error == pytest.approx(0.0)


def test_readings_of_other_pictures_are_refused() -> None:
    a, b = reading([[1.0]]), reading([[1.0]], identity="b")

    with pytest.raises(OtherLossError, match="compared only on the same pictures, captions, levels and noise"):
        relative_loss(a, b)
    two = reading([[1.0], [1.0]])
    with pytest.raises(ValueError, match="as many training as held-out pictures; got 2, 1"):
        loss_gap(a, two, held_out_first=a, training_first=two)


def test_identity_changes_with_captions_and_pictures_only(flux: Any) -> None:
    pictures, captions = training_set(1)

    def identity(caption: str, scale: float) -> str:
        set_scale(flux, scale)
        return denoising_loss(flux, pictures, [caption], settings=SETTINGS, n_strata=1).identity

    assert identity(captions[0], 1.0) == identity(captions[0], 0.0) != identity("another", 0.0)


def test_training_pictures_against_held_out_ones_do_not_depend_on_their_order() -> None:
    pictures = random_pictures(6)
    chosen = {pictures[index].tobytes() for index in chosen_pictures(pictures, 3)}
    backwards = pictures[::-1]

    assert {backwards[index].tobytes() for index in chosen_pictures(backwards, 3)} == chosen
    with pytest.raises(ValueError, match="a gap needs 7 training pictures; there are 6"):
        chosen_pictures(pictures, 7)


# --------------------------------------------------------------------------------------------------------- drift


def test_drift_is_exactly_zero_at_scale_0(flux: Any) -> None:
    set_scale(flux, 0.0)

    assert drift_reading(flux, PROMPTS, settings=SETTINGS).strata == (0.0,) * 4


def test_drift_is_quadratic_in_small_scales(flux: Any) -> None:
    encoded = Encoded()
    found = []
    for scale in (0.005, 0.01, 0.02):
        set_scale(flux, scale)
        found.append(drift(flux, PROMPTS, settings=SETTINGS, encoded=encoded))

    assert found[1] / found[0] == pytest.approx(4.0, rel=0.1)
    assert found[2] / found[1] == pytest.approx(4.0, rel=0.1)


def test_drift_gives_identical_bits_twice_with_and_without_memory(flux: Any) -> None:
    encoded = Encoded()

    first = drift_reading(flux, PROMPTS, settings=SETTINGS, encoded=encoded)
    again = drift_reading(flux, PROMPTS, settings=SETTINGS, encoded=encoded)

    assert (again.value, again.strata) == (first.value, first.strata)
    assert first.value > 0
    assert drift(flux, PROMPTS, settings=SETTINGS) == first.value


def test_drift_makes_the_base_s_answers_once(flux: Any) -> None:
    encoded = Encoded()

    first = drift_reading(flux, PROMPTS, settings=SETTINGS, n_strata=3, encoded=encoded)
    again = drift_reading(flux, PROMPTS, settings=SETTINGS, n_strata=3, encoded=encoded)

    assert first.n_forwards == 2 * (4 + 3 + 3)
    assert again.n_forwards == 2 * 3


def test_drift_is_that_of_the_formula(flux: Any) -> None:
    """An adapter that doubles every answer has moved it by its own size."""
    set_scale(flux, 0.0)
    original = type(flux.transformer).forward

    def doubled_when_on(self: Any, *args: Any, **kwargs: Any) -> Any:
        on = not lora_layers(flux)[0].disable_adapters
        return (original(self, *args, **kwargs)[0] * (2.0 if on else 1.0),)

    type(flux.transformer).forward = doubled_when_on
    try:
        assert drift(flux, PROMPTS, settings=SETTINGS) == pytest.approx(1.0, rel=1e-6)
    finally:
        type(flux.transformer).forward = original


def test_base_is_heard_without_the_adapter_of_its_text_encoder(flux: Any) -> None:
    from peft import LoraConfig

    set_scale(flux, 0.0)
    flux.text_encoder_2.add_adapter(
        LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False), adapter_name="default"
    )
    moved = drift(flux, PROMPTS, settings=SETTINGS)
    flux.text_encoder_2.delete_adapter("default")

    assert moved > 0


def test_without_a_live_adapter_there_is_no_drift(base: Any) -> None:
    with pytest.raises(NoLiveAdapterError, match="FluxPipeline has no adapter layer that is switched on"):
        drift(base, PROMPTS, settings=SETTINGS)
    attach(base.transformer)
    base.transformer.disable_adapters()
    with pytest.raises(NoLiveAdapterError, match="network with its adapter on and off"):
        drift(base, PROMPTS, settings=SETTINGS)
    base.transformer.delete_adapters(["default"])
    with pytest.raises(ValueError, match="a drift needs prompts; got none"):
        drift(base, [], settings=SETTINGS)


def test_unrelated_prompts_are_32_different_ones() -> None:
    assert len(set(UNRELATED_PROMPTS)) == len(UNRELATED_PROMPTS) == 32


@pytest.fixture
def guided(tiny: Callable[[str], Any]) -> Any:
    """FLUX as it is distilled: guidance is an input; an adapter of full rank on that input, which does nothing yet."""
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from peft import LoraConfig

    parts = dict(tiny("flux").components)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = {**parts["transformer"].config, "guidance_embeds": True}
        model = FluxTransformer2DModel.from_config(config)
        with torch.no_grad():
            model.time_text_embed.guidance_embedder.linear_2.weight.mul_(20)
        width = model.time_text_embed.guidance_embedder.linear_2.in_features
        model.add_adapter(LoraConfig(r=width, lora_alpha=width, target_modules=["guidance_embedder.linear_2"]))
    return FluxPipeline(**{**parts, "transformer": model.eval()})


def mute(pipe: Any, share: float) -> None:
    """Let the adapter take away a share of what the network is told about guidance."""
    layer = pipe.transformer.time_text_embed.guidance_embedder.linear_2
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(torch.eye(layer.in_features))
        layer.lora_B["default"].weight.copy_(-share * layer.base_layer.weight)


def test_an_adapter_that_does_nothing_loses_no_answer_to_guidance(guided: Any) -> None:
    found = guidance_reading(guided, PROMPTS, settings=SMALL)

    assert found.value == 0.0
    assert found.strata == (0.0, 0.0)
    assert found.n_forwards == len(PROMPTS) * (4 + 4 + 4)


def test_an_adapter_that_mutes_guidance_loses_all_of_the_answer(guided: Any) -> None:
    mute(guided, 1.0)

    assert guidance_reading(guided, PROMPTS, settings=SMALL).value == pytest.approx(1.0, abs=1e-3)


def test_the_share_of_the_answer_that_is_lost_grows_with_what_is_muted(guided: Any) -> None:
    values, encoded = [], Encoded()
    for share in (0.25, 0.5, 0.75):
        mute(guided, share)
        values.append(guidance_reading(guided, PROMPTS, settings=SMALL, encoded=encoded))

    assert 0.02 < values[0].value < values[1].value < values[2].value < 0.98
    assert [one.n_forwards for one in values] == [24, 8, 8]
    assert all(one.standard_error is not None for one in values)


def test_networks_without_a_guidance_input_are_refused_in_words(tiny: Callable[[str], Any]) -> None:
    with pytest.raises(NoGuidanceInputError, match=r"needs a network that takes guidance as an input; .* takes none\."):
        guidance_reading(tiny("sdxl"), PROMPTS, settings=SMALL)


def test_a_base_that_never_heard_guidance_is_no_measure(guided: Any) -> None:
    with torch.no_grad():
        guided.transformer.time_text_embed.guidance_embedder.linear_2.base_layer.weight.zero_()

    with pytest.raises(GuidanceUnheardError, match=r"the base's answer must change with guidance; between 1 and 5"):
        guidance_reading(guided, PROMPTS, settings=SMALL)


def test_no_adapter_loses_no_guidance(base: Any) -> None:
    with pytest.raises(NoLiveAdapterError):
        guidance_reading(base, PROMPTS, settings=SETTINGS)
