"""What a metric gives back where it has no number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no number. The verb that measures turns it into an `Unmeasured` record.

    Attributes:
        reason: What must hold; what was found; what to do.
    """

    reason: str
