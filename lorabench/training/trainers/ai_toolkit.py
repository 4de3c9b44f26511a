"""A monitor inside ostris' ai-toolkit, as an extension: a folder beside its own ones, no edit.

    # extensions/lorabench/__init__.py, in the folder of ai-toolkit
    from lorabench.callback import Monitor
    from lorabench.training.trainers.ai_toolkit import extension

    AI_TOOLKIT_EXTENSIONS = [extension(lambda: Monitor.from_config("lorabench.toml"))]

and `type: lorabench` in place of `type: diffusion_trainer` in the job's configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lorabench.generation.live_parts import pipeline_around
from lorabench.training.trainers.attachment import Attachment, TrainingMonitor
from lorabench.training.trainers.inside import (
    MissingHookError,
    NothingHeardError,
    SavedByTrainer,
    StopTrainingError,
    UnsuitedTrainingError,
    need,
)

TRAINER: Final = "ai-toolkit"
READ: Final = "27a03a9 of August 2026 (0.12.26)"
_HOOKS: Final = ("run", "hook_train_loop", "end_step_hook")
_SOFTWARE: Final = {"software": json.dumps({"name": "ai-toolkit"})}
"""As in the header of its own files: where it writes no alpha, alpha is the rank."""
_DTYPES: Final = {
    "float": "float32", "fp32": "float32", "single": "float32", "float32": "float32",
    "fp16": "float16", "half": "float16", "float16": "float16",
    "bf16": "bfloat16", "bfloat16": "bfloat16",
}  # fmt: skip


class ToolkitMonitor(Attachment):
    """A monitor on one process of a job.

    Every process of a distributed training calls `hook_train_loop` and `end_step_hook` once per step. ai-toolkit
    knows no stop without its user interface: a private exception leaves `run`, and nothing more is saved.
    """

    def __init__(self, monitor: TrainingMonitor, *, restart: bool = False, live: bool = True) -> None:
        """Hang up a monitor that was given neither pipeline nor adapter.

        Args:
            monitor: A `lorabench.callback.Monitor`.
            restart: Begin a new history where a stored state belongs to another suite or other metrics.
            live: Make pictures with the modules in training; False judges files on a second base.
        """
        super().__init__(monitor, restart=restart)
        self._live, self._begun = live, False
        self._loss: Any = None

    def watched(self, process_class: type) -> type:
        """A subclass that tells the monitor; everything else is the trainer's.

        Raises:
            MissingHookError: The class has not the hooks that are needed.
        """
        need(process_class, _HOOKS, trainer=TRAINER, read=READ)
        return _watched(process_class, lambda: self)

    def before_step(self, process: Any) -> None:
        """All is in place, and before the first step the weights are untouched.

        Raises:
            UnsuitedTrainingError: No memory for pictures; left as it was, the trainer would take it for its own want.
        """
        if self._begun:
            return
        self._begun = True
        try:
            self._attach(process)
        except RuntimeError as error:
            found = f"no room for pictures ({' '.join(str(error).split())[:100]}); give extension(..., live=False)"
            raise UnsuitedTrainingError(TRAINER, found=found) from error

    def after_batches(self, losses: Any) -> None:
        """What the step's loop returned: losses by name."""
        if isinstance(losses, Mapping) and "loss" in losses:
            self._loss = losses["loss"]

    def after_step(self, process: Any) -> None:
        """A step is over; while gradients are gathered no optimiser step was made.

        Raises:
            StopTrainingError: The monitor says stop.
        """
        loss, self._loss = self._loss, None
        if getattr(process, "is_grad_accumulation_step", False):
            return
        self.monitor.on_step_end(int(process.step_num), loss=loss)
        if self.monitor.should_stop:
            raise StopTrainingError

    def stopped(self, process: Any) -> None:
        """Close what the trainer would have closed at its end."""
        process.accelerator.end_training()
        if hasattr(process, "done_hook"):
            process.done_hook()

    def ended(self) -> None:
        """The training is over.

        Raises:
            NothingHeardError: No step was heard of.
        """
        if not self._begun:
            raise NothingHeardError(TRAINER)
        self.finish()

    def _attach(self, process: Any) -> None:
        need(process, ["accelerator", "network", "optimizer", "sd", "save_config"], trainer=TRAINER, read=READ)
        network = process.accelerator.unwrap_model(process.network) if process.network is not None else None
        if network is None:
            raise UnsuitedTrainingError(TRAINER, found="no network: the whole model is trained")
        need(network, ["save_weights"], trainer=TRAINER, read=READ)
        write = _writer(network, process.save_config)
        self.monitor.ema, self.monitor.modules = getattr(process, "ema", None), (network,)
        if self._live:
            _refuse_live(process, network)
            pipeline = _pipeline(process, base=self.monitor.config.model.base)
            self.monitor.pipeline, self.monitor.adapter = pipeline, ToolkitSwitch(network, pipeline, write=write)
        else:
            self.monitor.adapter = SavedByTrainer(write)
        self.begin(process.optimizer, stored=None)


