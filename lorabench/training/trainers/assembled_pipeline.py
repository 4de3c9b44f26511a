"""A pipeline around the networks that a training script has in its hands, and what it has let go read from the base."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorabench.errors import MeasurementError, SpecError
from lorabench.generation.base_files import read_model_index
from lorabench.generation.families import FAMILIES

DENOISERS: Final = ("transformer", "unet")
_NEVER: Final[dict[str, dict[str, Any]]] = {
    "StableDiffusionPipeline": {"safety_checker": None, "requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}
"""What evaluation never uses: a checker that blackens pictures, or a watermark, would be judged instead of them."""


class ScriptBaseError(SpecError):
    """The script's base is not one that can be judged."""

    def __init__(self, base: str, found: str) -> None:
        super().__init__(
            f"the script's base must hold a text-to-image pipeline of {', '.join(FAMILIES)}; {base}: {found}. "
            f"Train without the monitor and judge the saved checkpoints with `lorabench watch`."
        )
        self.base = base


class NoRoomError(MeasurementError):
    """The device has no room for what the pictures need besides the training."""

    def __init__(self, components: Sequence[str]) -> None:
        super().__init__(
            f"the device must hold the training and what makes pictures; it has no room for {', '.join(components)}, "
            f"which the script has let go. Judge the saved checkpoints from another process: `lorabench watch FOLDER`."
        )
        self.components = tuple(components)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the script loads its base from."""

    base: str
    """Folder or hub id."""
    revision: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Assembled:
    """A pipeline, and what is true of it."""

    pipeline: Any
    folder: Path
    """Of the base's files."""
    foreign: tuple[str, ...]
    """Components whose weights are not the base's own, such as another autoencoder."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    network: weakref.ref[Any]
    source: str
    component: str | None


class Networks:
    """The networks that a script loaded, without keeping them alive: what the script lets go is gone."""

    def __init__(self) -> None:
        self._loaded: list[_Loaded] = []

    def add(self, network: Any, *, source: str, component: str | None) -> None:
        """Remember a network.

        Args:
            network: As `from_pretrained` gave it.
            source: Folder or hub id it came from.
            component: Subfolder, if one was named.
        """
        self._loaded.append(_Loaded(weakref.ref(network), source, component))

    def alive(self, index: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
        """Those the script still holds, by component, each with its source; of several the newest.

        Args:
            index: Component to class name, of the base.
        """
        found: dict[str, tuple[Any, str]] = {}
        for one in self._loaded:
            network = one.network()
            component = one.component or _component_of(network, index)
            if network is not None and component is not None and component in index:
                found[component] = (network, one.source)
        return found


def assemble(
    origin: Origin, *, networks: Networks, trained: Sequence[Any], device: Any, half_precision: bool
) -> Assembled:
    """Build the pipeline.

    The networks in training are its own; the others are shared with the script where it still has them on the same
    device, and read from the base where not. In half precision accelerate gives the denoiser's outputs in float32, so
    the autoencoder must be one in float32.

    Args:
        origin: The script's base.
        networks: What the script loaded.
        trained: The unwrapped networks that hold the adapter.
        device: Of the training.
        half_precision: Whether accelerate runs the networks in fp16 or bf16.

    Raises:
        ScriptBaseError: The base is of another kind, or is not to be had.
        NoRoomError: The device is full.
    """
    import torch

    folder = _folder(origin)
    kind, index = _index(folder, origin.base)
    gc.collect()  # what the script has let go may still be held by a cycle
    alive = networks.alive(index)
    names = {id(network): name for name, (network, _) in alive.items()}
    parts: dict[str, Any] = {}
    for one in trained:
        parts[names.get(id(one)) or _component_of(one, index) or type(one).__name__] = one
    denoiser = next((name for name in DENOISERS if name in parts), None)
    if denoiser is None or not set(parts) <= set(index):
        raise ScriptBaseError(origin.base, f"the script trains {', '.join(type(one).__name__ for one in trained)}")
    shared = {
        name: network
        for name, (network, _) in alive.items()
        if name not in parts and _usable(name, network, device=device, half_precision=half_precision)
    }
    given = {**shared, **parts}
    precision = {"default": _dtype(parts[denoiser]), **({"vae": torch.float32} if half_precision else {})}
    pipeline = _pipeline(kind, folder, given, variant=origin.variant, precision=precision)
    own = [name for name in index if name not in given and isinstance(getattr(pipeline, name), torch.nn.Module)]
    with _room_for(own):
        for name in own:
            getattr(pipeline, name).requires_grad_(False).eval().to(device)
    foreign = tuple(
        name for name in (*shared, *parts) if name in alive and not _same_place(alive[name][1], origin.base)
    )
    return Assembled(pipeline, folder, foreign)


def _folder(origin: Origin) -> Path:
    if Path(origin.base).is_dir():
        return Path(origin.base)
    from diffusers import DiffusionPipeline

    more = {"revision": origin.revision, "variant": origin.variant, "use_safetensors": True}
    try:
        return Path(DiffusionPipeline.download(origin.base, **more))
    except (OSError, ValueError) as error:
        raise ScriptBaseError(origin.base, " ".join(str(error).split())[:200]) from error


def _index(folder: Path, base: str) -> tuple[str, dict[str, str]]:
    """The pipeline's class, and the class of each component that it has."""
    stated = read_model_index(folder)
    kind = str(stated.get("_class_name"))
    if kind not in FAMILIES:
        raise ScriptBaseError(base, f"it says {kind}")
    never = _NEVER.get(kind, {})
    parts = {name: value[1] for name, value in stated.items() if isinstance(value, list) and name not in never}
    return kind, {name: str(value) for name, value in parts.items() if value is not None}


def _component_of(network: Any, index: Mapping[str, str]) -> str | None:
    """The one component of this class; an autoencoder may be of another class than the base's."""
    if network is None:
        return None
    kind = type(network).__name__
    named = [name for name, found in index.items() if found == kind]
    if not named and kind.startswith("Autoencoder"):
        named = [name for name in index if name == "vae"]
    return named[0] if len(named) == 1 else None


def _usable(name: str, network: Any, *, device: Any, half_precision: bool) -> bool:
    """Whether a network of the script's makes pictures as it stands, on the device of the training."""
    import torch

    devices = {parameter.device for parameter in network.parameters()}
    if devices != {torch.device(device)} and {one.type for one in devices} != {torch.device(device).type}:
        return False
    return not (name == "vae" and half_precision and _dtype(network) != torch.float32)


def _dtype(network: Any) -> Any:
    named = ((name, one) for name, one in network.named_parameters() if ".lora_" not in name)
    return next((one.dtype for _, one in named if one.dtype.is_floating_point), None)


def _pipeline(
    kind: str, folder: Path, given: Mapping[str, Any], *, variant: str | None, precision: Mapping[str, Any]
) -> Any:
    """A pipeline of the given networks; diffusers reads the rest from the base, on the CPU."""
    import diffusers
    from diffusers.pipelines import pipeline_utils

    dtype_name = "dtype" if hasattr(pipeline_utils, "_resolve_dtype") else "torch_dtype"
    more: dict[str, Any] = {dtype_name: dict(precision), **({"variant": variant} if variant else {})}
    pipeline = getattr(diffusers, kind).from_pretrained(
        folder, **given, **_NEVER.get(kind, {}), use_safetensors=True, **more
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _same_place(source: str, base: str) -> bool:
    return source == base or Path(source).resolve() == Path(base).resolve()


@contextmanager
def _room_for(components: Sequence[str]) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NoRoomError(components) from error
