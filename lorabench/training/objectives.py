"""What each family of pipelines is trained to predict, and how its network is asked, one noised picture at a time.

A picture's latents x0, noise e and a level s between 0 (clean) and 1 (noise only). FLUX: x = (1 - s) x0 + s e, the
network gives the velocity e - x0. Stable Diffusion: x = a x0 + b e with a^2 + b^2 = 1 at the timestep that is s of
all, the network gives e or a e - b x0. Everything is read off the pipeline; nothing of it is changed, its scheduler
is never stepped.
"""

from __future__ import annotations

import copy
import math
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
from pydantic import FiniteFloat, PositiveFloat

from lorabench.errors import MeasurementError
from lorabench.generation.families import FAMILIES, Embeddings, Family
from lorabench.generation.placement import DENOISERS
from lorabench.generation.protocol import Picture
from lorabench.records.record import Record

Pipeline = Any
Tensor = Any


class UnknownObjectiveError(MeasurementError):
    """Nobody here knows what this pipeline's network is trained to predict."""

    def __init__(self, pipeline: str, *, reason: str) -> None:
        super().__init__(
            f"a denoising loss needs a base whose training objective is known; {pipeline}: {reason}. "
            f"Loss and drift stay unmeasured for it; pictures are judged all the same."
        )
        self.pipeline = pipeline


class EncoderGoneError(MeasurementError):
    """Something was not encoded while it could be."""

    def __init__(self, pipeline: str, *, part: str) -> None:
        super().__init__(
            f"pictures and captions must be encoded while the pipeline still has its {part}; that of {pipeline} is "
            f"gone. Read the loss once before it is freed, and keep the same Encoded for the whole training."
        )
        self.part = part


class NoiseDensity(Record):
    """How training draws the level of noise. Strata have equal shares of it."""

    kind: Literal["uniform", "logit_normal"] = "uniform"
    mean: FiniteFloat = 0.0
    """Of the logit, for `logit_normal`."""
    std: PositiveFloat = 1.0
    """Of the logit, for `logit_normal`."""
    shift: PositiveFloat | None = None
    """Moves the levels towards noise: s to shift s / (1 + (shift - 1) s). None takes the base's own scheduler's."""

    def level(self, quantile: float, *, shift: float) -> float:
        """Level of noise below which lies a share of the density.

        Args:
            quantile: Between 0 and 1, both excluded for `logit_normal`.
            shift: Used where the density states none.

        >>> NoiseDensity().level(0.5, shift=3.0)
        0.75
        """
        level = quantile
        if self.kind == "logit_normal":
            level = 1.0 / (1.0 + math.exp(-(self.mean + self.std * NormalDist().inv_cdf(quantile))))
        factor = shift if self.shift is None else self.shift
        return factor * level / (1.0 + (factor - 1.0) * level)


