"""Makes pictures with diffusers (FLUX.1, FLUX.2, SDXL, Stable Diffusion). Only this module imports diffusers and peft.

The adapter is attached by our own reading of its file (`adapter`, `placement`), never by the loaders of the
libraries: those log a line where modules find no place, and go on. It is never fused. In the base's arms it is
disabled, which leaves the base's own layers alone to run. Each batch gets a scheduler made afresh from its
configuration.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from lorabench.errors import MeasurementError, SpecError
from lorabench.generation.adapter import AdapterFile
from lorabench.generation.adapter_errors import NoEffectError, NotSwitchedOffError
from lorabench.generation.base_files import BaseNotFoundError, base_digest, pipeline_class, read_model_index
from lorabench.generation.batching import Batches
from lorabench.generation.families import FAMILIES, Embeddings, Family
from lorabench.generation.noise import NOISE_RECIPE, draw_noise, generator_of
from lorabench.generation.placement import DENOISERS, Placed, check_fit
from lorabench.generation.protocol import Made, Picture
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.metrics.broken import nonfinite_reason
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell
from lorabench.records.results import BaseInfo

ADAPTER_NAME: Final = "lorabench_candidate"
"""No attribute of a torch module, which `eval` or `train` would be."""
COMPONENTS: Final = (*DENOISERS, "text_encoder", "text_encoder_2")
"""Components that an adapter may change."""

PROBE_PROMPT: Final = "a photo of a red circle"
_PROBE_SIZE: Final = 128
_PROBE_STEPS: Final = 2
_PROBE_TOKENS: Final = 32
_LARGEST_BATCH: Final = 16
_BYTES_PER_PIXEL: Final = 3000
"""Rough need of memory while sampling; only the first guess, running out halves the batch."""
_CPU_BATCH_PIXELS: Final = 8 * 128 * 128


class DeviceError(SpecError):
    """A device that is not there, or a dtype that it cannot compute in."""


class BaseLoadError(MeasurementError):
    """diffusers could not load the base."""

    def __init__(self, base: str, *, reason: str) -> None:
        super().__init__(
            f"the base must be loadable by diffusers; loading {base} failed: {reason}. "
            f"Check that the folder is complete and that the installed diffusers knows its classes."
        )
        self.base = base


class AttachmentError(MeasurementError):
    """A layer did not take the adapter."""

    def __init__(self, name: str, *, layer: str, reason: str) -> None:
        super().__init__(
            f"every module of an adapter must be attached; {layer} did not take that of {name}: {reason}. "
            f"This base cannot be adapted there; it may be quantised."
        )
        self.layer = layer


@dataclass(frozen=True, slots=True)
class _Attached:
    """A layer with the adapter in it."""

    parent: Any
    child: str
    layer: Any
    scaling: float


class DiffusersBackend:
    """One base, at most one candidate. Weights are loaded when the first picture is asked for."""

    name = "diffusers"

    def __init__(
        self,
        model: ModelConfig,
        *,
        cache_dir: Path | None = None,
        opened: tuple[Path, str, str, Any] | None = None,
    ) -> None:
        """Look at the base's index; load nothing.

        Args:
            model: Base, device, dtype, batch size.
            cache_dir: Where digests of the base's files are remembered; None remembers nothing.
            opened: Folder, pipeline class, device and dtype of a base that is open already; its index is not read.

        Raises:
            SpecError: No base there, a pipeline of another kind, or a device or dtype that does not exist here.
        """
        self._model = model
        self._folder, self._class, self._device, self._dtype = opened or _opened(model)
        self.base_folder: Path | None = self._folder if opened is None else None
        self._family: Family = FAMILIES[self._class]
        self._digest_memory = cache_dir / "base-digests" if cache_dir is not None else None
        self._digest: str | None = None
        self._pipe: Any = None
        self._scheduler_config: Any = None
        self._batches: Batches | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._adapter: AdapterFile | None = None
        self._attached: list[_Attached] = []
        self._broken: dict[Cell, str] = {}
        self._state: float | None = None
        self._embeddings: dict[tuple[float | None, str | None, int | None], Embeddings] = {}

    def base_info(self) -> BaseInfo:
        """Name, family, digest, dtype and device class; reads files, loads no weights.

        Raises:
            MeasurementError: The base has no safetensors weights.
        """
        return BaseInfo(
            name=self._folder.name if Path(self._model.base).is_dir() else self._model.base,
            family=self._family.name,
            digest=self._base_digest(),
            dtype=str(self._dtype).removeprefix("torch."),
            device_class=self._device_class(),
        )

    def fingerprint(self) -> Mapping[str, str]:
        """Base, pipeline class, dtype, device class, library versions and the recipe of the noise.

        The scheduler's configuration is among the base's files.

        Raises:
            MeasurementError: The base has no safetensors weights.
        """
        packages = {name: _version(name) for name in ("torch", "diffusers", "transformers", "peft")}
        return {
            "backend": self.name,
            "base": self._base_digest(),
            "pipeline": self._class,
            "dtype": str(self._dtype).removeprefix("torch."),
            "device_class": self._device_class(),
            "noise": NOISE_RECIPE,
            **packages,
        }

    def load_candidate(self, adapter: AdapterFile) -> None:
        """Attach a candidate in place of the last one, and prove that it acts and can be switched off.

        Raises:
            MeasurementError: It does not fit the base, does not attach, changes nothing at scale 1, or something at
            scale 0.
        """
        if self._adapter is not None and self._adapter.info.digest == adapter.info.digest:
            return
        self._load()
        placed = check_fit(adapter, self._shapes)
        self.unload_candidate()
        try:
            self._attach(adapter, placed)
            self._adapter = adapter
            self._self_test(adapter)
        except BaseException:
            self.unload_candidate()
            raise

    def unload_candidate(self) -> None:
        """Put the base's own layers back where the adapter's were; the base is then as it was loaded."""
        for one in self._attached:
            setattr(one.parent, one.child, one.layer.get_base_layer())
        for component in COMPONENTS:
            model = getattr(self._pipe, component, None)
            if model is not None and hasattr(model, "peft_config"):
                del model.peft_config
        self._attached = []
        self._adapter = None
        self._state = None
        self._embeddings = {key: value for key, value in self._embeddings.items() if key[0] is None}

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        """Make the cells' pictures: the base's first, then scale by scale.

        Args:
            cells: What to make; noise depends on case and seed alone.
            settings: What the sampler is told.

        Yields:
            Each cell once, with its picture or with the reason why there is none.

        Raises:
            SpecError: A setting that the base does not take.
            ValueError: A cell uses an adapter and none was loaded.
        """
        self._load()
        self._family.check(self._pipe, settings)
        batches = self._batches_for(settings)
        for state in dict.fromkeys(
            sorted((_state_of(cell) for cell in cells), key=lambda s: (s is not None, s or 0.0))
        ):
            if state is not None and self._adapter is None:
                msg = "cells of an adapter's arm need a candidate; none is loaded. Call load_candidate first."
                raise ValueError(msg)
            group = [cell for cell in cells if _state_of(cell) == state]
            self._switch(state)
            for made in batches.run(group, lambda batch: self._sample(batch, settings=settings)):
                yield replace(made, broken=self._broken.pop(made.planned.cell, None))

    def round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures after the base's autoencoder, encoded to the mode of the latents and decoded."""
        import torch

        self._load()
        vae = self._pipe.vae
        if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae = copy.deepcopy(vae).float()  # overflows in half precision; the pipeline's own stays as it is
        copies: list[Picture] = []
        for picture in pictures:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(self._device, vae.dtype) / 127.5 - 1
            with torch.no_grad():
                encoded = vae.encode(pixels)
                latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
                decoded = vae.decode(latents).sample
            values = (decoded[0].float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            copies.append(_to_uint8(values))
        return copies

    def _base_digest(self) -> str:
        if self._digest is None:
            self._digest = base_digest(self._folder, memory=self._digest_memory)
        return self._digest

    def _device_class(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self._device == "cuda" else self._device

    def _load(self) -> None:
        if self._pipe is not None:
            return
        import torch

        declare_missing_operators()
        import diffusers
        from diffusers.pipelines import pipeline_utils

        dtype_name = "dtype" if hasattr(pipeline_utils, "_resolve_dtype") else "torch_dtype"
        extra: dict[str, Any] = {dtype_name: self._dtype, "use_safetensors": True, "local_files_only": True}
        if self._class == "StableDiffusionPipeline":
            extra |= {"safety_checker": None, "requires_safety_checker": False}
        if self._class == "StableDiffusionXLPipeline":
            extra["add_watermarker"] = False
        with torch.random.fork_rng(devices=[]):
            try:
                pipe = getattr(diffusers, self._class).from_pretrained(str(self._folder), **extra)
            except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
                reason = " ".join(str(error).split())[:300]
                raise BaseLoadError(self._model.base, reason=f"{type(error).__name__}: {reason}") from error
        pipe.set_progress_bar_config(disable=True)
        self._pipe = self._placed_on_device(pipe)
        self._scheduler_config = copy.deepcopy(dict(pipe.scheduler.config))
        self._shapes = _layer_shapes(pipe)

    def _placed_on_device(self, pipe: Any) -> Any:
        import torch

        if self._device == "cuda":
            models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
            needed = sum(p.numel() * p.element_size() for part in models for p in part.parameters())
            if needed > 0.9 * torch.cuda.mem_get_info()[0]:
                pipe.enable_model_cpu_offload()
                return pipe
        return pipe.to(self._device)

    def _batches_for(self, settings: GenerationSettings) -> Batches:
        if self._batches is None:
            largest = self._model.batch_size or _first_batch_size(settings, device=self._device)
            self._batches = Batches(largest, free_memory=_free_memory)
        return self._batches

    def _attach(self, adapter: AdapterFile, placed: Sequence[Placed]) -> None:
        import torch

        declare_missing_operators()
        from peft import LoraConfig, inject_adapter_in_model

        for component in dict.fromkeys(one.layer.partition(".")[0] for one in placed):
            model = getattr(self._pipe, component)
            paths = {one: one.layer.partition(".")[2] for one in placed if one.layer.startswith(f"{component}.")}
            ranks = {rank: [p for one, p in paths.items() if one.module.rank == rank] for rank in adapter.info.ranks}
            config = LoraConfig(
                r=adapter.info.ranks[0],
                target_modules=_any_of(list(paths.values())),
                rank_pattern={f"^{_any_of(names)}": rank for rank, names in ranks.items() if names},
                lora_alpha=1,
                init_lora_weights=False,
            )
            with torch.random.fork_rng(devices=[]):
                inject_adapter_in_model(config, model, adapter_name=ADAPTER_NAME)
            for one, path in paths.items():
                self._attached.append(_fill(model, path, one=one, adapter=adapter))
            model.eval()
        self._apply(None)

    def _switch(self, state: float | None) -> None:
        if state != self._state:
            self._apply(state)

    def _apply(self, state: float | None) -> None:
        """None disables the adapter; a number is its scale."""
        for one in self._attached:
            one.layer.enable_adapters(state is not None)
            one.layer.scaling[ADAPTER_NAME] = one.scaling * (state if state is not None else 1.0)
            # The adapter's matrices ask for gradients as in training, though none are taken: torch would multiply
            # otherwise, and a file would not give the bits of the live adapter it was saved from.
            one.layer.get_base_layer().requires_grad_(requires_grad=False)
            for matrices in (one.layer.lora_A, one.layer.lora_B):
                matrices[ADAPTER_NAME].requires_grad_(requires_grad=True)
        self._state = state

    def _self_test(self, adapter: AdapterFile) -> None:
        import torch

        outputs = {}
        for state in (None, 1.0, 0.0):
            self._switch(state)
            outputs[state] = self._probe()
        self._switch(None)
        if torch.equal(outputs[None], outputs[1.0]):
            raise NoEffectError(adapter.info.name)
        if not torch.equal(outputs[None], outputs[0.0]):
            raise NotSwitchedOffError(adapter.info.name)

    def _probe(self) -> Any:
        """Latents of a small picture after two steps."""
        planned = PlannedCell(cell=Cell(arm=Arm.BASE, case="self-test", seed=0), prompt=PROBE_PROMPT)
        return self._call([planned], settings=self._probe_settings(), output_type="latent")

    def _probe_settings(self) -> GenerationSettings:
        return GenerationSettings(
            height=_PROBE_SIZE,
            width=_PROBE_SIZE,
            num_inference_steps=_PROBE_STEPS,
            max_sequence_length=_PROBE_TOKENS if "max_sequence_length" in self._family.accepts else None,
        )

    def _sample(self, batch: Sequence[PlannedCell], *, settings: GenerationSettings) -> list[Picture]:
        values = self._call(batch, settings=settings, output_type="np")
        for planned, picture in zip(batch, values, strict=True):
            if (reason := nonfinite_reason(picture)) is not None:
                self._broken[planned.cell] = reason
        return [_to_uint8(picture) for picture in values]

    def _call(self, batch: Sequence[PlannedCell], *, settings: GenerationSettings, output_type: str) -> Any:
        import torch

        pipe = self._pipe
        pipe.scheduler = type(pipe.scheduler).from_config(self._scheduler_config)
        generators = [generator_of(planned.cell) for planned in batch]
        shape = (1, *self._family.noise_shape(pipe, settings))
        noise = torch.cat([draw_noise(generator, shape) for generator in generators])
        with torch.no_grad():
            text = self._text_arguments([planned.prompt for planned in batch], settings=settings)
            latents = self._family.pack(noise).to(self._device, self._dtype)
            made = pipe(
                **text,
                **self._family.arguments(settings),
                latents=latents,
                generator=generators,
                output_type=output_type,
                return_dict=False,
            )
        return made[0]

    def _text_arguments(self, prompts: Sequence[str], *, settings: GenerationSettings) -> dict[str, Any]:
        import torch

        names = self._family.embedding_names
        negative = self._family.negative_text(self._pipe, settings)
        rows = [self._embed(prompt, settings=settings) for prompt in prompts]
        columns = {name: torch.cat(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        if negative is None:
            return columns
        if self._family.zeroed(self._pipe, settings):
            return columns | {f"negative_{name}": torch.zeros_like(column) for name, column in columns.items()}
        repeated = [
            tensor.repeat(len(prompts), *[1] * (tensor.dim() - 1))
            for tensor in self._embed(negative, settings=settings)
        ]
        return columns | {f"negative_{name}": tensor for name, tensor in zip(names, repeated, strict=True)}

    def _embed(self, text: str, *, settings: GenerationSettings) -> Embeddings:
        """Embeddings of one text, made once; per adapter state where the adapter changes a text encoder."""
        touched = self._adapter is not None and self._adapter.info.text_encoder
        key = (self._state if touched else None, text, settings.max_sequence_length)
        if key not in self._embeddings:
            self._embeddings[key] = self._family.encode(self._pipe, text, settings=settings)
        return self._embeddings[key]


def _opened(model: ModelConfig) -> tuple[Path, str, str, Any]:
    """Folder, pipeline class, device and dtype."""
    folder = _folder_of(model)
    kind = pipeline_class(folder, base=model.base, stated_family=model.family)
    device = _device_of(model.device)
    return folder, kind, device, _dtype_of(model.dtype, device=device, family=FAMILIES[kind].name)


def _folder_of(model: ModelConfig) -> Path:
    if not model.base:
        raise BaseNotFoundError("", reason="")
    folder = Path(model.base).expanduser()
    if folder.is_dir():
        read_model_index(folder)
        return folder
    if folder.is_absolute() or model.base.startswith(".") or model.base.count("/") != 1:
        raise BaseNotFoundError(model.base, reason="no such folder")
    declare_missing_operators()
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(model.base, revision=model.revision, use_safetensors=True))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BaseNotFoundError(
            model.base, reason=f"no such folder, and not to be had from the hub: {reason}"
        ) from error


def _device_of(asked: str) -> str:
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = asked.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        known = ", ".join(name for name, present in there.items() if present)
        raise DeviceError(
            f"the device must be there; asked for {asked!r}, here are {known}. Set device in [model], or 'auto'."
        )
    return asked


def _dtype_of(asked: str, *, device: str, family: str) -> Any:
    import torch

    if asked == "auto":
        if device == "cpu":
            return torch.float32
        return torch.bfloat16 if family.startswith("flux") else torch.float16
    if device == "cpu" and asked != "float32":
        raise DeviceError(
            f"on a CPU the dtype must be float32; asked for {asked}. Leave dtype at 'auto', or use a GPU."
        )
    return getattr(torch, asked)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _first_batch_size(settings: GenerationSettings, *, device: str) -> int:
    pixels = settings.height * settings.width
    if not device.startswith("cuda"):
        return max(1, min(8, _CPU_BATCH_PIXELS // pixels))
    import torch

    fitting = int(0.7 * torch.cuda.mem_get_info()[0]) // (pixels * _BYTES_PER_PIXEL)
    return max(1, min(_LARGEST_BATCH, fitting))


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _layer_shapes(pipe: Any) -> dict[str, tuple[int, ...]]:
    """Linear and convolution layers that an adapter may change, in the model's order."""
    import torch

    shapes: dict[str, tuple[int, ...]] = {}
    for component in COMPONENTS:
        model = getattr(pipe, component, None)
        if not isinstance(model, torch.nn.Module):
            continue
        for path, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                shapes[f"{component}.{path}"] = tuple(layer.weight.shape)
    return shapes


def _any_of(paths: Sequence[str]) -> str:
    return f"(?:{'|'.join(re.escape(path) for path in paths)})"


def _fill(model: Any, path: str, *, one: Placed, adapter: AdapterFile) -> _Attached:
    """Copy the file's matrices into the layer that was injected at a path."""
    import torch
    from peft.tuners.lora import LoraLayer

    layer = model.get_submodule(path)
    if not isinstance(layer, LoraLayer) or ADAPTER_NAME not in layer.lora_A:
        raise AttachmentError(adapter.info.name, layer=one.layer, reason="no adapter layer was made")
    pairs = ((layer.lora_A[ADAPTER_NAME], adapter.down(one.module)), (layer.lora_B[ADAPTER_NAME], one.up(adapter)))
    for target, values in pairs:
        if tuple(target.weight.shape) != _as_layer(values, target.weight.dim()).shape:
            reason = f"weights {list(values.shape)} for {list(target.weight.shape)}"
            raise AttachmentError(adapter.info.name, layer=one.layer, reason=reason)
        with torch.no_grad():
            target.weight.copy_(torch.from_numpy(np.ascontiguousarray(_as_layer(values, target.weight.dim()))))
    parent, _, child = path.rpartition(".")
    return _Attached(model.get_submodule(parent), child, layer, one.module.scaling)


def _as_layer(values: np.ndarray[Any, Any], n_dimensions: int) -> np.ndarray[Any, Any]:
    """Matrices of a 1 x 1 convolution are stored with and without their two last dimensions."""
    if values.ndim == n_dimensions:
        return values
    if n_dimensions == 4:
        return values[:, :, None, None]
    return values.reshape(values.shape[:2]) if values.shape[2:] == (1, 1) else values


def _state_of(planned: PlannedCell) -> float | None:
    return planned.cell.scale if planned.cell.arm.uses_adapter else None


def _to_uint8(values: np.ndarray[Any, Any]) -> Picture:
    """Pixels 0..1 to 0..255. NaN becomes black, as viewers show it; that it was NaN is said beside the picture."""
    pixels: Picture = (np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels
