"""A proof on one's own base and device that an evaluation inside a training leaves no trace.

The same short training runs four times from the same seeds: twice without evaluations, once with guarded ones, once
with the same evaluations unguarded. The first two must agree, else the device itself is not deterministic; the last one
must differ, else the comparison could not have failed.

The adapter learns to turn noise into noise: what it learns means nothing, but every step draws from the global
generators, has dropout and moves an optimiser, which is what an evaluation could disturb. Training needs peft; this and
`generation` are the only places that import it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from lorabench.generation.base_files import pipeline_class
from lorabench.generation.diffusers_backend import BaseLoadError
from lorabench.generation.families import FAMILIES
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.training.fingerprint import Subjects, differences, fingerprint
from lorabench.training.guard import undisturbed
from lorabench.training.guard_state import Flags, Generators

Outcome = Literal["identical", "disturbed", "not shown"]
Evaluate = Callable[[Any], None]
"""Takes the pipeline in training."""

PROMPT: Final = "a photo of a red circle and a blue square"
_ADAPTER: Final = "lorabench_proof"
_SEED: Final = 20
_SMALLEST: Final = 128


@dataclass(frozen=True, slots=True)
class Proof:
    """What the four trainings showed.

    Attributes:
        base: Name of the base.
        device: Where they ran.
        n_steps: Training steps of each.
        n_evaluations: Evaluations in each of the two that had them.
        n_compared: Tensors, generators, modes and settings compared.
        repeated: What differs between the two trainings without evaluations.
        watched: What differs with guarded evaluations.
        bare: What differs with the same evaluations unguarded.
        seconds: Of all four trainings.
    """

    base: str
    device: str
    n_steps: int
    n_evaluations: int
    n_compared: int
    repeated: tuple[str, ...]
    watched: tuple[str, ...]
    bare: tuple[str, ...]
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """`not shown` where the device is not deterministic, or where nothing could have differed."""
        if self.repeated or not self.bare:
            return "not shown"
        return "disturbed" if self.watched else "identical"

    @property
    def sentence(self) -> str:
        """The outcome for a person."""
        if self.repeated:
            return (
                f"not shown: two trainings of {self.n_steps} steps without any evaluation differ on {self.device} "
                f"in {_counted(self.repeated)}; its kernels are not deterministic, so nothing can be compared."
            )
        if not self.bare:
            return "not shown: the evaluations change nothing even without the guard, so the comparison cannot fail."
        runs = f"{self.n_steps} training steps with {self.n_evaluations} evaluations"
        if self.watched:
            return f"disturbed: {runs} end elsewhere than without, in {_counted(self.watched)}."
        return (
            f"bit-identical: {runs} end in the same weights, optimiser and generators as without "
            f"({self.n_compared} compared). Without the guard they differ in {_counted(self.bare)}."
        )


def prove(
    base: Path,
    *,
    device: str = "auto",
    n_steps: int = 12,
    every: int = 4,
    evaluate: Evaluate | None = None,
    observe: Callable[[str], None] | None = None,
) -> Proof:
    """Train a small adapter four times, and compare.

    Args:
        base: Folder of a diffusers pipeline.
        device: `cpu`, `cuda`, ..., or `auto`.
        n_steps: Training steps of each training.
        every: Steps between evaluations.
        evaluate: Gets the pipeline in training; by default makes pictures with and without the adapter, and draws from
            and seeds the global generators.
        observe: Told what begins.

    Raises:
        SpecError: No base there, or one of a kind that is not known.
        MeasurementError: It cannot be loaded.
        ValueError: Fewer than two steps after the first evaluation: a disturbance could not show.
    """
    if n_steps < every + 2:
        msg = f"a disturbance shows in later steps; got {n_steps} steps with evaluations every {every}. Train longer."
        raise ValueError(msg)
    tell = observe or (lambda _words: None)
    evaluation = evaluate or evaluate_roughly
    start = time.monotonic()
    generators, flags = Generators(), Flags()
    try:
        tell("loading the base")
        training = _Training(base, device=device)

        def run(words: str, inside: Evaluate | None) -> Mapping[str, str]:
            tell(words)
            return training.run(n_steps=n_steps, every=every, evaluate=inside)

        alone = run("training without evaluations", None)
        again = run("training without evaluations, again", None)
        watched = run("training with guarded evaluations", training.guarded(evaluation))
        bare = run("training with unguarded evaluations, as a control", evaluation)
    finally:
        flags.restore()
        generators.restore()
    return Proof(
        base=base.name,
        device=training.device,
        n_steps=n_steps,
        n_evaluations=n_steps // every,
        n_compared=len(alone),
        repeated=tuple(differences(alone, again)),
        watched=tuple(differences(alone, watched)),
        bare=tuple(differences(alone, bare)),
        seconds=time.monotonic() - start,
    )


def evaluate_roughly(pipeline: Any) -> None:
    """Pictures of base and adapter as a careless evaluation makes them, which seeds every global generator."""
    import torch

    denoiser = _denoiser(pipeline)
    denoiser.eval()
    with torch.no_grad():
        for switch in (denoiser.disable_adapters, denoiser.enable_adapters):
            switch()
            torch.manual_seed(1)
            pipeline(PROMPT, **_smallest(pipeline), num_inference_steps=2)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - a careless evaluation uses the global one
    denoiser.train()


class _Training:
    """A base with a small adapter, trained again and again from the same state."""

    def __init__(self, base: Path, *, device: str) -> None:
        import torch

        self.device = _device(device)
        self.pipeline = _loaded(base, device=self.device)
        self.optimizer: Any = None
        self._denoiser = _denoiser(self.pipeline)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.manual_seed(_SEED)
        self._inputs = _inputs(self.pipeline)
        self._weights = _adapted(self.pipeline)
        self._first = [one.detach().clone() for one in self._weights]

    def guarded(self, evaluate: Evaluate) -> Evaluate:
        """The same evaluation inside the guard."""

        def inside(pipeline: Any) -> None:
            with undisturbed(pipeline, optimizer=self.optimizer, verify=True):
                evaluate(pipeline)

        return inside

    def run(self, *, n_steps: int, every: int, evaluate: Evaluate | None) -> dict[str, str]:
        """Train from the beginning; the fingerprint of the end and the losses."""
        import torch

        self._reset()
        losses = []
        for training_step in range(1, n_steps + 1):
            made = self._forward()
            loss = (made.float() - torch.randn(made.shape).to(made.device)).square().mean()
            loss = loss * (0.5 + random.random()) * float(0.5 + np.random.rand())  # noqa: S311, NPY002
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            if evaluate is not None and training_step % every == 0:
                evaluate(self.pipeline)
        subjects = Subjects.of(self.pipeline, modules=(), optimizer=self.optimizer, ema=None)
        return {**fingerprint(subjects), "losses": repr(losses)}

    def _reset(self) -> None:
        import torch

        for one, value in zip(self._weights, self._first, strict=True):
            one.data.copy_(value)
            one.grad = None
            one.requires_grad_(True)
        self._denoiser.train()
        self.optimizer = torch.optim.AdamW(self._weights, lr=1e-3)
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002 - the global generators are what is watched

    def _forward(self) -> Any:
        """The denoiser on new noise, conditioned as in the pipeline."""
        import torch

        arguments, named = self._inputs
        shown = arguments[0] if arguments else named["hidden_states"]
        noise = torch.randn(shown.shape).to(shown)
        if arguments:
            made = self._denoiser(noise, *arguments[1:], **named)
        else:
            made = self._denoiser(**{**named, "hidden_states": noise})
        return made[0] if isinstance(made, tuple) else made.sample


def _device(asked: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def _loaded(base: Path, *, device: str) -> Any:
    """The base's pipeline, frozen, in evaluation mode."""
    import torch

    name = pipeline_class(base, base=str(base), stated_family="auto")
    declare_missing_operators()
    import diffusers
    from diffusers.pipelines import pipeline_utils

    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    dtype_name = "dtype" if hasattr(pipeline_utils, "_resolve_dtype") else "torch_dtype"
    extra: dict[str, Any] = {dtype_name: dtype, "use_safetensors": True, "local_files_only": True}
    if name == "StableDiffusionPipeline":
        extra |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        pipeline = getattr(diffusers, name).from_pretrained(str(base), **extra)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BaseLoadError(str(base), reason=f"{type(error).__name__}: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(requires_grad=False)
            part.eval()
    return pipeline


def _inputs(pipeline: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the pipeline gives its denoiser in one sampling step, positional and named."""
    import torch

    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    denoiser = _denoiser(pipeline)
    handle = denoiser.register_forward_pre_hook(
        lambda _module, arguments, named: seen.append((arguments, named)), with_kwargs=True
    )
    try:
        with torch.no_grad():
            pipeline(PROMPT, **_smallest(pipeline), num_inference_steps=1)
    finally:
        handle.remove()
    return seen[0]


def _adapted(pipeline: Any) -> list[Any]:
    """Add a small adapter with dropout to the attention layers; its weights."""
    declare_missing_operators()
    from peft import LoraConfig

    denoiser = _denoiser(pipeline)
    config = LoraConfig(
        r=4, lora_alpha=4, lora_dropout=0.1, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v"]
    )
    denoiser.add_adapter(config, adapter_name=_ADAPTER)
    if next(denoiser.parameters()).device.type != "cpu":
        denoiser.enable_gradient_checkpointing()
    return [one for one in denoiser.parameters() if one.requires_grad]


def _smallest(pipeline: Any) -> dict[str, Any]:
    """Arguments of a call that makes a small picture."""
    family = FAMILIES[type(pipeline).__name__]
    size = max(_SMALLEST, 8 * family.size_multiple(pipeline))
    short = {"max_sequence_length": 24} if "max_sequence_length" in family.accepts else {}
    return {"height": size, "width": size, "output_type": "np", **short}


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, "transformer", None) or pipeline.unet


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)} {'place' if len(names) == 1 else 'places'}, first {names[0]}"
