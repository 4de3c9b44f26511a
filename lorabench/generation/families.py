"""What differs between pipelines: which settings they take, how they encode text and how they want their noise.

A pipeline is used through its public interface (`encode_prompt`, the call, component configurations); this module
imports neither torch nor diffusers.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.plan import GenerationSettings

Pipeline = Any
Embeddings = tuple[Any, ...]
"""Tensors of one prompt, batch dimension 1, in the order of the family's `embedding_names`."""

_OPTIONAL: Final = ("guidance_scale", "true_cfg_scale", "negative_prompt", "max_sequence_length")


class SettingError(SpecError):
    """A generation setting that the pipeline would ignore, floor or refuse."""


class SharedRandomnessError(MeasurementError):
    """The scheduler draws noise from the global generator."""

    def __init__(self, scheduler: str) -> None:
        super().__init__(
            f"a scheduler must draw all its noise from the cell's own generator; {scheduler} with stochastic_sampling "
            f"draws from the global one, so no picture could be made twice. Turn it off in scheduler_config.json."
        )


class Family:
    """Common behaviour; each kind of pipeline fills in its own."""

    name: ClassVar[str]
    accepts: ClassVar[frozenset[str]]
    embedding_names: ClassVar[tuple[str, ...]]
    default_guidance: ClassVar[float | None] = None

    def size_multiple(self, pipe: Pipeline) -> int:
        """What height and width must be divisible by, in pixels."""
        return int(pipe.vae_scale_factor) * 2

    def noise_shape(self, pipe: Pipeline, settings: GenerationSettings) -> tuple[int, int, int]:
        """Shape (channels, height, width) of one picture's noise."""
        raise NotImplementedError

    def pack(self, noise: Any) -> Any:
        """Noise of a batch (n, c, h, w) in the form in which the pipeline takes it."""
        return noise

    def encode(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """Embeddings of one text."""
        raise NotImplementedError

    def negative_text(self, pipe: Pipeline, settings: GenerationSettings) -> str | None:
        """The text to steer away from; None where the pipeline runs without classifier-free guidance."""
        raise NotImplementedError

    def zeroed(self, pipe: Pipeline, settings: GenerationSettings) -> bool:
        """Whether the negative embeddings are zeros instead of an encoded empty text."""
        del pipe, settings
        return False

    def arguments(self, settings: GenerationSettings) -> dict[str, Any]:
        """Settings as arguments of the call, apart from text."""
        given = {
            "height": settings.height,
            "width": settings.width,
            "num_inference_steps": settings.num_inference_steps,
        }
        for field in ("guidance_scale", "true_cfg_scale"):
            value = getattr(settings, field)
            if field in self.accepts and value is not None:
                given[field] = value
        return given

    def check(self, pipe: Pipeline, settings: GenerationSettings) -> None:
        """Refuse settings that diffusers would ignore or change without an error.

        Raises:
            SettingError: Size not divisible, a parameter the pipeline does not take, or one without effect.
            SharedRandomnessError: The scheduler uses the global generator.
        """
        multiple = self.size_multiple(pipe)
        if settings.height % multiple or settings.width % multiple:
            raise SettingError(
                f"height and width must be multiples of {multiple} for this base; found {settings.height} x "
                f"{settings.width}. The pipeline would make another size; change the generation settings."
            )
        ignored = [name for name in _OPTIONAL if name not in self.accepts and getattr(settings, name) is not None]
        if ignored:
            raise SettingError(
                f"generation settings must be ones that {self.name} takes; found {', '.join(ignored)}. "
                f"It takes {', '.join(sorted(self.accepts))}; remove the others."
            )
        if settings.negative_prompt and self.negative_text(pipe, settings) is None:
            raise SettingError(
                f"a negative_prompt acts only with classifier-free guidance; {self.name} runs without here. "
                f"Set {self.guidance_field()} above 1, or remove negative_prompt."
            )
        if getattr(pipe.scheduler.config, "stochastic_sampling", False):
            raise SharedRandomnessError(type(pipe.scheduler).__name__)

    def guidance_field(self) -> str:
        """The setting that turns classifier-free guidance on."""
        return "guidance_scale"


class Flux(Family):
    """FLUX.1: packed latents, CLIP's pooled vector and T5's sequence, true guidance besides the embedded one."""

    name = "flux"
    accepts = frozenset({"guidance_scale", "true_cfg_scale", "negative_prompt", "max_sequence_length"})
    embedding_names = ("prompt_embeds", "pooled_prompt_embeds")

    def noise_shape(self, pipe: Pipeline, settings: GenerationSettings) -> tuple[int, int, int]:
        """Channels of the autoencoder at 2 x 2 per token."""
        factor = int(pipe.vae_scale_factor)
        return int(pipe.transformer.config.in_channels) // 4, settings.height // factor, settings.width // factor

    def pack(self, noise: Any) -> Any:
        """(n, c, h, w) to (n, h/2 * w/2, 4 c): each 2 x 2 patch is one token."""
        n, c, h, w = noise.shape
        patches = noise.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(n, (h // 2) * (w // 2), c * 4)

    def encode(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """T5's sequence (1, t, d) and CLIP's pooled vector (1, p)."""
        embeds, pooled, _ = pipe.encode_prompt(prompt=text, prompt_2=None, **_sequence_length(settings))
        return embeds, pooled

    def negative_text(self, pipe: Pipeline, settings: GenerationSettings) -> str | None:
        """Present where true_cfg_scale is above 1. None counts as empty: diffusers would drop the guidance silently."""
        del pipe
        guided = settings.true_cfg_scale is not None and settings.true_cfg_scale > 1
        return (settings.negative_prompt or "") if guided else None

    def guidance_field(self) -> str:
        """FLUX.1's guidance_scale is an input of the network, not a second pass."""
        return "true_cfg_scale"


class Flux2(Family):
    """FLUX.2: one text encoder, guidance as an input of the network."""

    name = "flux2"
    accepts = frozenset({"guidance_scale", "max_sequence_length"})
    embedding_names = ("prompt_embeds",)

    def noise_shape(self, pipe: Pipeline, settings: GenerationSettings) -> tuple[int, int, int]:
        """Four times the autoencoder's channels at half its resolution."""
        factor = int(pipe.vae_scale_factor) * 2
        return int(pipe.transformer.config.in_channels), settings.height // factor, settings.width // factor

    def encode(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """Hidden states of several layers (1, t, d)."""
        return (pipe.encode_prompt(prompt=text, **_sequence_length(settings))[0],)

    def negative_text(self, pipe: Pipeline, settings: GenerationSettings) -> str | None:
        """Never: there is no second pass."""
        del pipe, settings
        return None


class Flux2Klein(Flux2):
    """FLUX.2 klein: true guidance unless distilled."""

    accepts = frozenset({"guidance_scale", "negative_prompt", "max_sequence_length"})

    def negative_text(self, pipe: Pipeline, settings: GenerationSettings) -> str | None:
        """Present unless the model is distilled or guidance_scale is at most 1."""
        guided = settings.guidance_scale is None or settings.guidance_scale > 1
        distilled = bool(getattr(pipe.config, "is_distilled", False))
        return (settings.negative_prompt or "") if guided and not distilled else None


class StableDiffusion(Family):
    """SD 1.x and 2.x: one CLIP text encoder, classifier-free guidance."""

    name = "sd15"
    accepts = frozenset({"guidance_scale", "negative_prompt"})
    embedding_names: ClassVar[tuple[str, ...]] = ("prompt_embeds",)

    def size_multiple(self, pipe: Pipeline) -> int:
        """The autoencoder's factor times the UNet's own downsampling."""
        halvings = len(pipe.unet.config.block_out_channels) - 1
        return int(pipe.vae_scale_factor) << halvings

    def noise_shape(self, pipe: Pipeline, settings: GenerationSettings) -> tuple[int, int, int]:
        """Channels of the UNet at the autoencoder's resolution."""
        factor = int(pipe.vae_scale_factor)
        return int(pipe.unet.config.in_channels), settings.height // factor, settings.width // factor

    def encode(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """CLIP's sequence (1, t, d)."""
        del settings
        return (pipe.encode_prompt(text, pipe._execution_device, 1, False)[0],)

    def negative_text(self, pipe: Pipeline, settings: GenerationSettings) -> str | None:
        """Present unless guidance_scale is at most 1."""
        del pipe
        guided = settings.guidance_scale is None or settings.guidance_scale > 1
        return (settings.negative_prompt or "") if guided else None


class StableDiffusionXL(StableDiffusion):
    """SDXL: two CLIP text encoders, pooled vector of the second one."""

    name = "sdxl"
    embedding_names = ("prompt_embeds", "pooled_prompt_embeds")

    def encode(self, pipe: Pipeline, text: str, *, settings: GenerationSettings) -> Embeddings:
        """Both sequences side by side (1, t, d), and the pooled vector (1, p)."""
        del settings
        embeds, _, pooled, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        return embeds, pooled

    def zeroed(self, pipe: Pipeline, settings: GenerationSettings) -> bool:
        """The base was trained with zeros for no text, as its configuration says."""
        return settings.negative_prompt is None and bool(getattr(pipe.config, "force_zeros_for_empty_prompt", False))


FAMILIES: Final[dict[str, Family]] = {
    "FluxPipeline": Flux(),
    "Flux2Pipeline": Flux2(),
    "Flux2KleinPipeline": Flux2Klein(),
    "StableDiffusionXLPipeline": StableDiffusionXL(),
    "StableDiffusionPipeline": StableDiffusion(),
}
"""Class name in `model_index.json` to its family."""


def _sequence_length(settings: GenerationSettings) -> dict[str, int]:
    return {} if settings.max_sequence_length is None else {"max_sequence_length": settings.max_sequence_length}
