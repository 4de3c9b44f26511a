"""Makes pictures with a pipeline that is being trained, with the adapter that is in it, and writes that adapter down.

Nothing is loaded, moved, cast or fused: the pipeline's own modules run. What this module switches (whether the adapter
acts, and how strongly) it switches without touching `requires_grad`, and `release` puts back. Everything else that an
evaluation could disturb is the caller's guard to restore.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorabench.errors import MeasurementError
from lorabench.generation.adapter import AdapterFile
from lorabench.generation.adapter_errors import NotSwitchedOffError
from lorabench.generation.adapter_switch import AdapterSwitch
from lorabench.generation.base_files import base_digest
from lorabench.generation.diffusers_backend import COMPONENTS, PROBE_PROMPT, DiffusersBackend
from lorabench.generation.families import FAMILIES, Embeddings
from lorabench.generation.protocol import Made
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.config import ModelConfig
from lorabench.records.plan import GenerationSettings, PlannedCell
from lorabench.records.results import BaseInfo

_ADAPTER_METADATA: Final = "lora_adapter_metadata"
"""The header entry under which diffusers keeps PEFT's configuration; without it alpha would be lost."""
_HASHED_BYTES: Final = 1 << 26


_UNWANTED: Final[dict[str, dict[str, Any]]] = {
    "StableDiffusionPipeline": {"requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}
"""Turned off, as in a base that was loaded from its folder."""


class LivePipelineError(MeasurementError):
    """A live pipeline that cannot be judged as it stands."""


@dataclass(frozen=True, slots=True)
class _LiveLayer:
    layer: Any
    scaling: float


class _PeftSwitch:
    """Switches one of peft's adapters."""

    def __init__(self, pipeline: Any, adapter_name: str) -> None:
        self._pipeline, self._name = pipeline, adapter_name
        self._layers = _live_layers(pipeline, adapter_name)

    @property
    def changes_text(self) -> bool:
        models = (getattr(self._pipeline, name, None) for name in ("text_encoder", "text_encoder_2"))
        return any(self._name in getattr(model, "peft_config", {}) for model in models)

    def switch(self, strength: float | None) -> None:
        for one in self._layers:
            one.layer._disable_adapters = strength is None
            one.layer.scaling[self._name] = one.scaling * (1.0 if strength is None else strength)

    def release(self) -> None:
        self.switch(1.0)

    def save(self, path: Path) -> Path:
        return save_live_adapter(self._pipeline, path, adapter_name=self._name)

    def shown(self, path: Path) -> AbstractContextManager[None]:
        return saved_adapter_shown(self._pipeline, path, adapter_name=self._name)

    def room(self) -> AbstractContextManager[None]:
        return nullcontext()


class LiveBackend(DiffusersBackend):
    """The base is the live pipeline with its adapter switched off; the candidate is the adapter as it is now."""

    def __init__(
        self,
        pipeline: Any,
        *,
        adapter_name: str = "default",
        base: str = "",
        batch_size: int = 0,
        cache_dir: Path | None = None,
        adapter: AdapterSwitch | None = None,
    ) -> None:
        """Look at the pipeline.

        Args:
            pipeline: A diffusers pipeline whose modules are those in training (unwrapped, not compiled).
            adapter_name: Name of the adapter in training.
            base: Folder that the base was loaded from, where the pipeline does not say; its digest is part of every
                picture's name in the cache.
            batch_size: Largest number of pictures made jointly; 0 chooses.
            cache_dir: Where digests of the base's files are remembered.
            adapter: How the adapter is switched, where it is not one of peft's.

        Raises:
            LivePipelineError: A pipeline of another kind, or without such an adapter, or with a fused one.
        """
        kind = type(pipeline).__name__
        if kind not in FAMILIES:
            raise LivePipelineError(
                f"a live pipeline must be one of {', '.join(FAMILIES)}; found {kind}. "
                "Save checkpoints and judge them with `lorabench watch` instead."
            )
        folder = Path(base or str(getattr(pipeline, "name_or_path", "") or ""))
        super().__init__(
            ModelConfig(base=str(folder), batch_size=batch_size),
            cache_dir=cache_dir,
            opened=(folder, kind, _device(pipeline), _base_dtype(pipeline)),
        )
        self.adapter_name = adapter_name
        self._scheduler_config = copy.deepcopy(dict(pipeline.scheduler.config))
        self._pipe = _own_pipeline(pipeline, self._scheduler_config)
        self.live = adapter or _PeftSwitch(pipeline, adapter_name)
        self._state = math.nan

    def base_info(self) -> BaseInfo:
        """As of a base that was loaded from its folder."""
        info = super().base_info()
        return info if info.name else info.model_copy(update={"name": "live pipeline"})

    def load_candidate(self, adapter: AdapterFile) -> None:
        """Take the live adapter as the candidate.

        Args:
            adapter: What `save_live_adapter` wrote just now; gives it a digest.

        Raises:
            MeasurementError: It changes nothing at scale 1, or something at scale 0.
        """
        self._embeddings = {key: value for key, value in self._embeddings.items() if key[0] is None}
        if self._adapter is not None and self._adapter.info.digest == adapter.info.digest:
            return
        self._adapter = adapter
        self._self_test(adapter)

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        """As a base's. On a GPU the autoencoder decodes one picture at a time: the training needs the memory."""
        slicing = getattr(self._pipe.vae, "enable_slicing", None)
        if slicing is not None and self._device.startswith("cuda"):
            slicing()
        yield from super().generate(cells, settings=settings)

    def unload_candidate(self) -> None:
        """Forget the candidate and switch the live adapter on again, as strong as it was."""
        self.release()

    def release(self) -> None:
        """Switch the live adapter on again, as strong as it was."""
        self.live.release()
        self._state = math.nan  # neither switched off nor at a scale of ours: the next switch acts in any case
        self._adapter = None

    def step_zero_equals_base(self) -> bool:
        """Whether the adapter still changes nothing: true before the first step of a usual LoRA.

        Raises:
            NotSwitchedOffError: Switched off it leaves other pictures than at scale 0.
        """
        import torch

        outputs = {}
        for state in (None, 1.0, 0.0):
            self._apply(state)
            outputs[state] = self._probe()
        self.release()
        if not torch.equal(outputs[None], outputs[0.0]):
            raise NotSwitchedOffError(self.adapter_name)
        return bool(torch.equal(outputs[None], outputs[1.0]))

    def encode_prompts(self, texts: Iterable[str], *, settings: GenerationSettings) -> None:
        """Encode prompts now, without the adapter, and keep them on the CPU, for text encoders that go away.

        Args:
            texts: Every prompt that will be asked for.
            settings: What the sampler will be told; its negative prompt is encoded with them.
        """
        import torch

        self._apply(None)
        with torch.no_grad():
            for text in dict.fromkeys(texts):
                self._text_arguments([text], settings=settings)
            self._text_arguments([PROBE_PROMPT], settings=self._probe_settings())
        self.release()

    def _embed(self, text: str, *, settings: GenerationSettings) -> Embeddings:
        touched = self.live.changes_text
        key = (self._state if touched else None, text, settings.max_sequence_length)
        if key not in self._embeddings:
            self._embeddings[key] = tuple(
                part.cpu() for part in self._family.encode(self._pipe, text, settings=settings)
            )
        return tuple(part.to(self._device) for part in self._embeddings[key])

    def _apply(self, state: float | None) -> None:
        self.live.switch(state)
        self._state = state

    def _base_digest(self) -> str:
        if self._digest is None:
            folder = Path(self._model.base)
            if self._model.base and (folder / "model_index.json").is_file():
                self._digest = base_digest(folder, memory=self._digest_memory)
            else:
                self._digest = _weights_digest(self._pipe)
        return self._digest

    def _device_class(self) -> str:
        import torch

        return torch.cuda.get_device_name(self._device) if self._device.startswith("cuda") else self._device


def save_live_adapter(pipeline: Any, path: Path, *, adapter_name: str = "default") -> Path:
    """Write the adapter of a live pipeline as a trainer would: diffusers' layout, with PEFT's configuration.

    Args:
        pipeline: The pipeline in training.
        path: File to write; a temporary name is used until it is complete.
        adapter_name: Name of the adapter.

    Returns:
        The path.

    Raises:
        LivePipelineError: No component has such an adapter.
    """
    from safetensors.torch import save_file

    live = _adapter_tensors(pipeline, adapter_name)
    tensors = {key: value.detach().cpu().contiguous() for key, value in live}
    metadata: dict[str, Any] = {}
    for component in COMPONENTS:
        config = getattr(getattr(pipeline, component, None), "peft_config", {}).get(adapter_name)
        if config is not None:
            metadata |= {f"{component}.{key}": _plain(value) for key, value in config.to_dict().items()}
    if not tensors:
        raise LivePipelineError(_no_adapter(adapter_name, pipeline))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file(tensors, partial, metadata={"format": "pt", _ADAPTER_METADATA: json.dumps(metadata, sort_keys=True)})
    partial.replace(path)
    return path


@contextmanager
def saved_adapter_shown(pipeline: Any, path: Path, *, adapter_name: str = "default") -> Iterator[None]:
    """Let a live pipeline carry an earlier state of its own adapter for a while; the live one comes back, bit for bit.

    Args:
        pipeline: The pipeline in training.
        path: What `save_live_adapter` wrote earlier in this training.
        adapter_name: Name of the adapter.

    Raises:
        LivePipelineError: The file's tensors are not those of the live adapter.
    """
    import torch
    from safetensors.torch import load_file

    saved, live = load_file(path), dict(_adapter_tensors(pipeline, adapter_name))
    if {key: value.shape for key, value in saved.items()} != {key: value.shape for key, value in live.items()}:
        odd = sorted(set(saved) ^ set(live)) or sorted(k for k in saved if saved[k].shape != live[k].shape)
        raise LivePipelineError(
            f"an earlier adapter must have the tensors of the live one; in {path} {odd[0]} differs. "
            "Judge that file with `lorabench watch` instead."
        )
    before = {key: value.detach().clone() for key, value in live.items()}
    with torch.no_grad():
        try:
            for key, value in live.items():
                value.copy_(saved[key])
            yield
        finally:
            for key, value in live.items():
                value.copy_(before[key])


def _adapter_tensors(pipeline: Any, adapter_name: str) -> Iterator[tuple[str, Any]]:
    """The live adapter's tensors under the names that they are saved with; their storage is the modules' own."""
    declare_missing_operators()
    from peft import get_peft_model_state_dict

    for component in COMPONENTS:
        model = getattr(pipeline, component, None)
        if adapter_name in getattr(model, "peft_config", {}):
            state = get_peft_model_state_dict(model, adapter_name=adapter_name)
            yield from ((f"{component}.{key}", value) for key, value in state.items())


def _own_pipeline(pipeline: Any, scheduler_config: Mapping[str, Any]) -> Any:
    """Another pipeline around the same modules, so that the trainer's keeps its scheduler and its progress bar."""
    parts = dict(pipeline.components)
    parts["scheduler"] = type(pipeline.scheduler).from_config(copy.deepcopy(dict(scheduler_config)))
    accepted = inspect.signature(type(pipeline).__init__).parameters
    stated = {name: value for name, value in pipeline.config.items() if name in accepted and name not in parts}
    own = type(pipeline)(**{**parts, **stated, **_UNWANTED.get(type(pipeline).__name__, {})})
    own.set_progress_bar_config(disable=True)
    return own


def _live_layers(pipeline: Any, adapter_name: str) -> list[_LiveLayer]:
    declare_missing_operators()
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = []
    for component in COMPONENTS:
        model: Any = getattr(pipeline, component, None)
        for path, layer in () if model is None else model.named_modules():
            if not isinstance(layer, BaseTunerLayer) or adapter_name not in getattr(layer, "scaling", {}):
                continue
            if layer.merged:
                raise LivePipelineError(
                    f"a live adapter must not be fused into the base; that of {component}.{path} is. "
                    "Unfuse it, or judge saved checkpoints with `lorabench watch`."
                )
            layers.append(_LiveLayer(layer, float(layer.scaling[adapter_name])))
    if not layers:
        raise LivePipelineError(_no_adapter(adapter_name, pipeline))
    return layers


def _no_adapter(adapter_name: str, pipeline: Any) -> str:
    models = (getattr(pipeline, component, None) for component in COMPONENTS)
    known = sorted({name for model in models for name in getattr(model, "peft_config", {})})
    return (
        f"a live pipeline must hold the adapter in training; found none named {adapter_name!r}, "
        f"but {', '.join(known) or 'no adapter at all'}. Add it with add_adapter before the monitor is made, "
        "or give its adapter_name."
    )


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, "transformer", None) or pipeline.unet


def _base_parameters(model: Any) -> Iterable[Any]:
    return (value for name, value in model.named_parameters() if ".lora_" not in name)


def _device(pipeline: Any) -> str:
    return str(next(iter(_base_parameters(_denoiser(pipeline)))).device)


def _base_dtype(pipeline: Any) -> Any:
    floating = (p.dtype for p in _base_parameters(_denoiser(pipeline)) if p.dtype.is_floating_point)
    return next(floating)


def _weights_digest(pipeline: Any) -> str:
    """Of the base's tensors, in the order of their names; the adapter's are left out."""
    import torch

    digest = hashlib.sha256()
    for component in sorted(name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)):
        for name, value in sorted(getattr(pipeline, component).state_dict().items()):
            if ".lora_" in name:
                continue
            plain = name.replace(".base_layer.", ".")
            digest.update(f"{component}.{plain}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            flat = value.detach().reshape(-1).view(torch.uint8) if value.dim() else value.detach().reshape(1)
            for start in range(0, flat.numel(), _HASHED_BYTES):
                digest.update(flat[start : start + _HASHED_BYTES].cpu().numpy().tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A setting of PEFT's as JSON takes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(getattr(value, "value", value))
