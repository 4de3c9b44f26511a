"""What an evaluation could touch, recorded to be put back: attributes, tensors, optimiser, settings, generators.

A recorder takes its record when it is made and has `restore()`. Values go back by copying, never by computing: a
schedule-free optimiser's own way back from evaluation to training loses bits.
"""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

_MAPPINGS: Final = (dict, OrderedDict, defaultdict)
_CONTAINERS: Final = (*_MAPPINGS, list, set)
_SUMMED_AT_ONCE: Final = 1 << 22
"""Numbers; torch widens them all to 64 bits before it sums, and the accelerator may be nearly full."""
_PRECISION_PLACES: Final = ("", "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn", "mkldnn", "mkldnn.matmul")


class Attributes:
    """The attributes of an object, and what its own dictionaries, lists and sets hold.

    For a torch module this is nearly everything: mode, submodules, parameters, buffers, hooks, the switches and scales
    of an adapter, gradient checkpointing, attention processors, slicing of an autoencoder.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._values = dict(vars(target))
        self._contents = {
            name: _copied(value) for name, value in self._values.items() if type(value) in _CONTAINERS and value
        }
        self._empty = [name for name, value in self._values.items() if type(value) in _CONTAINERS and not value]

    def changed(self) -> list[str]:
        """Names of attributes that are not as recorded."""
        now = vars(self._target)
        differing = [name for name in (*now, *self._values) if now.get(name, self) is not self._values.get(name, self)]
        refilled = [name for name, held in self._contents.items() if not _same(self._values[name], held)]
        filled = [name for name in self._empty if self._values[name]]
        return list(dict.fromkeys((*differing, *refilled, *filled)))

    def restore(self) -> None:
        """Put back what differs, and touch nothing else."""
        changed = self.changed()
        now = vars(self._target)
        for name in changed:
            if name not in self._values:
                del now[name]
                continue
            value = self._values[name]
            if now.get(name, self) is not value:
                now[name] = value
            if type(value) in _CONTAINERS:
                _refill(value, self._contents.get(name, ()))


class Tensors:
    """Parameters and buffers: dtype, device, storage, gradient; the values of those that are in training.

    Values of frozen tensors are not copied, that would take the memory of a whole base; a sum over their bits tells
    whether they are still the same.
    """

    def __init__(self, named: Mapping[str, Any], *, saved: Iterable[Any]) -> None:
        """Record.

        Args:
            named: Every parameter and buffer by name.
            saved: Those whose values may change and are copied to the host: in training, or covered by an average.
        """
        kept = {id(one): one for one in saved}
        everything = {**{id(one): one for one in named.values()}, **kept}
        self._gradients = [(one, one.grad) for one in everything.values() if one.is_leaf]
        gradients = {f"gradient of {name}": one.grad for name, one in named.items() if one.is_leaf}
        self._named = {**named, **{name: one for name, one in gradients.items() if one is not None}}
        self._facts = {name: (one.dtype, one.device) for name, one in self._named.items()}
        self._storage = {name: one.data for name, one in self._named.items() if _plain(one)}
        self._requires_grad = [(one, one.requires_grad) for one in named.values()]
        copied = (*kept.values(), *(gradient for _, gradient in self._gradients if gradient is not None))
        self._values = [(one, _to_host(one)) for one in copied]
        self._sums = checksums(self._named)
        self.moved: list[str] = []

    def replace(self) -> None:
        """Put back the storage of tensors that were cast or moved; fills `moved`."""
        for name, one in self._named.items():
            if (one.dtype, one.device) != self._facts[name]:
                was, now = (f"{dtype} on {device}" for dtype, device in (self._facts[name], (one.dtype, one.device)))
                self.moved.append(f"{name} from {was} to {now}")
            held = self._storage.get(name)
            if held is not None and (one.dtype, one.device, one.data_ptr()) != (*self._facts[name], held.data_ptr()):
                one.data = held

    def restore(self) -> None:
        """Put back values, `requires_grad` and gradients."""
        for one, value in self._values:
            one.data.copy_(value)
        for one, flag in self._requires_grad:
            if one.requires_grad != flag:
                one.requires_grad_(flag)
        for one, gradient in self._gradients:
            if one.grad is not gradient:
                one.grad = gradient

    def differing(self) -> list[str]:
        """Names of tensors whose bits are not those recorded."""
        now = checksums(self._named)
        return [name for name, total in self._sums.items() if now[name] != total]


class OptimizerState:
    """Groups and state of an optimiser; with values where it has modes of its own, as schedule-free ones do."""

    def __init__(self, optimizer: Any) -> None:
        self.inner = unwrapped_optimizer(optimizer)
        self.has_modes = callable(getattr(self.inner, "eval", None)) and callable(getattr(self.inner, "train", None))
        groups = self.inner.param_groups
        self.was_training = self.has_modes and all(group.get("train_mode", True) for group in groups)
        self._attributes = Attributes(self.inner)
        held = (*groups, *(group["params"] for group in groups), *self.inner.state.values())
        self._containers = [(one, _copied(one)) for one in held if type(one) in _CONTAINERS]
        self._tensors = {
            f"optimiser state {key} of parameter {index}": value
            for index, entries in enumerate(self.inner.state.values())
            if isinstance(entries, Mapping)
            for key, value in entries.items()
            if is_tensor(value)
        }
        self._values = [(one, _to_host(one)) for one in self._tensors.values()] if self.has_modes else []
        self._sums = checksums(self._tensors)

    @property
    def parameters(self) -> list[Any]:
        """All parameters that the optimiser moves, in its order."""
        return [one for group in self.inner.param_groups for one in group["params"]]

    def evaluate(self) -> None:
        """Show the weights that this optimiser would ship."""
        if self.was_training:
            self.inner.eval()

    def restore(self) -> None:
        """Back to training mode, then every value as it was."""
        if self.was_training:
            self.inner.train()
        self._attributes.restore()
        for container, contents in self._containers:
            _refill(container, contents)
        for tensor, value in self._values:
            tensor.data.copy_(value)

    def differing(self) -> list[str]:
        """Names of state tensors whose bits are not those recorded."""
        now = checksums(self._tensors)
        return [name for name, total in self._sums.items() if now[name] != total]


class Generators:
    """The global generators of Python, NumPy, torch on the CPU, and torch on every CUDA device."""

    def __init__(self) -> None:
        self.states = generator_states()

    def restore(self) -> None:
        """Put every generator back."""
        import torch

        random.setstate(self.states["python"])
        np.random.set_state(self.states["numpy"])  # noqa: NPY002 - the global one is what is recorded
        torch.set_rng_state(self.states["torch"])
        for name, state in self.states.items():
            if name.startswith("cuda:"):
                torch.cuda.set_rng_state(state, name)


class Flags:
    """torch's settings for the whole process: precision, determinism, kernels, autocast, threads."""

    def __init__(self) -> None:
        self._settings = _settings()
        self._values = {name: _read(get) for name, (get, _) in self._settings.items()}

    def restore(self) -> None:
        """Set those that differ."""
        for name, (get, put) in self._settings.items():
            if _read(get) != self._values[name] and self._values[name] is not _UNREADABLE:
                put(self._values[name])


