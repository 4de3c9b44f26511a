"""The mini world's oracle as a detector: reads objects, colours and counts off its pictures, without weights."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lorabench.judges.pictures import check_pictures
from lorabench.judges.protocols import Picture
from lorabench.records.detection import Detection


class OracleDetector:
    """Procedural reading of the mini world's pictures; of no use on any other picture."""

    name = "oracle"
    reads_color = True
    counts_parts = frozenset({"hand", "person"})
    thresholds: Mapping[str, float] = MappingProxyType({"presence": 0.3, "count": 0.3})
    """Its score is the overlap with a template, which does not fall where objects are many."""

    def __init__(self) -> None:
        """Nothing to load."""
        from lorabench.world import drawing, oracle, scene

        self.classes = frozenset((*scene.SHAPES, *scene.FIGURES, oracle.BLOB))
        """All classes of the world."""
        sources = "".join(inspect.getsource(module) for module in (oracle, drawing, scene))
        self.weights_digest = hashlib.sha256(sources.encode()).hexdigest()
        """Over the source text of the oracle and of the world it reads: a change of either changes the readings."""

    def detect(self, pictures: Sequence[Picture], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        """Objects of the given classes in each picture, by falling score.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB.
            labels: Classes to keep (`circle`, `hand`, ...; `blob` is what has no known shape). A class the world does
                not know is never found.

        Returns:
            One tuple per picture.

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        from lorabench.world.oracle import detect

        check_pictures(pictures)
        wanted = frozenset(labels)
        return [
            tuple(sorted((found for found in detect(picture) if found.label in wanted), key=lambda found: -found.score))
            for picture in pictures
        ]
