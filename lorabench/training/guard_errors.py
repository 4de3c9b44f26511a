"""What the guard around an evaluation refuses, and what it finds afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.errors import MeasurementError, SpecError


class CannotGuardError(MeasurementError):
    """A training that an evaluation inside it would disturb, whatever is recorded before."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"an evaluation inside a training must be able to put everything back; {found}. "
            f"Judge the saved checkpoints from another process: `lorabench watch FOLDER`."
        )
        self.found = found


class LeftChangedError(MeasurementError):
    """The evaluation changed what it must leave alone. The training is as it was; discard the evaluation."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__(
            f"an evaluation must leave dtypes, devices and hooks alone; this one changed {_listed(changes)}. "
            f"All of it was put back and the training is as it was; discard the evaluation and mend its code."
        )
        self.changes = tuple(changes)


class NotRestoredError(MeasurementError):
    """Something is not as it was before the evaluation: the training was disturbed."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__(
            f"after an evaluation the training must be as it was before; not restored: {_listed(changes)}. "
            f"Go on from the last checkpoint, without this evaluation."
        )
        self.changes = tuple(changes)


class EmaMismatchError(SpecError):
    """The averaged weights have no place among the live ones."""

    def __init__(self, kind: str, *, reason: str) -> None:
        super().__init__(
            f"averaged weights must fit the weights in training, in number and shape; {kind} does not: {reason}. "
            f"Give the parameters it was made from as ema_parameters, or leave ema out to judge the live weights."
        )
        self.kind = kind


def _listed(changes: Sequence[str]) -> str:
    shown = ", ".join(changes[:3])
    return shown if len(changes) <= 3 else f"{shown} and {len(changes) - 3} more"