class ToolkitSwitch(SavedByTrainer):
    """ai-toolkit's network in a pipeline: off where it is not active, as strong as its multiplier says."""

    def __init__(self, network: Any, pipeline: Any, *, write: Callable[[Path], object]) -> None:
        """Keep network and pipeline.

        Args:
            network: A `LoRASpecialNetwork`, or what has its `is_active` and `multiplier`.
            pipeline: Around the modules that it acts in.
            write: Writes its weights.
        """
        super().__init__(write, room=self._at_hand)
        self._network, self._pipeline = network, pipeline
        self._found = (network.is_active, network.multiplier)
        self._strength = float(network.multiplier)

    @property
    def changes_text(self) -> bool:
        """Whether it has modules in a text encoder."""
        return bool(getattr(self._network, "text_encoder_loras", ()))

    def switch(self, strength: float | None) -> None:
        """None is how the network is outside of its trainer's steps."""
        self._network.is_active = strength is not None
        self._network.multiplier = self._strength * (1.0 if strength is None else strength)

    def release(self) -> None:
        """As it was found."""
        self._network.is_active, self._network.multiplier = self._found

    @contextmanager
    def shown(self, path: Path) -> Iterator[None]:
        """Load an earlier file into it, and copy the live values back."""
        import torch

        own = (*self._network.parameters(), *self._network.buffers())
        held = [(one, one.detach().clone()) for one in own]
        try:
            self._network.load_weights(str(path))
            yield
        finally:
            with torch.no_grad():
                for one, value in held:
                    one.copy_(value)

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        """The pipeline's other modules where its denoiser is; the trainer may have put them aside."""
        parts = [part for part in self._pipeline.components.values() if hasattr(part, "parameters")]
        denoiser = getattr(self._pipeline, "transformer", None) or self._pipeline.unet
        place = _device(denoiser)
        aside = [(part, _device(part)) for part in parts if _device(part) not in (place, None)]
        try:
            for part, _ in aside:
                part.to(place)
            yield
        finally:
            for part, was in aside:
                part.to(was)


def extension(
    make_monitor: Callable[[], TrainingMonitor],
    *,
    uid: str = "lorabench",
    base: str = "diffusion_trainer",
    live: bool = True,
    restart: bool = False,
) -> type:
    """An extension whose process is one of ai-toolkit's own, with a monitor.

    Args:
        make_monitor: Makes a monitor for each job.
        uid: What the job's configuration names as `type`.
        base: The `type` that it stands for: `diffusion_trainer`, `sd_trainer`.
        live: As for `ToolkitMonitor`.
        restart: As for `ToolkitMonitor`.

    Returns:
        A class for `AI_TOOLKIT_EXTENSIONS`.
    """

    def get_process() -> type:
        process_class = _process_class(base)
        need(process_class, _HOOKS, trainer=TRAINER, read=READ)
        return _watched(process_class, lambda: ToolkitMonitor(make_monitor(), restart=restart, live=live))

    members = {"uid": uid, "name": f"{base} judged by lorabench", "get_process": staticmethod(get_process)}
    return type("LorabenchExtension", (), members)


def _watched(process_class: type, make_hooks: Callable[[], ToolkitMonitor]) -> type:
    parent: Any = process_class

    class Watched(parent):  # type: ignore[misc] # known when it runs
        def run(self) -> None:
            self.lorabench = make_hooks()
            try:
                super().run()
            except StopTrainingError:
                self.lorabench.stopped(self)
            self.lorabench.ended()

        def hook_train_loop(self, *batches: Any, **named: Any) -> Any:
            self.lorabench.before_step(self)
            losses = super().hook_train_loop(*batches, **named)
            self.lorabench.after_batches(losses)
            return losses

        def end_step_hook(self) -> None:
            super().end_step_hook()
            self.lorabench.after_step(self)

    Watched.__name__ = f"Watched{process_class.__name__}"
    return Watched


def _process_class(uid: str) -> Any:
    place = "extensions_built_in.sd_trainer"
    try:
        known = {one.uid: one for one in import_module(place).AI_TOOLKIT_EXTENSIONS}
    except (ModuleNotFoundError, AttributeError) as error:
        raise MissingHookError(TRAINER, needed=f"{place}.AI_TOOLKIT_EXTENSIONS", found=str(error), read=READ) from error
    if uid not in known:
        raise MissingHookError(TRAINER, needed=f"the extension {uid!r}", found=", ".join(sorted(known)), read=READ)
    return known[uid].get_process()


def _writer(network: Any, save_config: Any) -> Callable[[Path], object]:
    import torch

    stated = save_config.dtype
    dtype = getattr(torch, _DTYPES[stated]) if stated in _DTYPES else stated

    def write(path: Path) -> None:
        network.save_weights(str(path), dtype=dtype, metadata=dict(_SOFTWARE))

    return write


def _refuse_live(process: Any, network: Any) -> None:
    need(network, ["is_active", "multiplier", "load_weights"], trainer=TRAINER, read=READ)
    unloads = getattr(process.train_config, "unload_text_encoder", False)
    if unloads or getattr(process, "is_caching_text_embeddings", False):
        found = "text encoders that are taken away (cached or unloaded); give extension(..., live=False)"
        raise UnsuitedTrainingError(TRAINER, found=found)
    if getattr(network, "is_merged_in", False) or getattr(network, "is_lorm", False):
        raise UnsuitedTrainingError(TRAINER, found="a network that is merged into the base, or takes its place")


def _pipeline(process: Any, *, base: str) -> Any:
    model, unwrap = process.sd, process.accelerator.unwrap_model
    need(model, ["unet", "vae", "text_encoder", "tokenizer"], trainer=TRAINER, read=READ)
    denoiser = getattr(unwrap(model.unet), "_orig_mod", None) or unwrap(model.unet)
    parts = {"unet": denoiser, "transformer": denoiser, "vae": unwrap(model.vae)}
    for name in ("text_encoder", "tokenizer"):
        held = getattr(model, name)
        several = list(held) if isinstance(held, list | tuple) else [held]
        several = [unwrap(one) for one in several] if name == "text_encoder" else several
        parts |= {f"{name}{f'_{place}' if place > 1 else ''}": one for place, one in enumerate(several, 1)}
    return pipeline_around(parts, base=base)


def _device(module: Any) -> Any:
    return next((one.device for one in module.parameters()), None)
