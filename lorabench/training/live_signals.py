"""The cheap signals of a live training: drift at every look, and the loss on fixed noise where there are pictures.

Both cost a few forwards and no picture. The base's own readings are taken with the adapter switched off, so that a
training that goes on after a crash is read against the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.errors import LorabenchError, MeasurementError
from lorabench.storage.training_set import read_training_set
from lorabench.training.asking import Encoded, LossNotFiniteError, switched_off
from lorabench.training.drift import GuidanceUnheardError, drift_reading, guidance_reading, takes_guidance
from lorabench.training.loss import LossReading, chosen_pictures, denoising_loss, loss_gap, relative_loss

if TYPE_CHECKING:
    from lorabench.generation.protocol import Picture
    from lorabench.records.config import Config
    from lorabench.records.suite import Suite

DRIFT_PROMPTS: Final = 8
"""Prompts of the suite on which the drift is read; four forwards each."""
TRAINING, HELD_OUT, GAP, DRIFT = "loss_training", "loss_held_out", "loss_gap", "drift"
GUIDANCE: Final = "guidance_lost"
"""Only of networks that take guidance as an input; others have none to lose."""


@dataclass(frozen=True)
class Signals:
    """What was read at one look.

    Attributes:
        values: For `Evaluation.signals`.
        unmeasured: Signal to why it has no value.
        not_finite: Why the weights are damaged, if they are.
    """

    values: dict[str, float] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)
    not_finite: str | None = None


@dataclass(frozen=True)
class _Captioned:
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]

    def first(self, count: int) -> _Captioned:
        """Some of them, the same in whatever order they were read."""
        rows = chosen_pictures(self.pictures, count)
        return _Captioned(tuple(self.pictures[row] for row in rows), tuple(self.captions[row] for row in rows))


class NoCaptionsError(MeasurementError):
    """Pictures whose loss is to be read have no captions."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"a loss needs pictures with captions; {folder} has none. Put captions.jsonl or <picture>.txt beside them."
        )
        self.folder = folder


class LiveSignals:
    """Reads the signals of one training. Encodes at the first look, while the text encoders are still there."""

    def __init__(self, config: Config, *, suite: Suite, pipeline: Any) -> None:
        """Keep what is needed; nothing is read or encoded yet.

        Args:
            config: Style, generation settings, training pictures, `[course]` `held_out` and `loss_pictures`.
            suite: Its first prompts, in the neutral style, are those of the drift.
            pipeline: A live pipeline around the modules in training.
        """
        self._config, self._pipeline = config, pipeline
        self._prompts = [case.render(config.style.neutral) for case in suite.cases[:DRIFT_PROMPTS]]
        self._encoded = Encoded()
        self._sets: dict[str, _Captioned] | None = None
        self._base: dict[str, LossReading] = {}
        self._missing: dict[str, str] = {}

    def read(self) -> Signals:
        """Drift and losses of the adapter as it is now. Call it inside the guard."""
        values: dict[str, float] = {}
        unmeasured: dict[str, str] = {}
        try:
            settings = self._config.generation
            drifted = drift_reading(self._pipeline, self._prompts, settings=settings, encoded=self._encoded)
            values |= drifted.signals(DRIFT)
            unmeasured |= self._guidance(values)
            values |= self._losses()
            unmeasured |= self._missing
        except LossNotFiniteError as error:
            return Signals(values, {DRIFT: str(error)}, not_finite=str(error))
        except MeasurementError as error:
            unmeasured[DRIFT if DRIFT not in values else TRAINING] = str(error)
        return Signals(values, unmeasured)

    def _guidance(self, values: dict[str, float]) -> dict[str, str]:
        """Add the answer to guidance to the values, or say why it has none."""
        if not takes_guidance(self._pipeline):
            return {}
        try:
            settings = self._config.generation
            read = guidance_reading(self._pipeline, self._prompts, settings=settings, encoded=self._encoded)
        except GuidanceUnheardError as error:
            return {GUIDANCE: str(error)}
        values |= read.signals(GUIDANCE)
        return {}

    def _losses(self) -> dict[str, float]:
        if self._sets is None:
            self._sets = self._read_sets()
        if self._sets and not self._base:
            with switched_off(self._pipeline):
                self._base = {name: self._loss(one) for name, one in self._sets.items()}
        now = {name: self._loss(one) for name, one in self._sets.items()}
        found: dict[str, float] = {}
        for name, reading in now.items():
            found |= relative_loss(reading, self._base[name]).signals(name)
        if len(now) == 2:
            first = {"held_out_first": self._base[HELD_OUT], "training_first": self._base[TRAINING]}
            found |= loss_gap(now[HELD_OUT], now[TRAINING], **first).signals(GAP)
        return found

    def _loss(self, one: _Captioned) -> LossReading:
        return denoising_loss(
            self._pipeline, one.pictures, one.captions, settings=self._config.generation, encoded=self._encoded
        )

    def _read_sets(self) -> dict[str, _Captioned]:
        """Training and held-out pictures, equally many; without held-out ones the training's alone."""
        course, training = self._config.course, self._config.training_set
        folders = {TRAINING: (training.folder, training.captions), HELD_OUT: (course.held_out, None)}
        found: dict[str, _Captioned] = {}
        for name, (folder, captions) in folders.items():
            if folder is None:
                continue
            try:
                found[name] = self._captioned(folder, captions)
            except LorabenchError as error:
                self._missing[name] = str(error)
        count = min([course.loss_pictures, *(len(one.pictures) for one in found.values())])
        return {name: one.first(count) for name, one in found.items()}

    def _captioned(self, folder: Path, captions: Path | None) -> _Captioned:
        settings = self._config.generation
        read = read_training_set(folder, captions, size=(settings.height, settings.width))
        rows: Sequence[tuple[Any, str]] = [
            (picture, text) for picture, text in zip(read.pictures, read.captions, strict=True) if text is not None
        ]
        if not rows:
            raise NoCaptionsError(folder)
        return _Captioned(tuple(picture for picture, _ in rows), tuple(text for _, text in rows))
