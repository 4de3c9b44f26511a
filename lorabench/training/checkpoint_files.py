"""Which checkpoints lie in a trainer's output folder, at which training steps, and whether they are written to the end.

Known are the names of the diffusers scripts, SimpleTuner and the Hugging Face Trainer (`checkpoint-500/`), of
sd-scripts (`name-step00000500`, `name-000010`), of ai-toolkit (`name_000000500`) and of OneTrainer
(`save/…-save-500-2-0`). A name that is none of these is listed with the reason, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lorabench.errors import LorabenchError, SpecError
from lorabench.generation.adapter import read_adapter
from lorabench.generation.safetensors_file import (
    PICKLE_SUFFIXES,
    NotSafetensorsError,
    TruncatedFileError,
    read_header,
    read_safetensors,
)

ADAPTER_NAMES: Final = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""An adapter inside a checkpoint's folder: diffusers and SimpleTuner, peft."""

_FOLDER: Final = re.compile(r"^checkpoint-(?P<step>\d+)(?P<ending>-rolling|-tmp)?$")
_STATE_FOLDER: Final = re.compile(r"-state$")
_ONE_TRAINER: Final = re.compile(
    r"^(?P<run>.*?)\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}-save-(?P<step>\d+)-(?P<epoch>\d+)-\d+$"
)
_SD_SCRIPTS_STEP: Final = re.compile(r"^(?P<run>.+)-step(?P<step>\d{8,})$")
_AI_TOOLKIT: Final = re.compile(r"^(?P<run>.+?)(?:_LoRA)?_(?P<step>\d{9,})$")
_SD_SCRIPTS_EPOCH: Final = re.compile(r"^(?P<run>.+)-(?P<epoch>\d{6})$")
_NUMBERED: Final = (_ONE_TRAINER, _SD_SCRIPTS_STEP, _AI_TOOLKIT, _SD_SCRIPTS_EPOCH)
_NAMELESS: Final = frozenset({"at", "epoch", "last"})
"""What sd-scripts writes in place of the name where none is given."""
_SIDECARS: Final = (("training_state.json", "global_step"), ("trainer_state.json", "global_step"))
"""Files beside an adapter that say its training step: SimpleTuner, Hugging Face Trainer."""
_WHOLE_MODELS: Final = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin")
_INCOMPLETE: Final = "checkpoint-is-incomplete.txt"
_MANIFEST, _GUARD = "checkpoint_manifest.json", ".guard"


class SeveralTrainingsError(SpecError):
    """A folder holds the checkpoints of more than one training."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder, self.names = folder, tuple(sorted(names))
        listed = ", ".join(repr(name) for name in self.names)
        super().__init__(
            f"a course is one training; {folder} holds checkpoints of {len(self.names)}: {listed}. "
            f"Say which one with --name."
        )


class NotAFolderError(SpecError):
    """What should be watched is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"a trainer's output folder must be named; {path} is a file. "
            f"Name its folder, or judge the one file with `lorabench run --lora`."
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """One checkpoint under a known name."""

    path: Path
    """The file or folder that the trainer named."""
    file: Path
    """The safetensors file."""
    run: str
    """Name of the training, as far as file names carry it."""
    training_step: int | None
    epoch: int | None = None
    final: bool = False
    """Saved at the end, under a name without number; such a file is overwritten by the next training."""
    note: str = ""
    """What a person should know about its step."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something in the folder that cannot be judged, or not yet."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder."""

    checkpoints: tuple[CheckpointFile, ...] = ()
    """Complete, each with its training step; ascending."""
    waiting: tuple[Left, ...] = ()
    """Still being written."""
    unrecognised: tuple[Left, ...] = ()
    """Adapters whose name says no training step, or files that are no adapters."""
    others: tuple[str, ...] = ()
    """Names of other trainings, whose checkpoints are left out."""


@dataclass
class _Found:
    known: list[CheckpointFile] = field(default_factory=list)
    waiting: list[Left] = field(default_factory=list)
    unrecognised: list[Left] = field(default_factory=list)


