"""Two cheap signals of a live pipeline that cost no picture: its loss on fixed noise, and how far it has moved.

The loss that a training loop prints is noisy because picture, level and noise are drawn anew at each step. Here they
are fixed: strata of equal share in the levels of noise, noise decided by picture and stratum, each noise used with
both signs. Between two checkpoints only the weights differ. The drift asks the network with and without the adapter
about prompts that have nothing to do with the training set.

Neither draws from a global generator. Both restore modes, switches and gradient flags. See
`docs/training-signals.md`.
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
"""Of the base's latents that the drift is read on."""
_TEXT_ENCODERS: Final = ("text_encoder", "text_encoder_2", "text_encoder_3")


class LossNotFiniteError(MeasurementError):
    """NaN or infinity out of a forward pass on fixed noise."""

    def __init__(self, what: str, *, level: float) -> None:
        super().__init__(
            f"a loss on fixed noise must be finite; {what} at noise level {level:.3f} gives NaN or infinity. "
            f"The weights are damaged, or the dtype overflows; this checkpoint cannot be used."
        )
        self.level = level


class OtherLossError(MeasurementError):
    """Two readings that nothing but the weights should tell apart, and more does."""

    def __init__(self) -> None:
        super().__init__(
            "two loss readings can be compared only on the same pictures, captions, levels and noise; these two have "
            "different identities. Take the reading at step 0 again."
        )


class NoLiveAdapterError(MeasurementError):
    """A drift was asked for and no adapter is switched on."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"function drift compares the network with its adapter on and off; {pipeline} has no adapter layer that is "
            f"switched on. Attach the adapter with peft, or enable it."
        )


class LossReading(Record):
    """The loss on fixed noise: one number per picture and level, mean over both signs of the noise."""

    identity: str
    """Digest of pictures, captions, levels and recipe: readings with another identity cannot be compared."""
    levels: tuple[UnitFloat, ...]
    """Noise level in the middle of each stratum, low to high; 0 is clean. The first picture's, where sizes differ."""
    values: tuple[tuple[NonNegativeFloat, ...], ...]
    """Mean squared error by picture (outer) and stratum (inner)."""
    n_forwards: NonNegativeInt
    """Noised pictures that went through the network."""

    @property
    def strata(self) -> tuple[float, ...]:
        """Mean over pictures, by stratum."""
        return _floats(np.mean(self.values, axis=0))

    @property
    def pictures(self) -> tuple[float, ...]:
        """Mean over strata, by picture."""
        return _floats(np.mean(self.values, axis=1))

    @property
    def mean(self) -> float:
        """Mean over everything."""
        return float(np.mean(self.values))


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


