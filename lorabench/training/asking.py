"""How a live network is asked on fixed noise: what is encoded once, which levels, adapters on and off, nothing moved.

Between two checkpoints only the weights differ: noise is decided by picture or prompt and stratum. Nothing draws from
a global generator; modes, switches and gradient flags are put back as they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt

from lorabench.errors import MeasurementError
from lorabench.generation.families import Embeddings
from lorabench.generation.noise import draw_noise
from lorabench.generation.protocol import Picture
from lorabench.records.plan import GenerationSettings
from lorabench.records.record import Record, UnitFloat, digest_of
from lorabench.training.objectives import (
    EncoderGoneError,
    NoiseDensity,
    Objective,
    denoiser_of,
    family_of,
    objective_of,
)

Pipeline = Any
Tensor = Any
FloatArray = NDArray[np.float64]

LOSS_RECIPE: Final = "picture+stratum/1"
"""Goes into the identity of a reading; a change of the recipe changes all losses."""
_SAMPLING_STEPS: Final = 4
"""Of the base's latents on which a network is asked about prompts."""
_TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2", "text_encoder_3")


class LossNotFiniteError(MeasurementError):
    """NaN or infinity out of a forward pass on fixed noise."""

    def __init__(self, what: str, *, level: float) -> None:
        super().__init__(
            f"a loss on fixed noise must be finite; {what} at noise level {level:.3f} gives NaN or infinity. "
            f"The weights are damaged, or the dtype overflows; this checkpoint cannot be used."
        )
        self.level = level


