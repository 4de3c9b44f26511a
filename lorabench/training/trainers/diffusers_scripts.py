"""A monitor inside diffusers' own training scripts, which stay as they are.

    run_script("train_dreambooth_lora_flux.py", arguments, attachment=ScriptAttachment(make))

The script runs in this process, as `__main__`. It is heard through the public calls of accelerate that it makes anyway
(`accelerate_seams`). When the first batch begins, a pipeline is put together around the networks in training and the
monitor is made. STOP makes the script's data loader end: the loop runs out, and the script saves its LoRA and ends by
itself.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from lorabench.errors import MeasurementError, SpecError
from lorabench.generation.adapter_errors import UnsupportedAdapterError
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.course import Decision
from lorabench.storage.atomic import write_json
from lorabench.training.guard import undisturbed
from lorabench.training.guard_errors import CannotGuardError
from lorabench.training.ranks import Ranks
from lorabench.training.trainers.accelerate_seams import heard_by
from lorabench.training.trainers.assembled_pipeline import Assembled, Networks, Origin, assemble
from lorabench.training.trainers.attachment import Attachment, TrainingMonitor
from lorabench.training.trainers.huggingface import STATE_FILE

_BASE: Final = "pretrained_model_name_or_path"
_SHARDED: Final = frozenset({"FSDP", "DEEPSPEED", "MEGATRON_LM", "TP"})
_AFTER_STOP: Final = {"validation_prompt": None, "push_to_hub": False}
"""Options of the scripts that hold no longer once a training was stopped."""


class ScriptNotFoundError(SpecError):
    """There is no such script."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the training script must be a Python file; {path} is none. Give the path of a script such as "
            f"train_dreambooth_lora_flux.py of diffusers' examples."
        )
        self.path = path


class NotAttachedError(SpecError):
    """The script ran to its end, and the monitor found nothing to judge."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"a script must train a LoRA with accelerate as diffusers' scripts do; this one {missing}. "
            f"Call lorabench.callback.Monitor in its loop, or judge its checkpoints with `lorabench watch`."
        )


class StepCountError(MeasurementError):
    """The script counts steps in another way."""

    def __init__(self, *, script: int, ours: int) -> None:
        super().__init__(
            f"the script's number of a step must be the number of optimiser steps done; it logged {script} after "
            f"{ours}. Judge its checkpoints with `lorabench watch`."
        )
        self.script, self.ours = script, ours


class NotEndedError(MeasurementError):
    """The script takes batches from somewhere else than a loader of accelerate's."""

    def __init__(self, *, stopped_at: int) -> None:
        super().__init__(
            f"a stopped training must run out of batches; the monitor stopped this one at step {stopped_at} and the "
            f"script went on with batches that accelerate did not prepare. It was ended without its own last save; the "
            f"adapters that were judged are in the course's folder."
        )
        self.stopped_at = stopped_at


class ScriptMonitor(TrainingMonitor, Protocol):
    """What a script asks of a `lorabench.callback.Monitor`.

    Attributes:
        decision: The last one.
    """

    decision: Decision

    def set_back(self, training_step: int) -> None:
        """What was judged after this step belongs to other weights."""


@dataclass(frozen=True, slots=True)
class LiveTraining:
    """A training whose first batch begins.

    Attributes:
        pipeline: Around the networks in training; None on a process that does not judge.
        adapter_name: Of the adapter in training.
        optimizer: As accelerate prepared it.
        base: Folder of the base's files; empty where not all of its weights are used.
        pictures: Folder of the training pictures, where the script names one.
        half_precision: Whether the networks run in fp16 or bf16 inside accelerate.
        first_step: Optimiser steps done before; above 0 where the training is resumed.
        trackers: The script's, open.
    """

    pipeline: Any
    adapter_name: str
    optimizer: Any
    base: str
    pictures: Path | None
    half_precision: bool
    first_step: int
    trackers: Sequence[Any]