def flag_values() -> dict[str, str]:
    """Settings of torch for the whole process, in words."""
    return {name: str(_read(get)) for name, (get, _) in _settings().items()}


def generator_states() -> dict[str, Any]:
    """State of each global generator. CUDA's only where CUDA is in use: asking would start it on every device."""
    import torch

    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the global one is what is recorded
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimiser inside accelerate's wrapper."""
    while hasattr(optimizer, "optimizer") and hasattr(optimizer.optimizer, "param_groups"):
        optimizer = optimizer.optimizer
    return optimizer


def is_tensor(value: Any) -> bool:
    """Whether this is a torch tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def checksums(named: Mapping[str, Any]) -> dict[str, int]:
    """Sum over the bits of each tensor, taken as integers: equal tensors have equal sums, and hardly any others.

    Computed where the tensors lie, with one transfer per device. Tensors of a special layout are left out.

    Args:
        named: Tensors of any shape by name.
    """
    import torch

    by_device: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
    with torch.no_grad():
        for name, one in named.items():
            if _plain(one):
                parts = [part.sum(dtype=torch.int64) for part in _bits(one).split(_SUMMED_AT_ONCE)]
                by_device[one.device].append((name, torch.stack(parts).sum()))
        totals = [
            (name, int(total))
            for pairs in by_device.values()
            for name, total in zip(
                (name for name, _ in pairs), torch.stack([one for _, one in pairs]).tolist(), strict=True
            )
        ]
    return dict(totals)


def _bits(tensor: Any) -> Any:
    """A tensor's values as integers of the same width, (n,)."""
    import torch

    widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = tensor.detach().reshape(-1)
    if tensor.dtype is torch.bool:
        return flat
    return (torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat).view(
        widths[flat.element_size() // (2 if flat.is_complex() else 1)]
    )


def _plain(tensor: Any) -> bool:
    """Whether a tensor is strided values in memory, not a quantised or distributed wrapper."""
    import torch

    return type(tensor.data) is torch.Tensor and tensor.layout is torch.strided and not tensor.is_meta


def _to_host(tensor: Any) -> Any:
    """A copy in the host's memory, which costs no memory on the accelerator."""
    return tensor.detach().to("cpu", copy=True)


def _copied(container: Any) -> Any:
    return list(container.items()) if isinstance(container, Mapping) else list(container)


def _same(container: Any, contents: Any) -> bool:
    """Whether a container holds the same objects in the same order."""
    if len(container) != len(contents):
        return False
    if isinstance(container, Mapping):
        pairs = zip(container.items(), contents, strict=True)
        return all(key is old_key and value is old for (key, value), (old_key, old) in pairs)
    if isinstance(container, set):
        return container == set(contents)
    return all(value is old for value, old in zip(container, contents, strict=True))


def _refill(container: Any, contents: Any) -> None:
    if _same(container, contents):
        return
    container.clear()
    if isinstance(container, list):
        container.extend(contents)
    else:
        container.update(contents)


Getter = Callable[[], Any]
Setter = Callable[[Any], Any]
_UNREADABLE: Final = "not readable"


def _read(get: Getter) -> Any:
    """A setting's value. torch refuses to read the old names of a precision once the new ones were used."""
    try:
        return get()
    except RuntimeError:
        return _UNREADABLE


def _settings() -> dict[str, tuple[Getter, Setter]]:
    """Name to how a setting is read and set. Precisions' old names come first: the new ones have the last word."""
    import torch

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    found: dict[str, tuple[Getter, Setter]] = {
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "threads": (torch.get_num_threads, torch.set_num_threads),
        "matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "deterministic algorithms": (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1]),
        ),
        "flash attention": (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        "memory-efficient attention": (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        "plain attention": (cuda.math_sdp_enabled, cuda.enable_math_sdp),
        "cuDNN attention": (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
        "autocast cache": (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    }
    for name in ("benchmark", "deterministic", "enabled", "allow_tf32"):
        found[f"cuDNN {name}"] = _attribute(cudnn, name)
    for name in ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        found[f"CUDA matmul {name}"] = _attribute(cuda.matmul, name)
    for kind in ("cpu", "cuda"):
        found[f"autocast on {kind}"] = _of_device(kind, torch.is_autocast_enabled, torch.set_autocast_enabled)
        found[f"autocast dtype on {kind}"] = _of_device(kind, torch.get_autocast_dtype, torch.set_autocast_dtype)
    for place in _PRECISION_PLACES:
        backend: Any = torch.backends
        for part in filter(None, place.split(".")):
            backend = getattr(backend, part, None)
        if hasattr(backend, "fp32_precision"):
            found[f"fp32 precision {place}".rstrip()] = _attribute(backend, "fp32_precision")
    return found


def _attribute(place: Any, name: str) -> tuple[Getter, Setter]:
    return lambda: getattr(place, name), lambda value: setattr(place, name, value)


def _of_device(kind: str, get: Callable[[str], Any], put: Callable[[str, Any], Any]) -> tuple[Getter, Setter]:
    return lambda: get(kind), lambda value: put(kind, value)
