"""What a training consists of, by name, and a fingerprint of each piece: two equal fingerprints, one state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorabench.training.guard_state import checksums, flag_values, generator_states, is_tensor, unwrapped_optimizer


@dataclass(frozen=True)
class Subjects:
    """Pipeline, modules, optimiser and average of a training.

    Attributes:
        pipeline: The diffusers pipeline, or None.
        modules: Its modules by component name, then further ones as `module 0`, ...; none twice.
        optimizer: The optimiser, unwrapped, or None.
        ema: The averaged weights, or None.
    """

    pipeline: Any
    modules: dict[str, Any]
    optimizer: Any
    ema: Any

    @classmethod
    def of(cls, pipeline: Any, *, modules: Sequence[Any], optimizer: Any, ema: Any) -> Subjects:
        """Collect them.

        Raises:
            ValueError: Neither a pipeline nor a module is given.
        """
        import torch

        parts = dict(pipeline.components) if hasattr(pipeline, "components") else {"module": pipeline}
        found = {name: one for name, one in parts.items() if isinstance(one, torch.nn.Module)}
        known = {id(one) for one in found.values()}
        found |= {f"module {i}": one for i, one in enumerate(modules) if id(one) not in known}
        if not found:
            msg = "undisturbed needs what is trained; got neither a pipeline nor modules. Give one of them."
            raise ValueError(msg)
        owner = pipeline if hasattr(pipeline, "components") else None
        return cls(owner, found, None if optimizer is None else unwrapped_optimizer(optimizer), ema)

    def parts(self) -> list[Any]:
        """Every submodule once."""
        return list({id(part): part for one in self.modules.values() for part in one.modules()}.values())

    def tensors(self) -> dict[str, Any]:
        """Every parameter and buffer once, by its name; the optimiser's own that no module holds as well."""
        named: dict[int, tuple[str, Any]] = {}
        for name, module in self.modules.items():
            for path, one in (*module.named_parameters(), *module.named_buffers()):
                named.setdefault(id(one), (f"{name}.{path}", one))
        for index, one in enumerate(self._optimised()):
            named.setdefault(id(one), (f"parameter {index} of the optimiser", one))
        return dict(named.values())

    def trained(self) -> list[Any]:
        """Parameters that a gradient reaches, and those that the optimiser holds."""
        moving = [one for module in self.modules.values() for one in module.parameters() if one.requires_grad]
        return list({id(one): one for one in (*moving, *self._optimised())}.values())

    def objects(self) -> dict[str, Any]:
        """Everything with attributes that an evaluation could change, by name."""
        named: dict[int, tuple[str, Any]] = {}
        for name, module in self.modules.items():
            for path, part in module.named_modules():
                where = ".".join(filter(None, (name, path)))
                named.setdefault(id(part), (where, part))
                for extra in ("config", "processor"):
                    one = vars(part).get(extra)
                    if hasattr(one, "__dict__") and not isinstance(one, dict):
                        named.setdefault(id(one), (f"{where}.{extra}", one))
                for adapter, one in dict(vars(part).get("peft_config") or {}).items():
                    named.setdefault(id(one), (f"{where}.peft_config.{adapter}", one))
        for name, one in (
            ("pipeline", self.pipeline),
            ("scheduler", getattr(self.pipeline, "scheduler", None)),
            ("average", self.ema),
        ):
            if hasattr(one, "__dict__"):
                named.setdefault(id(one), (name, one))
        return dict(named.values())

    def _optimised(self) -> list[Any]:
        groups = self.optimizer.param_groups if self.optimizer is not None else ()
        return [one for group in groups for one in group["params"]]


def fingerprint(subjects: Subjects) -> dict[str, str]:
    """Digest of each piece of a training's state by name.

    Values that train, gradients, optimiser, average and generators are hashed (SHA-256); frozen tensors are summed over
    their bits, which needs no copy of them.
    """
    named, trained = subjects.tensors(), {id(one) for one in subjects.trained()}
    frozen = {name: one for name, one in named.items() if id(one) not in trained}
    found = {f"generator {name}": _digest(state) for name, state in generator_states().items()}
    found |= {name: f"{one.dtype} {one.device} {_digest(one)}" for name, one in named.items() if id(one) in trained}
    found |= {f"frozen {name}": str(total) for name, total in checksums(frozen).items()}
    found |= {f"gradient of {name}": _digest(one.grad) for name, one in named.items() if id(one) in trained}
    found |= {f"requires_grad of {name}": str(one.requires_grad) for name, one in named.items()}
    found |= {f"setting {name}": value for name, value in flag_values().items()}
    found |= {
        f"mode of {name}": str(one.training) for name, one in subjects.objects().items() if hasattr(one, "training")
    }
    return found | _of_optimizer(subjects.optimizer) | _of_average(subjects.ema)


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names of pieces that are not the same in two fingerprints, in the first one's order.

    A generator of CUDA that came into being in between is no difference: the training had none.
    """
    started = {name for name in after if name.startswith("generator cuda") and name not in before}
    names = [name for name in dict.fromkeys((*before, *after)) if name not in started]
    return [name for name in names if before.get(name) != after.get(name)]


def _of_optimizer(optimizer: Any) -> dict[str, str]:
    if optimizer is None:
        return {}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    found = {f"optimiser group {index}": _digest(group) for index, group in enumerate(groups)}
    for index, entries in enumerate(optimizer.state.values()):
        pairs = entries.items() if isinstance(entries, Mapping) else [("state", entries)]
        found |= {f"optimiser {key} of parameter {index}": _digest(value) for key, value in pairs}
    return found


def _of_average(ema: Any) -> dict[str, str]:
    if ema is None:
        return {}
    shadows = getattr(ema, "shadow_params", None)
    tensors = list(shadows) if shadows is not None else list(ema.parameters())
    return {f"average {index}": _digest(one) for index, one in enumerate(tensors)}


def _digest(value: Any) -> str:
    """SHA-256 over the bytes of tensors and arrays, and over the representation of plain values."""
    import torch

    digest = hashlib.sha256()
    if is_tensor(value):
        flat = value.detach().to("cpu").contiguous().reshape(-1)
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(f"{key}={_digest(item)}".encode())
    elif isinstance(value, tuple | list):
        for item in value:
            digest.update(_digest(item).encode())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(value).encode())
    return digest.hexdigest()