def denoising_loss(
    pipeline: Pipeline,
    pictures: Sequence[Picture],
    captions: Sequence[str],
    *,
    n_strata: int = 8,
    density: NoiseDensity | None = None,
    settings: GenerationSettings | None = None,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> LossReading:
    """The loss of the live network on fixed pictures, levels and noise.

    Each stratum is read at its middle: the level below which lies a share of (k - 1/2) / n_strata of the density.
    Costs 2 * n_strata forwards per picture. Nothing of a picture's value depends on the other pictures.

    Args:
        pipeline: A live diffusers pipeline, adapter switched as it shall be read.
        pictures: (h, w, 3) uint8, of a size that the base takes; sizes may differ.
        captions: One per picture, used as they are: no dropout, no shuffling.
        n_strata: Of the levels of noise.
        density: How training draws levels; None draws evenly, shifted as the base's scheduler does.
        settings: Only `max_sequence_length` is read.
        guidance_scale: For networks that take guidance as an input; 1 is what trainers feed.
        batch_size: Noised pictures per forward; keep it over a training, for results may differ in the last bits.
        encoded: Memory to keep over a training; None encodes everything again.

    Raises:
        MeasurementError: The base's objective is not known, an encoder is gone, or a loss is not finite.
        ValueError: No pictures, or not one caption per picture.
    """
    if not pictures or len(pictures) != len(captions):
        msg = f"a loss needs pictures with one caption each; got {len(pictures)} pictures, {len(captions)} captions."
        raise ValueError(msg)
    settings, encoded, density = settings or GenerationSettings(), encoded or Encoded(), density or NoiseDensity()
    asked = _Asking(pipeline, guidance_scale=guidance_scale, batch_size=batch_size)
    rows, all_levels = [], []
    with _quiet(pipeline):
        for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            latents = encoded.latents(pipeline, picture)
            levels = _middles(density, n_strata=n_strata, shift=asked.objective.shift(pipeline, latents))
            all_levels.append(levels)
            noise = _antithetic(latents, key=picture_digest(picture), n_strata=n_strata)
            errors = asked.squared_errors(
                latents, noise, levels=levels * 2, text=encoded.text(pipeline, caption, settings=settings)
            )
            rows.append(_finite(errors.reshape(2, n_strata).mean(axis=0), levels, what=f"picture {index}"))
    facts = [LOSS_RECIPE, density.model_dump(mode="json"), n_strata, guidance_scale, settings.max_sequence_length]
    identity = digest_of([*facts, [picture_digest(picture) for picture in pictures], list(captions)])
    return LossReading(identity=identity, levels=all_levels[0], values=tuple(rows), n_forwards=asked.n_forwards)


def relative_loss(now: LossReading, first: LossReading) -> ByLevel:
    """The loss as a share of that at step 0, whole and by level.

    The whole is the ratio of means, not the mean of ratios; read the strata apart, for they follow different things
    (high levels composition, low ones texture).

    Raises:
        OtherLossError: The readings are not of the same pictures, captions, levels and noise.
    """
    _check_same(now, first)
    ratio = now.mean / first.mean
    residuals = np.subtract(now.pictures, np.multiply(ratio, first.pictures)) / first.mean
    return ByLevel(
        value=ratio,
        standard_error=_standard_error(residuals),
        levels=now.levels,
        strata=_floats(np.divide(now.strata, first.strata)),
        n_forwards=now.n_forwards,
    )


def loss_gap(
    held_out: LossReading, training: LossReading, *, held_out_first: LossReading, training_first: LossReading
) -> ByLevel:
    """How much more the loss fell on training pictures than on held-out ones, as a share of the latter's at step 0.

    ((L_held_out - L_training) now - the same at step 0) / L_held_out at step 0. Zero at step 0, whatever pictures
    were held out; positive where the adapter fits its own pictures better than others of the same kind. At high
    levels of noise that is memory of compositions.

    Args:
        held_out: On pictures that are never trained on.
        training: On an equal number of training pictures.
        held_out_first: `held_out` at step 0.
        training_first: `training` at step 0.

    Raises:
        OtherLossError: A reading and its first one do not belong together.
        ValueError: Unequal numbers of pictures.
    """
    _check_same(held_out, held_out_first)
    _check_same(training, training_first)
    if len(held_out.values) != len(training.values):
        msg = f"a gap needs as many training as held-out pictures; got {len(training.values)}, {len(held_out.values)}."
        raise ValueError(msg)
    changes = [
        np.subtract(now.values, first.values) for now, first in ((held_out, held_out_first), (training, training_first))
    ]
    strata = changes[0].mean(axis=0) - changes[1].mean(axis=0)
    errors = [_standard_error(change.mean(axis=1) / held_out_first.mean) for change in changes]
    known = [error for error in errors if error is not None]
    return ByLevel(
        value=float(strata.mean() / held_out_first.mean),
        standard_error=math.hypot(*known) if len(known) == len(errors) else None,
        levels=held_out.levels,
        strata=_floats(strata / np.asarray(held_out_first.strata)),
        n_forwards=held_out.n_forwards + training.n_forwards,
    )


def chosen_pictures(pictures: Sequence[Picture], count: int) -> tuple[int, ...]:
    """Which training pictures stand against `count` held-out ones: those with the smallest digests, in any order given.

    Raises:
        ValueError: Fewer pictures than asked for.
    """
    if count > len(pictures):
        msg = f"a gap needs {count} training pictures; there are {len(pictures)}. Hold fewer out."
        raise ValueError(msg)
    return tuple(sorted(range(len(pictures)), key=lambda index: picture_digest(pictures[index]))[:count])


def drift(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    n_strata: int = 4,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> float:
    """`drift_reading` as one number."""
    return drift_reading(
        pipeline,
        prompts,
        settings=settings,
        n_strata=n_strata,
        guidance_scale=guidance_scale,
        batch_size=batch_size,
        encoded=encoded,
    ).value


def drift_reading(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    n_strata: int = 4,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> ByLevel:
    """How far the adapter has moved the network on prompts that it should leave alone.

    E ||v_adapter - v_base||^2 / E ||v_base||^2 over prompts and levels, on noised latents that the base itself made
    in a few steps. Exactly 0 where the adapter does nothing, quadratic in small scales, 1 where the change is as
    large as the answer. The base's latents and answers are made once per `encoded`.

    Costs n_strata forwards per prompt, and the first time n_strata + 4 more.

    Args:
        pipeline: A live diffusers pipeline with its adapter switched on.
        prompts: Unrelated to the training set, without its trigger; `UNRELATED_PROMPTS` are such.
        settings: `height`, `width` and `max_sequence_length` are read.
        n_strata: Of the levels of noise.
        guidance_scale: For networks that take guidance as an input. A second reading at a high value shows whether
            guidance collapses.
        batch_size: Noised pictures per forward; keep it over a training.
        encoded: Memory to keep over a training; None makes the base's part again.

    Raises:
        NoLiveAdapterError: No adapter layer is switched on.
        MeasurementError: The base's objective is not known, or an answer is not finite.
        ValueError: No prompts.
    """
    if not prompts:
        msg = "a drift needs prompts; got none. Pass UNRELATED_PROMPTS, or plain prompts of the suite."
        raise ValueError(msg)
    if not _live_layers(pipeline):
        raise NoLiveAdapterError(type(pipeline).__name__)
    settings, encoded = settings or GenerationSettings(), encoded or Encoded()
    asked = _Asking(pipeline, guidance_scale=guidance_scale, batch_size=batch_size)
    moved, sizes, levels = [], [], _middles(NoiseDensity(), n_strata=n_strata, shift=1.0)
    with _quiet(pipeline):
        for prompt in prompts:
            levels, noised, base = _base_answer(asked, prompt, settings=settings, n_strata=n_strata, encoded=encoded)
            text = encoded.text(pipeline, prompt, settings=settings)
            live = asked.answers(noised, levels=levels, text=text).cpu()
            moved.append(_finite(_mean_squares(live - base), levels, what=f"the adapter on {prompt!r}"))
            sizes.append(_finite(_mean_squares(base), levels, what=f"the base on {prompt!r}"))
    value = float(np.sum(moved) / np.sum(sizes))
    residuals = (np.mean(moved, axis=1) - value * np.mean(sizes, axis=1)) / np.mean(sizes)
    return ByLevel(
        value=value,
        standard_error=_standard_error(residuals),
        levels=levels,
        strata=_floats(np.sum(moved, axis=0) / np.sum(sizes, axis=0)),
        n_forwards=asked.n_forwards,
    )


def picture_digest(picture: Picture) -> str:
    """SHA-256 (hex) over a picture's size and pixels: what decides its noise."""
    return hashlib.sha256(f"{picture.shape}\0".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


class _Asking:
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
        return _mean_squares(self.answers(noised, levels=levels, text=text) - target)

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


def _base_answer(
    asked: _Asking, prompt: str, *, settings: GenerationSettings, n_strata: int, encoded: Encoded
) -> tuple[tuple[float, ...], Tensor, Tensor]:
    """Levels, noised latents and the base's answer to them for one prompt; made once."""
    pipe = asked.pipe
    shape = (1, *family_of(pipe).noise_shape(pipe, settings))
    start = draw_noise(_generator(prompt, "start"), shape)
    shift = asked.objective.shift(pipe, start)
    levels = _middles(NoiseDensity(), n_strata=n_strata, shift=shift)
    size = [settings.height, settings.width, settings.max_sequence_length]
    asking = [asked.guidance_scale, asked.batch_size, str(asked.device), str(denoiser_of(pipe).dtype)]
    key = digest_of([LOSS_RECIPE, prompt, n_strata, size, asking])
    known = encoded.base_answer(key)
    if known is None:
        with switched_off(pipe):
            text = encoded.text(pipe, prompt, settings=settings)
            latents = asked.sample(start, shift=shift, text=text)
            noise = _noise(latents, key=prompt, n_strata=n_strata).to(asked.device)
            noised = asked.objective.mix(pipe, latents, noise, levels=_column(levels, like=noise))
            encoded.remember_base(key, noised, asked.answers(noised, levels=levels, text=text))
        known = encoded.base_answer(key)
        assert known is not None
    return levels, *known


def _middles(density: NoiseDensity, *, n_strata: int, shift: float) -> tuple[float, ...]:
    if n_strata < 1:
        msg = f"n_strata must be at least 1, got {n_strata}."
        raise ValueError(msg)
    return tuple(density.level((k + 0.5) / n_strata, shift=shift) for k in range(n_strata))


def _generator(key: str, stratum: int | str) -> Any:
    import torch

    digest = hashlib.sha256(f"{LOSS_RECIPE}\0{key}\0{stratum}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _noise(latents: Tensor, *, key: str, n_strata: int) -> Tensor:
    """One noise per stratum (n_strata, c, h, w), on the CPU."""
    import torch

    shape = tuple(latents.shape)
    return torch.cat([draw_noise(_generator(key, stratum), shape) for stratum in range(n_strata)])


def _antithetic(latents: Tensor, *, key: str, n_strata: int) -> Tensor:
    """The noise of all strata, then the same with the other sign."""
    import torch

    noise = _noise(latents, key=key, n_strata=n_strata)
    return torch.cat([noise, -noise])


def _column(levels: Sequence[float], *, like: Tensor) -> Tensor:
    import torch

    return torch.tensor(list(levels), device=like.device, dtype=torch.float32).reshape(-1, 1, 1, 1)


def _mean_squares(values: Tensor) -> FloatArray:
    """Mean square by first dimension, summed in double precision."""
    found: FloatArray = values.double().square().flatten(1).mean(dim=1).cpu().numpy()
    return found


def _finite(values: FloatArray, levels: Sequence[float], *, what: str) -> tuple[float, ...]:
    for value, level in zip(values, levels, strict=True):
        if not math.isfinite(value):
            raise LossNotFiniteError(what, level=level)
    return _floats(values)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _standard_error(residuals: Any) -> float | None:
    n = len(residuals)
    return None if n < 2 else float(np.std(residuals, ddof=1) / math.sqrt(n))


def _check_same(now: LossReading, first: LossReading) -> None:
    if now.identity != first.identity:
        raise OtherLossError


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


def _live_layers(pipe: Pipeline) -> list[Any]:
    """Adapter layers that are switched on, of all components."""
    layers = [layer for module in _modules(pipe).values() for layer in _adapter_layers(module)]
    return [layer for layer in layers if not layer.disable_adapters and layer.active_adapters]


@contextmanager
def switched_off(pipe: Pipeline) -> Iterator[None]:
    """The base alone: adapters off, then exactly those on again that were, with their gradient flags."""
    layers = _live_layers(pipe)
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
def _quiet(pipe: Pipeline) -> Iterator[None]:
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