class ScriptAttachment:
    """What hears of the script and tells the monitor.

    Attributes:
        monitor: Once the first batch has begun.
        stopped_at: Optimiser steps done when the monitor said STOP; None while it did not.
        output: The script's output folder, once it read its command line.
        leads: Whether this process judges; asked while there is a process group.
    """

    def __init__(
        self,
        make: Callable[[LiveTraining], ScriptMonitor],
        *,
        restart: bool = False,
        obey: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            make: Makes the monitor.
            restart: Begin a new history where a resumed checkpoint's state belongs to another suite or other metrics.
            obey: Whether a STOP ends the training; also one that a resumed checkpoint holds.
            say: Takes a line for the person.
        """
        self.monitor: ScriptMonitor | None = None
        self.stopped_at: int | None = None
        self.output: Path | None = None
        self.leads = True
        self._make, self._restart, self._obeys, self._say = make, restart, obey, say
        self._settings: argparse.Namespace | None = None
        self._networks = Networks()
        self._accelerator: Any = None
        self._trained: list[Any] = []
        self._optimizer: Any = None
        self._attachment: Attachment | None = None
        self._stored: Mapping[str, Any] = {}
        self._step = self._first_step = 0
        self._losses: list[Any] = []
        self._norm: Any = None
        self._unchecked = False
        self._finished = False

    def parsed(self, settings: argparse.Namespace) -> None:
        """Keep the script's settings; another parser's are none of our business."""
        if hasattr(settings, _BASE):
            self._settings = settings
            self.output = Path(getattr(settings, "output_dir", None) or ".")

    def loaded(self, model: Any, *, source: str, component: str | None) -> None:
        """Remember a network for the pipeline."""
        self._networks.add(model, source=source, component=component)

    def prepared(self, accelerator: Any, given: Sequence[Any], made: Sequence[Any]) -> None:
        """Note what is trained, and by which optimiser.

        Raises:
            CannotGuardError: The networks are sharded over the processes.
            UnsupportedAdapterError: The adapter is a DoRA.
        """
        trained = [one for one in given if getattr(one, "peft_config", None)]
        if not trained or self._settings is None:
            return
        kind = str(accelerator.distributed_type.name)
        if kind in _SHARDED:
            raise CannotGuardError(f"accelerate runs this training with {kind}, which spreads the network")
        if any(getattr(config, "use_dora", False) for one in trained for config in one.peft_config.values()):
            raise UnsupportedAdapterError("the training", method="DoRA", example="use_dora in its configuration")
        self._accelerator, self._trained = accelerator, trained
        self._optimizer = next((one for one in made if hasattr(one, "param_groups")), None)

    def resumed(self, folder: Path) -> None:
        """A checkpoint of the script was read: go on from its step, and from our state where it holds one.

        Raises:
            MeasurementError: Its name does not tell the step.
        """
        found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if found is None:
            raise MeasurementError(
                f"a resumed checkpoint must be named checkpoint-<step>; found {folder.name}. Resume from one that the "
                f"script named, or judge with `lorabench watch`."
            )
        self._step = self._first_step = int(found[1])
        file = folder / STATE_FILE
        self._stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def batch_begins(self, accelerator: Any) -> None:
        """Before the first batch, make the monitor.

        Raises:
            NotEndedError: The training was stopped before this batch.
        """
        if accelerator is not self._accelerator:
            return
        if self.stopped_at is not None:
            raise NotEndedError(stopped_at=self.stopped_at)
        if self._attachment is None:
            self._begin()

    def backward_was_run(self, loss: Any) -> None:
        """Keep the loss of a batch."""
        if self._attachment is not None:
            self._losses.append(loss.detach())

    def gradients_were_clipped(self, norm: Any) -> None:
        """Keep the norm of the gradients."""
        self._norm = norm

    def batch_ended(self, accelerator: Any) -> None:
        """After the last batch of an optimiser step, tell the monitor."""
        if self._attachment is None or accelerator is not self._accelerator or not accelerator.sync_gradients:
            return
        self._step += 1
        # fp16 makes infinite gradients now and then, drops the step and lowers its scale: that is no damage
        norm = None if accelerator.optimizer_step_was_skipped else self._norm
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses, self._norm = [], None
        self._attachment.monitor.on_step_end(self._step, loss=loss, grad_norm=norm)
        self._obey()
        self._unchecked = self._step == self._first_step + 1

    def logged(self, step: int | None) -> None:
        """Compare the script's count with ours, once.

        Raises:
            StepCountError: They differ.
        """
        if self._unchecked and step is not None:
            self._unchecked = False
            if step != self._step:
                raise StepCountError(script=step, ours=self._step)

    def saved(self, folder: Path) -> None:
        """Judge what was saved and lay our state beside it; with several processes, only the latter."""
        if self._attachment is None or self._finished:
            return
        if Ranks.here().n == 1:  # most scripts save on one process, and a judgement needs all of them
            self._attachment.monitor.on_checkpoint(folder, self._step)
            self._obey()
        if stored := self._attachment.state():
            write_json(folder / STATE_FILE, stored)

    def all_wait(self) -> None:
        """After the last step, and before the script casts the network to save it, close the course."""
        last = getattr(self._settings, "max_train_steps", None)
        if self.stopped_at is not None or (last is not None and self._step >= last):
            self.training_ends()

    def training_ends(self) -> None:
        """Close the course."""
        if self._attachment is not None and not self._finished:
            self._finished = True
            self._attachment.finish()

    def has_ended(self) -> bool:
        """Whether no further batch must be given."""
        return self.stopped_at is not None

    def check(self) -> None:
        """After the script: it must have been a training.

        Raises:
            NotAttachedError: It was none that can be heard.
        """
        if self._settings is None:
            raise NotAttachedError(f"has no --{_BASE}")
        if self._accelerator is None:
            raise NotAttachedError("prepared no network with a LoRA of peft")
        if self._attachment is None:
            raise NotAttachedError("ran no batch inside accelerator.accumulate")

    def _begin(self) -> None:
        self.leads = Ranks.here().leads
        self.monitor = self._make(self._live())
        self._attachment = Attachment(self.monitor, restart=self._restart)
        self._attachment.begin(self._optimizer, stored=self._stored)
        if not self._stored and self.leads:
            self.monitor.set_back(self._first_step)

    def _live(self) -> LiveTraining:
        settings, accelerator = self._settings, self._accelerator
        half = accelerator.mixed_precision in ("fp16", "bf16")
        assembled = self._assembled(half) if self.leads else None
        pictures = getattr(settings, "instance_data_dir", None)
        return LiveTraining(
            pipeline=None if assembled is None else assembled.pipeline,
            adapter_name=_adapter_name(self._trained),
            optimizer=self._optimizer,
            base="" if assembled is None or assembled.foreign else str(assembled.folder),
            pictures=None if pictures is None else Path(pictures),
            half_precision=half,
            first_step=self._first_step,
            trackers=tuple(accelerator.trackers),
        )

    def _assembled(self, half_precision: bool) -> Assembled:
        settings = self._settings
        assert settings is not None
        origin = Origin(
            base=str(settings.pretrained_model_name_or_path),
            revision=getattr(settings, "revision", None),
            variant=getattr(settings, "variant", None),
        )
        with undisturbed(modules=self._trained, optimizer=self._optimizer):
            return assemble(
                origin,
                networks=self._networks,
                trained=self._trained,
                device=self._accelerator.device,
                half_precision=half_precision,
            )

    def _obey(self) -> None:
        if self.monitor is None or not self._obeys or not self.monitor.should_stop or self.stopped_at is not None:
            return
        self.stopped_at = self._step
        for name, value in _AFTER_STOP.items():
            if getattr(self._settings, name, None):
                setattr(self._settings, name, value)
                if self._say is not None:
                    self._say(f"the script's --{name} is left out: the training was stopped")


def run_script(script: Path, arguments: Sequence[str], *, attachment: ScriptAttachment) -> None:
    """Run a training script with a monitor attached, as `python script arguments` would run it.

    Args:
        script: Path of the script, which is not changed.
        arguments: Its own command line.
        attachment: Hears, judges, stops.

    Raises:
        ScriptNotFoundError: There is none.
        NotAttachedError: It trained nothing that can be judged.
        CannotGuardError: A training that an evaluation would disturb; it ends before its first step.
        SystemExit: The script ended itself, as for `--help`.
    """
    if not script.is_file():
        raise ScriptNotFoundError(script)
    declare_missing_operators()
    with _as_main(script, arguments), heard_by(attachment):
        runpy.run_path(str(script), run_name="__main__")
    attachment.training_ends()
    attachment.check()


@contextmanager
def _as_main(script: Path, arguments: Sequence[str]) -> Iterator[None]:
    """The command line and the search path that the script would find."""
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(script), *arguments], [str(script.resolve().parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


def _adapter_name(trained: Sequence[Any]) -> str:
    names = {name for one in trained for name in one.peft_config}
    if len(names) != 1:
        raise CannotGuardError(f"the networks hold the adapters {', '.join(sorted(names))}, and one must be trained")
    return str(next(iter(names)))