class NoLiveAdapterError(MeasurementError):
    """A drift was asked for and no adapter is switched on."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"function drift compares the network with its adapter on and off; {pipeline} has no adapter layer that is "
            f"switched on. Attach the adapter with peft, or enable it."
        )


class ByLevel(Record):
    """A signal of the network: one number, how sure it is, and its parts by level of noise."""

    value: FiniteFloat
    standard_error: NonNegativeFloat | None
    """Over pictures or prompts; None with fewer than two."""
    levels: tuple[UnitFloat, ...]
    strata: tuple[FiniteFloat, ...]
    n_forwards: NonNegativeInt = 0

    def signals(self, name: str) -> dict[str, float]:
        """For `Evaluation.signals`: `<name>`, `<name>_se` where known, and `<name>_s1` to `_s<n>`, low to high."""
        found = {name: self.value} | {f"{name}_s{k}": value for k, value in enumerate(self.strata, start=1)}
        return found if self.standard_error is None else found | {f"{name}_se": self.standard_error}


class Encoded:
    """What is encoded once and kept on the CPU: latents of pictures, features of texts, the base's own answers.

    Keep one for a whole training: its first use needs the autoencoder and the text encoders, later ones do not.
    """

    def __init__(self, *, text_is_trained: bool = False) -> None:
        """Start empty.

        Args:
            text_is_trained: A text encoder's own weights are being trained: texts are then encoded anew each time. An
                adapter in a text encoder is seen without being told.
        """
        self._text_is_trained = text_is_trained
        self._latents: dict[str, Tensor] = {}
        self._texts: dict[str, Embeddings] = {}
        self._base: dict[str, tuple[Tensor, Tensor]] = {}

    def latents(self, pipe: Pipeline, picture: Picture) -> Tensor:
        """A picture's clean latents (1, c, h, w), float32, on the CPU."""
        key = picture_digest(picture)
        if key not in self._latents:
            self._latents[key] = objective_of(pipe).latents(pipe, picture)
        return self._latents[key]

    def text(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """A text's features, batch dimension 1, on the CPU."""
        key = f"{settings.max_sequence_length}\0{text}"
        if self._text_is_trained or _text_is_adapted(pipe):
            return _encode_text(pipe, text, settings=settings)
        if key not in self._texts:
            self._texts[key] = _encode_text(pipe, text, settings=settings)
        return self._texts[key]

    def base_answer(self, key: str) -> tuple[Tensor, Tensor] | None:
        """Noised latents and the base's answer to them, by key; None where they were not made yet."""
        return self._base.get(key)

    def remember_base(self, key: str, noised: Tensor, answer: Tensor) -> None:
        """Keep the base's answer; the base does not change while an adapter is trained."""
        self._base[key] = (noised.cpu(), answer.cpu())


class Asking:
    """Asks a pipeline's network in batches, and counts."""

    def __init__(self, pipe: Pipeline, *, guidance_scale: float, batch_size: int) -> None:
        if batch_size < 1:
            msg = f"batch_size must be at least 1, got {batch_size}."
            raise ValueError(msg)
        self.pipe = pipe
        self.objective: Objective = objective_of(pipe)
        self.guidance_scale = guidance_scale
        self.batch_size = batch_size
        self.n_forwards = 0

    @property
    def device(self) -> Any:
        """Where the network lies."""
        return next(denoiser_of(self.pipe).parameters()).device

    def answers(self, noised: Tensor, *, levels: Sequence[float], text: Embeddings) -> Tensor:
        """The network's answers (n, c, h, w), float32, on its device."""
        import torch

        parts = []
        for start in range(0, len(noised), self.batch_size):
            part = noised[start : start + self.batch_size].to(self.device)
            column = _column(levels[start : start + self.batch_size], like=part)
            parts.append(
                self.objective.predict(self.pipe, part, levels=column, text=text, guidance_scale=self.guidance_scale)
            )
            self.n_forwards += len(part)
        return torch.cat(parts)

    def squared_errors(
        self, latents: Tensor, noise: Tensor, *, levels: Sequence[float], text: Embeddings
    ) -> FloatArray:
        """Mean squared error of the answers, by noise: (n,)."""
        latents, noise = latents.to(self.device), noise.to(self.device)
        column = _column(levels, like=noise)
        noised = self.objective.mix(self.pipe, latents, noise, levels=column)
        target = self.objective.target(self.pipe, latents, noise, levels=column)
        return mean_squares(self.answers(noised, levels=levels, text=text) - target)

    def sample(self, noise: Tensor, *, shift: float, text: Embeddings) -> Tensor:
        """Clean latents in a few straight steps from noise (1, c, h, w)."""
        levels = [NoiseDensity().level(1.0 - k / _SAMPLING_STEPS, shift=shift) for k in range(_SAMPLING_STEPS)]
        noised = clean = noise.to(self.device)
        for level, following in zip(levels, [*levels[1:], None], strict=True):
            answer = self.answers(noised, levels=[level], text=text)
            clean, rest = self.objective.split(self.pipe, noised, answer, levels=_column([level], like=noised))
            if following is not None:
                noised = self.objective.mix(self.pipe, clean, rest, levels=_column([following], like=noised))
        return clean


def base_answer(
    asked: Asking, prompt: str, *, settings: GenerationSettings, n_strata: int, encoded: Encoded
) -> tuple[tuple[float, ...], Tensor, Tensor]:
    """Levels, noised latents and the base's answer to them for one prompt; made once."""
    pipe = asked.pipe
    shape = (1, *family_of(pipe).noise_shape(pipe, settings))
    start = draw_noise(_generator(prompt, "start"), shape)
    shift = asked.objective.shift(pipe, start)
    levels = middle_levels(NoiseDensity(), n_strata=n_strata, shift=shift)
    size = [settings.height, settings.width, settings.max_sequence_length]
    asking = [asked.guidance_scale, asked.batch_size, str(asked.device), str(denoiser_of(pipe).dtype)]
    key = digest_of([LOSS_RECIPE, prompt, n_strata, size, asking])
    known = encoded.base_answer(key)
    if known is None:
        with switched_off(pipe):
            text = encoded.text(pipe, prompt, settings=settings)
            latents = asked.sample(start, shift=shift, text=text)
            noise = noise_of(latents, key=prompt, n_strata=n_strata).to(asked.device)
            noised = asked.objective.mix(pipe, latents, noise, levels=_column(levels, like=noise))
            encoded.remember_base(key, noised, asked.answers(noised, levels=levels, text=text))
        known = encoded.base_answer(key)
        assert known is not None
    return levels, *known


def middle_levels(density: NoiseDensity, *, n_strata: int, shift: float) -> tuple[float, ...]:
    """Levels of noise in the middle of strata of equal share, low to high."""
    if n_strata < 1:
        msg = f"n_strata must be at least 1, got {n_strata}."
        raise ValueError(msg)
    return tuple(density.level((k + 0.5) / n_strata, shift=shift) for k in range(n_strata))


def noise_of(latents: Tensor, *, key: str, n_strata: int) -> Tensor:
    """One noise per stratum (n_strata, c, h, w), on the CPU."""
    import torch

    shape = tuple(latents.shape)
    return torch.cat([draw_noise(_generator(key, stratum), shape) for stratum in range(n_strata)])


def _column(levels: Sequence[float], *, like: Tensor) -> Tensor:
    import torch

    return torch.tensor(list(levels), device=like.device, dtype=torch.float32).reshape(-1, 1, 1, 1)


def mean_squares(values: Tensor) -> FloatArray:
    """Mean square by first dimension, summed in double precision."""
    found: FloatArray = values.double().square().flatten(1).mean(dim=1).cpu().numpy()
    return found


def finite_numbers(values: FloatArray, levels: Sequence[float], *, what: str) -> tuple[float, ...]:
    """The numbers, one per level.

    Raises:
        LossNotFiniteError: One of them is NaN or infinite.
    """
    for value, level in zip(values, levels, strict=True):
        if not math.isfinite(value):
            raise LossNotFiniteError(what, level=level)
    return floats(values)


def floats(values: Any) -> tuple[float, ...]:
    """Numbers of NumPy as those of records."""
    return tuple(float(value) for value in values)


def standard_error(residuals: Any) -> float | None:
    """Of a mean of independent rows; None with fewer than two."""
    n = len(residuals)
    return None if n < 2 else float(np.std(residuals, ddof=1) / math.sqrt(n))


def picture_digest(picture: Picture) -> str:
    """SHA-256 (hex) over a picture's size and pixels: what decides its noise."""
    return hashlib.sha256(f"{picture.shape}\0".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def live_layers(pipe: Pipeline) -> list[Any]:
    """Adapter layers that are switched on, of all components."""
    layers = [layer for module in _modules(pipe).values() for layer in _adapter_layers(module)]
    return [layer for layer in layers if not layer.disable_adapters and layer.active_adapters]


@contextmanager
def switched_off(pipe: Pipeline) -> Iterator[None]:
    """The base alone: adapters off, then exactly those on again that were, with their gradient flags."""
    layers = live_layers(pipe)
    flags = [(parameter, parameter.requires_grad) for layer in layers for parameter in layer.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in flags:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)


@contextmanager
def quiet(pipe: Pipeline) -> Iterator[None]:
    """No gradients, no autocast, no dropout; each module's mode is put back as it was."""
    import torch

    training = [module for part in _modules(pipe).values() for module in part.modules() if module.training]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(next(denoiser_of(pipe).parameters()).device.type, enabled=False))
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True


def _generator(key: str, stratum: int | str) -> Any:
    import torch

    digest = hashlib.sha256(f"{LOSS_RECIPE}\0{key}\0{stratum}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _encode_text(pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
    if getattr(pipe, "text_encoder", None) is None:
        raise EncoderGoneError(type(pipe).__name__, part="text encoder")
    return tuple(tensor.detach().cpu() for tensor in family_of(pipe).encode(pipe, text, settings=settings))


def _modules(pipe: Pipeline) -> Mapping[str, Any]:
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def _text_is_adapted(pipe: Pipeline) -> bool:
    encoders = [part for name, part in _modules(pipe).items() if name in _TEXT_ENCODERS]
    return any(True for encoder in encoders for _ in _adapter_layers(encoder))


def _adapter_layers(module: Any) -> Iterator[Any]:
    """Layers that peft put around the base's: known by what they can do, as peft is not imported here."""
    for layer in module.modules():
        if hasattr(layer, "enable_adapters") and hasattr(layer, "adapter_layer_names"):
            yield layer
