"""Evaluate inside a training and leave it exactly as it was: same weights, optimiser, generators, bit for bit.

`undisturbed` records what an evaluation could touch, switches the modules to evaluation, and puts everything back,
whatever happens in between. Call it between two optimiser steps, never between a forward and its backward pass.
`docs/undisturbed.md` lists what is covered and what is not; `lorabench doctor --prove-undisturbed` shows it on one's
own base.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Final

from lorabench.training.averaged import Averaged, averaged
from lorabench.training.fingerprint import Subjects, differences, fingerprint
from lorabench.training.guard_errors import CannotGuardError, LeftChangedError, NotRestoredError
from lorabench.training.guard_state import Attributes, Flags, Generators, OptimizerState, Tensors, unwrapped_optimizer

_SHARDING: Final = {
    "torch.distributed.fsdp": "{where} is sharded by FSDP, whose forward needs every rank",
    "torch.distributed._composable": "{where} is sharded by FSDP, whose forward needs every rank",
    "deepspeed": "{where} belongs to DeepSpeed, which keeps and moves the weights itself",
}
_HOOKED: Final = frozenset({"_hf_hook", "forward"})
"""Attributes that accelerate and diffusers set on a module with a hook. Their empty registry is no hook."""


@contextmanager
def undisturbed(
    pipeline: Any = None,
    *,
    modules: Sequence[Any] = (),
    optimizer: Any = None,
    ema: Any = None,
    ema_parameters: Sequence[Any] = (),
    verify: bool = False,
) -> Iterator[None]:
    """Record the state of a training, evaluate in here, find everything as it was.

    Inside, all modules are in evaluation mode, without gradients and without gradient checkpointing; compiled modules
    run uncompiled; the optimiser shows the weights it would ship; averaged weights stand in for the live ones; the
    pipeline has a scheduler of its own. Afterwards, also after an exception, come back: modes, submodules, hooks,
    adapters and their scales, `requires_grad`, gradients, weights in training, optimiser, averaged weights, schedulers,
    torch's settings and every global generator. The body must not cast or move the modules, nor leave hooks behind.

    Args:
        pipeline: A diffusers pipeline whose modules are those in training.
        modules: Further modules (or the only ones) that the evaluation uses or the training trains, unwrapped.
        optimizer: The optimiser, also inside accelerate's wrapper. Needed where it has modes of its own.
        ema: Averaged weights to judge instead of the live ones; see `lorabench.training.averaged` for the kinds.
        ema_parameters: What the average was made from, where it cannot be found out.
        verify: Compare a fingerprint of everything before and after. Reads all values that train twice.

    Raises:
        CannotGuardError: Offload hooks, FSDP, DeepSpeed, tensors without data: nothing was touched.
        EmaMismatchError: The averaged weights fit no weights here.
        LeftChangedError: The body changed dtypes, devices or hooks; they were put back.
        NotRestoredError: Something could not be put back.
    """
    subjects = Subjects.of(pipeline, modules=modules, optimizer=optimizer, ema=ema)
    refuse(subjects.modules, optimizer=optimizer)
    state = OptimizerState(optimizer) if optimizer is not None else None
    shown = _averaged(subjects, state, ema_parameters) if ema is not None else None
    before = fingerprint(subjects) if verify else {}
    record = _Record(subjects, state=state, shown=shown)
    try:
        record.switch()
        with record.inside():
            yield
    except BaseException as error:
        record.restore()
        if lost := record.lost(before):
            raise NotRestoredError(lost) from error
        raise
    record.restore()
    if lost := record.lost(before):
        raise NotRestoredError(lost)
    if record.left:
        raise LeftChangedError(record.left)


def refuse(modules: Mapping[str, Any], *, optimizer: Any = None) -> None:
    """Say no where an evaluation inside the training could not be undone.

    Args:
        modules: Modules by name.
        optimizer: The optimiser.

    Raises:
        CannotGuardError: Offloading, sharding, or tensors without data.
    """
    for name, module in modules.items():
        for path, part in module.named_modules():
            where = ".".join(filter(None, (name, path)))
            if found := _sharded(part) or _offloaded(part):
                raise CannotGuardError(found.format(where=where))
        _refuse_parameters(name, module)
    inner = unwrapped_optimizer(optimizer)
    if found := _sharded(inner):
        raise CannotGuardError(found.format(where=f"the optimiser {type(inner).__name__}"))


class _Record:
    """Everything recorded, and its way back."""

    def __init__(self, subjects: Subjects, *, state: OptimizerState | None, shown: Averaged | None) -> None:
        self._subjects, self._state, self._shown = subjects, state, shown
        self._generators, self._flags = Generators(), Flags()
        self._attributes = {name: Attributes(one) for name, one in subjects.objects().items()}
        self._tensors = Tensors(subjects.tensors(), saved=[*subjects.trained(), *(shown.live if shown else ())])
        self.left: list[str] = []

    def switch(self) -> None:
        """Show what is to be judged: optimiser first, then the average, then evaluation mode."""
        import torch

        if self._state is not None:
            self._state.evaluate()
        if self._shown is not None:
            self._shown.show()
        torch.clear_autocast_cache()
        for module in self._subjects.parts():
            if module.training:
                module.training = False  # set, not called: some modules merge an adapter when asked to evaluate
            if getattr(module, "gradient_checkpointing", False) is True:
                module.gradient_checkpointing = False
        pipeline: Any = self._subjects.pipeline
        scheduler: Any = getattr(pipeline, "scheduler", None)
        if hasattr(type(scheduler), "from_config") and hasattr(scheduler, "config"):
            vars(pipeline)["scheduler"] = type(scheduler).from_config(scheduler.config)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Without gradients, and with compiled modules running uncompiled: no recompilation, no full cache."""
        import torch

        compiled = "torch._dynamo" in sys.modules
        with torch.no_grad(), torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield

    def restore(self) -> None:
        """Put back attributes, then storage, optimiser, values, flags, generators; each even if another one fails."""
        import torch

        self.left = [
            f"{attribute.strip('_')} of {name}"
            for name, one in self._attributes.items()
            for attribute in one.changed()
            if attribute.endswith("_hooks") or attribute in _HOOKED
        ]
        with ExitStack() as stack:
            stack.callback(self._generators.restore)
            stack.callback(self._flags.restore)
            stack.callback(torch.clear_autocast_cache)
            stack.callback(self._tensors.restore)
            if self._state is not None:
                stack.callback(self._state.restore)
            stack.callback(self._tensors.replace)
            for one in self._attributes.values():
                stack.callback(one.restore)
        self.left += self._tensors.moved

    def lost(self, before: Mapping[str, str]) -> list[str]:
        """What is not as it was, by name."""
        lost = [f"the values of {name}" for name in self._tensors.differing()]
        if self._state is not None:
            lost += self._state.differing()
        return lost + (differences(before, fingerprint(self._subjects)) if before else [])