def find_checkpoints(
    folder: Path, *, name: str | None = None, final_step: int | None = None, steps_per_epoch: int | None = None
) -> Listing:
    """List the checkpoints of one training in its output folder.

    A file counts as complete when its header can be read and its length is the one that the header declares. Steps
    are numbers, so `checkpoint-1000` comes after `checkpoint-900`.

    Args:
        folder: The trainer's output folder; OneTrainer's workspace or its `save` folder. It need not exist yet.
        name: Only checkpoints of the training of this name.
        final_step: Training step of a final file that does not say its own.
        steps_per_epoch: Optimiser steps per epoch, for files that say only their epoch.

    Returns:
        What is complete, what is being written, and what was not recognised and why.

    Raises:
        NotAFolderError: `folder` is a file.
        SeveralTrainingsError: There is more than one training, and no name.
    """
    if folder.is_file():
        raise NotAFolderError(folder)
    found = _Found()
    loose: list[CheckpointFile] = []
    for path in _entries(folder):
        if path.is_dir():
            _folder_entry(path, found)
        elif path.suffix == ".safetensors":
            _file_entry(path, found, loose)
        elif path.suffix in PICKLE_SUFFIXES and any(pattern.match(path.stem) for pattern in _NUMBERED):
            found.unrecognised.append(Left(path, "a pickle, which is never loaded; let the trainer save safetensors"))
    _place_loose(loose, found)
    checkpoints = [_with_step(one, final_step=final_step, steps_per_epoch=steps_per_epoch) for one in found.known]
    names = {one.run for one in checkpoints}
    if name is None and len(names) > 1:
        raise SeveralTrainingsError(folder, names)
    chosen = [one for one in checkpoints if name is None or one.run == name]
    placed = [one for one in chosen if one.training_step is not None]
    unplaced = [Left(one.path, _why_without_step(one)) for one in chosen if one.training_step is None]
    return Listing(
        tuple(sorted(placed, key=lambda one: (one.training_step, one.final, one.path.name))),
        tuple(found.waiting),
        (*found.unrecognised, *unplaced),
        tuple(sorted(names - {one.run for one in chosen})),
    )


def weights_digest(file: Path, *, alpha: float | None = None) -> str:
    """A digest of an adapter's weights and strength, the one of its evaluations; metadata and name stay out.

    Args:
        file: The safetensors file.
        alpha: States alpha for a file that carries none.

    Returns:
        SHA-256 (hex). A file that is whole and yet no usable adapter has the digest of its tensors.

    Raises:
        MeasurementError: The file is cut short.
        SpecError: It has gone, or is no safetensors file.
    """
    try:
        return read_adapter(file, alpha=alpha).info.digest
    except LorabenchError:
        return read_safetensors(file).digest().hexdigest()


class Settling:
    """Knows since when files are as they are."""

    def __init__(self, settle_seconds: float) -> None:
        self.settle_seconds = settle_seconds
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def settled(self, file: Path, *, now: float) -> bool:
        """Whether a file was left alone for the settle time: by its date, or as watched.

        Args:
            file: The file.
            now: Seconds since 1970.
        """
        try:
            facts = file.stat()
        except OSError:
            return False
        state = (facts.st_size, facts.st_mtime_ns)
        if file not in self._seen or self._seen[file][0] != state:
            self._seen[file] = (state, now)
        since = min(facts.st_mtime, self._seen[file][1])
        return now - since >= self.settle_seconds


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in the folder and in OneTrainer's folder of saves, by name."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    for path in paths:
        if path.name == "save" and path.is_dir():
            yield from (inner for inner in sorted(path.iterdir()) if _ONE_TRAINER.match(inner.stem))
        else:
            yield path


def _folder_entry(path: Path, found: _Found) -> None:
    match = _FOLDER.match(path.name)
    if match is None:
        if path.name.startswith("checkpoint") and not _STATE_FOLDER.search(path.name):
            found.unrecognised.append(Left(path, "a folder named like a checkpoint, without a training step"))
        return
    if match["ending"] == "-tmp":
        found.waiting.append(Left(path, "the trainer is writing it"))
        return
    if (path / _INCOMPLETE).exists() or ((path / _MANIFEST).exists() and not (path / _GUARD).exists()):
        found.waiting.append(Left(path, "the trainer has not marked it as complete"))
        return
    file = next((path / name for name in ADAPTER_NAMES if (path / name).is_file()), None)
    if file is None:
        if any((path / name).exists() for name in _WHOLE_MODELS):
            found.unrecognised.append(Left(path, "it holds a whole model, not an adapter"))
        else:
            found.waiting.append(Left(path, f"no {' or '.join(ADAPTER_NAMES)} in it yet"))
        return
    if (metadata := _complete(file, path, found)) is None:
        return
    step = int(match["step"])
    found.known.append(CheckpointFile(path, file, "", step, note=_contradiction(step, metadata)))


