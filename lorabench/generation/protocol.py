"""What a backend must offer: cells in, pictures out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lorabench.records.plan import GenerationSettings, PlannedCell
from lorabench.records.results import BaseInfo

if TYPE_CHECKING:
    from lorabench.generation.adapter import AdapterFile

Picture = NDArray[np.uint8]
"""One picture: (height, width, 3), RGB, 0 to 255."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A cell with its picture, or with the reason why there is none. Exactly one of the two is set."""

    planned: PlannedCell
    picture: Picture | None
    failure: str | None = None
    seconds: float = 0.0
    """The cell's share of the time its batch took."""
    broken: str | None = None
    """What was wrong with the picture before it became whole numbers: NaN or infinite values. None if nothing was."""


@runtime_checkable
class OnDisk(Protocol):
    """A backend whose base lies in a folder that may be read while pictures are made."""

    base_folder: Path | None
    """Of the pipeline; None where there is none to read."""


class Backend(Protocol):
    """Makes pictures from cells. One base, at most one candidate."""

    name: str

    def base_info(self) -> BaseInfo:
        """What the base is. May read files but loads no weights where it can be avoided."""
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """Everything but prompt, seed, scale, settings and adapter that changes a picture; goes into cache keys."""
        ...

    def load_candidate(self, adapter: AdapterFile) -> None:
        """Attach the candidate, after checking that it fits the base and does something.

        Raises:
            MeasurementError: The adapter does not fit, loads only in part, or changes nothing.
        """
        ...

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        """Make the cells' pictures, in an order of the backend's choice, a batch at a time."""
        ...

    def round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures after the base's autoencoder: the floor below which no texture can be seen.

        Pictures have the size of the settings already.
        """
        ...