class Objective:
    """One family's arithmetic. Tensors are (n, c, h, w), levels (n, 1, 1, 1), all float32."""

    def latents(self, pipe: Pipeline, picture: Picture) -> Tensor:
        """A picture (h, w, 3) as the network sees it when clean, (1, c, h, w) on the CPU: the mode of its encoding."""
        vae = steady_vae(pipe)
        encoded = vae.encode(pixels_of(picture, vae=vae))
        values = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return ((values.float() - shift) * vae.config.scaling_factor).cpu()

    def shift(self, pipe: Pipeline, latents: Tensor) -> float:
        """How far the base's own sampling moves levels towards noise for latents of this size."""
        raise NotImplementedError

    def mix(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """Noised latents."""
        raise NotImplementedError

    def target(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """What the network should say of them."""
        raise NotImplementedError

    def split(self, pipe: Pipeline, noised: Tensor, prediction: Tensor, *, levels: Tensor) -> tuple[Tensor, Tensor]:
        """The clean latents and the noise that the network's answer amounts to."""
        raise NotImplementedError

    def predict(
        self, pipe: Pipeline, noised: Tensor, *, levels: Tensor, text: Embeddings, guidance_scale: float
    ) -> Tensor:
        """The network's answer.

        `text` has batch dimension 1 or that of the pictures; `guidance_scale` acts where it is an input.
        """
        raise NotImplementedError


class Flow(Objective):
    """Straight paths from picture to noise, as FLUX learns them (rectified flow, arXiv 2209.03003)."""

    def mix(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """(1 - s) x0 + s e."""
        del pipe
        return (1.0 - levels) * latents + levels * noise

    def target(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """The velocity e - x0, the same at all levels."""
        del pipe, levels
        return noise - latents

    def split(self, pipe: Pipeline, noised: Tensor, prediction: Tensor, *, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Clean x - s v, noise x + (1 - s) v."""
        del pipe
        return noised - levels * prediction, noised + (1.0 - levels) * prediction


class FluxFlow(Flow):
    """FLUX.1: tokens of 2 x 2 latents."""

    def shift(self, pipe: Pipeline, latents: Tensor) -> float:
        """As the scheduler's configuration says: one number, or one that grows with the number of tokens."""
        return _configured_shift(pipe.scheduler.config, n_tokens=latents.shape[-2] * latents.shape[-1] // 4)

    def predict(
        self, pipe: Pipeline, noised: Tensor, *, levels: Tensor, text: Embeddings, guidance_scale: float
    ) -> Tensor:
        """The velocity, out of the packed tokens."""
        import torch

        n, _, h, w = noised.shape
        model, family = denoiser_of(pipe), family_of(pipe)
        packed = family.pack(noised)
        grid = torch.arange(h // 2 * (w // 2), device=packed.device)
        places = torch.stack([torch.zeros_like(grid), grid // (w // 2), grid % (w // 2)], dim=1)
        embeds, pooled = (_repeated(one, n, model=model) for one in text)
        answer = model(
            hidden_states=packed.to(model.dtype),
            timestep=levels.flatten().to(model.dtype),
            guidance=_guidance(model, n=n, guidance_scale=guidance_scale, device=packed.device),
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=packed.device, dtype=model.dtype),
            img_ids=places.to(model.dtype),
            return_dict=False,
        )[0]
        patches = answer.float().reshape(n, h // 2, w // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(n, -1, h, w)


class Flux2Flow(Flow):
    """FLUX.2: one token per place of latents that were folded 2 x 2 and standardised."""

    def latents(self, pipe: Pipeline, picture: Picture) -> Tensor:
        """Folded and standardised by the autoencoder's running statistics, as the pipeline does for pictures."""
        vae = steady_vae(pipe)
        return pipe._encode_vae_image(pixels_of(picture, vae=vae), None).float().cpu()

    def shift(self, pipe: Pipeline, latents: Tensor) -> float:
        """As the scheduler's configuration says; FLUX.2's sampling also looks at the number of steps, training not."""
        return _configured_shift(pipe.scheduler.config, n_tokens=latents.shape[-2] * latents.shape[-1])

    def predict(
        self, pipe: Pipeline, noised: Tensor, *, levels: Tensor, text: Embeddings, guidance_scale: float
    ) -> Tensor:
        """The velocity."""
        model, device = denoiser_of(pipe), noised.device
        n = noised.shape[0]
        embeds = _repeated(text[0], n, model=model)
        answer = model(
            hidden_states=noised.flatten(2).transpose(1, 2).to(model.dtype),
            timestep=levels.flatten().to(model.dtype),
            guidance=_guidance(model, n=n, guidance_scale=guidance_scale, device=device),
            encoder_hidden_states=embeds,
            txt_ids=pipe._prepare_text_ids(embeds).to(device),
            img_ids=pipe._prepare_latent_ids(noised).to(device),
            return_dict=False,
        )[0]
        return answer.float().transpose(1, 2).reshape(noised.shape)


class Diffusion(Objective):
    """Stable Diffusion: the noise (arXiv 2006.11239) or v (arXiv 2202.00512), as the scheduler's configuration says."""

    def shift(self, pipe: Pipeline, latents: Tensor) -> float:
        """None: timesteps are drawn evenly."""
        del pipe, latents
        return 1.0

    def mix(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """A x0 + b e."""
        signal, sigma = self._coefficients(pipe, levels)
        return signal * latents + sigma * noise

    def target(self, pipe: Pipeline, latents: Tensor, noise: Tensor, *, levels: Tensor) -> Tensor:
        """The noise e, or a e - b x0."""
        if prediction_type(pipe) == "epsilon":
            return noise
        signal, sigma = self._coefficients(pipe, levels)
        return signal * noise - sigma * latents

    def split(self, pipe: Pipeline, noised: Tensor, prediction: Tensor, *, levels: Tensor) -> tuple[Tensor, Tensor]:
        """From the noise, or from v."""
        signal, sigma = self._coefficients(pipe, levels)
        if prediction_type(pipe) == "epsilon":
            return (noised - sigma * prediction) / signal, prediction
        return signal * noised - sigma * prediction, sigma * noised + signal * prediction

    def predict(
        self, pipe: Pipeline, noised: Tensor, *, levels: Tensor, text: Embeddings, guidance_scale: float
    ) -> Tensor:
        """The UNet's answer; SDXL also hears the picture's size, uncropped."""
        del guidance_scale
        model, n = denoiser_of(pipe), noised.shape[0]
        embeds = [_repeated(one, n, model=model) for one in text]
        extra = {} if len(embeds) == 1 else {"added_cond_kwargs": _size_condition(pipe, noised, pooled=embeds[1])}
        return model(
            noised.to(model.dtype),
            self._timesteps(pipe, levels),
            encoder_hidden_states=embeds[0],
            return_dict=False,
            **extra,
        )[0].float()

    def _timesteps(self, pipe: Pipeline, levels: Tensor) -> Tensor:
        count = len(pipe.scheduler.alphas_cumprod)
        return (levels.flatten() * count).long().clamp(max=count - 1)

    def _coefficients(self, pipe: Pipeline, levels: Tensor) -> tuple[Tensor, Tensor]:
        prediction_type(pipe)
        table = pipe.scheduler.alphas_cumprod.to(levels.device)
        share = table[self._timesteps(pipe, levels)].float().reshape(levels.shape)
        return share.sqrt(), (1.0 - share).sqrt()


_OBJECTIVES: Final[dict[str, Objective]] = {
    "flux": FluxFlow(),
    "flux2": Flux2Flow(),
    "sdxl": Diffusion(),
    "sd15": Diffusion(),
}


def family_of(pipe: Pipeline) -> Family:
    """The family of a live pipeline, also of a class derived from a known one.

    Raises:
        UnknownObjectiveError: None is known.
    """
    for kind in type(pipe).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    raise UnknownObjectiveError(type(pipe).__name__, reason=f"known are {', '.join(FAMILIES)}")


def objective_of(pipe: Pipeline) -> Objective:
    """What the pipeline's network is trained to predict.

    Raises:
        UnknownObjectiveError: The pipeline, or its prediction type, is not known.
    """
    objective = _OBJECTIVES[family_of(pipe).name]
    if isinstance(objective, Diffusion):
        prediction_type(pipe)
    return objective


def prediction_type(pipe: Pipeline) -> Literal["epsilon", "v_prediction"]:
    """What a Stable Diffusion's network says.

    Raises:
        UnknownObjectiveError: Something else, or its scheduler has no table of noise levels.
    """
    kind = getattr(pipe.scheduler.config, "prediction_type", None)
    if getattr(pipe.scheduler, "alphas_cumprod", None) is None:
        reason = f"{type(pipe.scheduler).__name__} has no table of noise levels (alphas_cumprod)"
        raise UnknownObjectiveError(type(pipe).__name__, reason=reason)
    if kind == "epsilon":
        return "epsilon"
    if kind == "v_prediction":
        return "v_prediction"
    raise UnknownObjectiveError(type(pipe).__name__, reason=f"prediction type {kind!r}")


def denoiser_of(pipe: Pipeline) -> Any:
    """The network that removes noise, out of what wraps it: asking it compiles nothing and waits for no other rank."""
    model = next(part for name in DENOISERS if (part := getattr(pipe, name, None)) is not None)
    for wrapper in ("module", "_orig_mod", "module"):  # of data-parallel training and of torch.compile
        model = getattr(model, wrapper, model)
    return model


def steady_vae(pipe: Pipeline) -> Any:
    """The autoencoder, in float32 where half precision would overflow; then a copy, for the pipeline's own stays.

    Raises:
        EncoderGoneError: The pipeline has none any more.
    """
    import torch

    vae = pipe.vae
    if vae is None:
        raise EncoderGoneError(type(pipe).__name__, part="autoencoder")
    if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        return copy.deepcopy(vae).float()
    return vae


def pixels_of(picture: Picture, *, vae: Any) -> Tensor:
    """A picture (h, w, 3), 0 to 255, as the autoencoder takes it: (1, 3, h, w), -1 to 1."""
    import torch

    device = next(vae.parameters()).device
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(device, vae.dtype) / 127.5 - 1


def _configured_shift(config: Any, *, n_tokens: int) -> float:
    if not getattr(config, "use_dynamic_shifting", False):
        return float(getattr(config, "shift", 1.0))
    few, many = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (many - few)
    mu = config.base_shift + slope * (n_tokens - few)
    return math.exp(mu) if getattr(config, "time_shift_type", "exponential") == "exponential" else float(mu)


def _repeated(tensor: Tensor, n: int, *, model: Any) -> Tensor:
    moved = tensor.to(next(model.parameters()).device)
    moved = moved.to(model.dtype) if moved.is_floating_point() else moved
    return moved.expand(n, *moved.shape[1:])


def _guidance(model: Any, *, n: int, guidance_scale: float, device: Any) -> Tensor | None:
    import torch

    if not getattr(model.config, "guidance_embeds", False):
        return None
    return torch.full((n,), guidance_scale, device=device, dtype=torch.float32)


def _size_condition(pipe: Pipeline, noised: Tensor, *, pooled: Tensor) -> dict[str, Tensor]:
    import torch

    n, _, h, w = noised.shape
    height, width = h * int(pipe.vae_scale_factor), w * int(pipe.vae_scale_factor)
    sizes = torch.tensor([[height, width, 0, 0, height, width]], device=noised.device, dtype=pooled.dtype)
    return {"text_embeds": pooled, "time_ids": sizes.repeat(n, 1)}