def _file_entry(path: Path, found: _Found, loose: list[CheckpointFile]) -> None:
    if (metadata := _complete(path, path, found)) is None:
        return
    match = next((match for pattern in _NUMBERED if (match := pattern.match(path.stem))), None)
    if match is None:
        step = _step_in(metadata)
        run = "" if path.name in ADAPTER_NAMES else _run(path.stem)
        one = CheckpointFile(path, path, run, _step_of(path, metadata), final=True)
        (loose if step is None and path.name not in ADAPTER_NAMES else found.known).append(one)
        return
    parts = match.groupdict()
    run, epoch = _run(parts["run"]), _whole(parts.get("epoch"))
    if parts.get("step"):
        step = int(parts["step"])
        found.known.append(CheckpointFile(path, path, run, step, epoch, note=_contradiction(step, metadata)))
    else:
        found.known.append(CheckpointFile(path, path, run, _step_of(path, metadata), epoch))


def _complete(file: Path, path: Path, found: _Found) -> Mapping[str, str] | None:
    """The header's metadata; None where the file is not whole, which is noted."""
    try:
        declared, metadata = read_header(file)
        size = file.stat().st_size
    except TruncatedFileError as error:
        found.waiting.append(Left(path, f"{error.found} of at least {error.expected} bytes are there"))
    except NotSafetensorsError as error:
        found.unrecognised.append(Left(path, str(error)))
    except OSError as error:
        found.waiting.append(Left(path, f"it cannot be read: {error.strerror or error}"))
    else:
        if size == declared:
            return metadata
        if size < declared:
            found.waiting.append(Left(path, f"{size} of {declared} bytes are there"))
        else:
            found.unrecognised.append(Left(path, f"it has {size} bytes, its header declares {declared}"))
    return None


def _place_loose(loose: Iterable[CheckpointFile], found: _Found) -> None:
    """A plain name is the final file of a training whose numbered files are there; else nobody knows what it is."""
    runs = {one.run for one in found.known}
    for one in loose:
        if one.run in runs:
            found.known.append(one)
        else:
            reason = "its name is that of no trainer's checkpoint, and its header says no training step"
            found.unrecognised.append(Left(one.path, reason))


def _with_step(one: CheckpointFile, *, final_step: int | None, steps_per_epoch: int | None) -> CheckpointFile:
    if one.training_step is not None:
        return one
    if one.final and final_step is not None:
        return replace(one, training_step=final_step, note="training step as stated")
    if one.epoch is not None and steps_per_epoch is not None:
        return replace(one, training_step=one.epoch * steps_per_epoch, note="training step as stated per epoch")
    return one


def _why_without_step(one: CheckpointFile) -> str:
    if one.epoch is not None:
        return f"it is of epoch {one.epoch} and says no training step; state --steps-per-epoch"
    return "it is the final file and says no training step; state --final-step"


def _run(name: str) -> str:
    return "" if name in _NAMELESS else name


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _step_in(metadata: Mapping[str, str]) -> int | None:
    """Training step in a header: sd-scripts, ai-toolkit."""
    step = _whole(metadata.get("ss_steps"))
    return step if step is not None else _member(metadata.get("training_info", ""), "step")


def _step_of(file: Path, metadata: Mapping[str, str]) -> int | None:
    step = _step_in(metadata)
    return step if step is not None else _step_beside(file)


def _step_beside(file: Path) -> int | None:
    """Training step in a file beside the adapter: SimpleTuner, Hugging Face Trainer, sd-scripts' state folder."""
    places = [(file.parent / name, key) for name, key in _SIDECARS] if file.name in ADAPTER_NAMES else []
    places.append((file.with_name(f"{file.stem}-state") / "train_state.json", "current_step"))
    for place, key in places:
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if (step := _member(text, key)) is not None:
            return step
    return None


def _member(text: str, key: str) -> int | None:
    """A whole number of a JSON object; None where there is none."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _contradiction(step: int, metadata: Mapping[str, str]) -> str:
    other = _step_in(metadata)
    return "" if other in (None, step) else f"its name says training step {step}, its header {other}; the name is taken"
