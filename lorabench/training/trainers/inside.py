"""What the adapters for trainers without callbacks share: hooks that must be there, files as the trainer writes them.

Such a trainer is watched by a subclass, or by a few of its methods wrapped, of whatever version is installed. What is
needed is looked for first; where it is missing the adapter refuses, and says what it found.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from lorabench.errors import MeasurementError, SpecError

_ADVICE: Final = "Judge its checkpoints from another process with `lorabench watch FOLDER` instead."


class MissingHookError(SpecError):
    """This version of a trainer is not as the adapter needs it."""

    def __init__(self, trainer: str, *, needed: str, found: str, read: str) -> None:
        super().__init__(
            f"a monitor inside {trainer} needs {needed}; found {found}. It was written for {trainer} {read}. {_ADVICE}"
        )
        self.trainer, self.needed, self.found = trainer, needed, found


class UnsuitedTrainingError(SpecError):
    """A training of a kind that cannot be judged from inside."""

    def __init__(self, trainer: str, *, found: str) -> None:
        super().__init__(
            f"a monitor inside {trainer} judges a LoRA that one process can write; found {found}. {_ADVICE}"
        )
        self.trainer, self.found = trainer, found


class NothingHeardError(MeasurementError):
    """A training went by and no step was heard of."""

    def __init__(self, trainer: str) -> None:
        super().__init__(
            f"a monitor inside {trainer} must hear of every step; the training ended and it heard of none: either none "
            f"was made, or this version calls its hooks elsewhere. Nothing was judged. {_ADVICE}"
        )
        self.trainer = trainer


class StopTrainingError(Exception):
    """Raised inside a trainer that cannot be asked to stop, and caught around it. Not an error of anybody's."""


class SavedByTrainer:
    """An adapter that its trainer writes down, in the trainer's own format."""

    def __init__(
        self,
        write: Callable[[Path], object],
        *,
        room: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Keep how.

        Args:
            write: Writes the adapter as it is now into a file of this name, which ends in `.safetensors`.
            room: Around an evaluation: moves what can lie elsewhere meanwhile.
        """
        self._write, self.room = write, room

    def save(self, path: Path) -> Path:
        """Write the adapter; a temporary name is used until it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}.{path.name}")
        self._write(partial)
        partial.replace(path)
        return path


def need(owner: Any, names: Iterable[str], *, trainer: str, read: str) -> None:
    """Check that an object or a class has what is called on it.

    Args:
        owner: Trainer, module or class.
        names: Attributes.
        trainer: For the message.
        read: Version that was read.

    Raises:
        MissingHookError: One is missing.
    """
    kind = owner if inspect.isclass(owner) or inspect.ismodule(owner) else type(owner)
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        needed = ", ".join(f"{kind.__name__}.{name}" for name in missing)
        raise MissingHookError(trainer, needed=needed, found=f"no such attribute in {_place(kind)}", read=read)


def need_parameters(owner: type, method: str, parameters: Iterable[str], *, trainer: str, read: str) -> None:
    """Check that a method takes what is read from its calls.

    Raises:
        MissingHookError: The method is missing, or it takes other parameters.
    """
    need(owner, [method], trainer=trainer, read=read)
    has = list(inspect.signature(getattr(owner, method)).parameters)
    if not set(parameters) <= set(has):
        needed = f"{owner.__name__}.{method} with the parameters {', '.join(parameters)}"
        raise MissingHookError(
            trainer, needed=needed, found=f"{method}({', '.join(has)}) in {_place(owner)}", read=read
        )


def called_with(method: Callable[..., Any], *given: Any, **named: Any) -> Mapping[str, Any]:
    """Arguments of a call by the names that the method gives them, defaults included."""
    call = inspect.signature(method).bind(*given, **named)
    call.apply_defaults()
    return call.arguments


def _place(kind: Any) -> str:
    try:
        return inspect.getfile(kind)
    except (TypeError, OSError):
        return str(kind.__name__)


class Losses:
    """Losses of the micro-batches of one optimiser step."""

    def __init__(self) -> None:
        self._noted: list[Any] = []

    def note(self, loss: Any) -> None:
        """One micro-batch; a tensor stays where it is."""
        self._noted.append(loss.detach() if hasattr(loss, "detach") else loss)

    def mean(self) -> float | None:
        """Over what was noted since the last call; None for nothing."""
        noted, self._noted = self._noted, []
        return sum(float(one) for one in noted) / len(noted) if noted else None