def _averaged(subjects: Subjects, state: OptimizerState | None, stated: Sequence[Any]) -> Averaged:
    candidates = [subjects.trained(), *([state.parameters] if state else ())]
    candidates += [list(module.parameters()) for module in subjects.modules.values()]
    return averaged(subjects.ema, modules=list(subjects.modules.values()), candidates=candidates, stated=stated)


def _sharded(part: Any) -> str:
    for kind in type(part).__mro__:
        for place, found in _SHARDING.items():
            if kind.__module__ == place or kind.__module__.startswith(f"{place}."):
                return found
    return ""


def _offloaded(part: Any) -> str:
    """Hooks of accelerate and diffusers that move weights in and out around each forward."""
    own = getattr(part, "_hf_hook", None)
    for hook in (own, *getattr(own, "hooks", ())):
        if "Offload" in type(hook).__name__ or getattr(hook, "offload", False) is True:
            return f"{{where}} is moved in and out of memory by accelerate's {type(hook).__name__}"
    registered = getattr(getattr(part, "_diffusers_hook", None), "hooks", {})
    for name, hook in registered.items():
        if "offload" in name.lower() or "Offload" in type(hook).__name__:
            return f"{{where}} is moved in and out of memory by diffusers' {type(hook).__name__}"
    return ""


def _refuse_parameters(name: str, module: Any) -> None:
    places = set()
    for path, one in module.named_parameters():
        where = ".".join(filter(None, (name, path)))
        if one.is_meta:
            raise CannotGuardError(f"{where} has no data (it lies on the meta device)")
        if hasattr(one, "ds_id"):
            raise CannotGuardError(f"{where} is partitioned by DeepSpeed")
        if type(one.data).__name__ == "DTensor":
            raise CannotGuardError(f"{where} is spread over several ranks")
        places.add(one.device.type)
    if len(places) > 1:
        raise CannotGuardError(
            f"parts of {name} lie on {' and '.join(sorted(places))}, so something swaps them in and out"
        )
