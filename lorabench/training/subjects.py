"""What a monitor judges: the live pipeline with its adapter, or the file that the trainer would write.

The first needs a diffusers pipeline around the very modules in training, and no second base. The second needs only
that the adapter can be written down: the judge opens a base of its own beside the training, whose modules it never
calls. That is the way into trainers with models of their own, and costs the memory and the loading of that base.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lorabench.errors import SpecError
from lorabench.training.judges_memory import SPARE_BYTES, free_bytes, free_judges_where_short
from lorabench.training.live_signals import DRIFT, LiveSignals, Signals

if TYPE_CHECKING:
    from lorabench.generation.adapter_switch import AdapterSwitch, AdapterWriter
    from lorabench.generation.protocol import Backend
    from lorabench.records.config import Config
    from lorabench.records.suite import Suite
    from lorabench.training.checkpoint_judging import CheckpointJudge

_OWN_NETWORK = "drift and loss are read through adapters of peft; this one is the trainer's own."
_FILE_ONLY = "drift and loss are read inside a live pipeline; this training is judged by its files."


class NothingToJudgeError(SpecError):
    """A monitor was given neither a pipeline nor an adapter."""

    def __init__(self) -> None:
        super().__init__(
            "a monitor must be given the pipeline in training, or an adapter that can be saved; found neither. "
            "Give pipeline=... to Monitor.from_config, or hang the monitor on its trainer first."
        )


class Subject(Protocol):
    """What is judged, and what that needs."""

    @property
    def backend(self) -> Backend:
        """Makes the pictures."""

    def prepare(self, texts: Sequence[str]) -> dict[str, object]:
        """Before the first step: encode what must be encoded then, test what can be tested. Facts for the log."""

    def signals(self) -> Signals:
        """Cheap signals of the adapter as it is now."""

    def save(self, path: Path) -> object:
        """Write the adapter as it is now."""

    def shown(self, path: Path) -> AbstractContextManager[object]:
        """Around the judging of an earlier file."""

    def rest(self, judge: CheckpointJudge) -> None:
        """After an evaluation: free what the training may need."""


class LiveSubject:
    """A pipeline around the modules in training."""

    def __init__(
        self, config: Config, *, suite: Suite, pipeline: Any, adapter_name: str, adapter: AdapterSwitch | None
    ) -> None:
        """Look at the pipeline.

        Args:
            config: Settings.
            suite: Prompts of the screen.
            pipeline: The pipeline.
            adapter_name: Of peft's adapter in training.
            adapter: Where it is not one of peft's.

        Raises:
            LivePipelineError: The pipeline cannot be judged as it stands.
        """
        from lorabench.generation.live_backend import LiveBackend
        from lorabench.training.first_encoding import encode_once

        model = config.model
        self._live = LiveBackend(
            pipeline,
            adapter_name=adapter_name,
            base=model.base,
            batch_size=model.batch_size,
            cache_dir=config.cache_dir,
            adapter=adapter,
        )
        encode_once(pipeline)
        self._config, self._pipeline = config, pipeline
        self._signals = LiveSignals(config, suite=suite, pipeline=pipeline) if adapter is None else None

    @property
    def backend(self) -> Backend:
        """The pipeline's."""
        return self._live

    def prepare(self, texts: Sequence[str]) -> dict[str, object]:
        """Encode the prompts while the text encoders are here; test the adapter against the base."""
        self._live.encode_prompts(texts, settings=self._config.generation)
        return {"equals_base": self._live.step_zero_equals_base()}

    def signals(self) -> Signals:
        """Drift and losses."""
        return self._signals.read() if self._signals else Signals(unmeasured={DRIFT: _OWN_NETWORK})

    def save(self, path: Path) -> object:
        """Write the live adapter."""
        return self._live.live.save(path)

    def shown(self, path: Path) -> AbstractContextManager[object]:
        """Let the live adapter carry what it was then."""
        return self._live.live.shown(path)

    def rest(self, judge: CheckpointJudge) -> None:
        """Free the judges where memory is short; the base is the training's own."""
        free_judges_where_short(judge, self._pipeline, self._config.course)


class FileSubject:
    """An adapter that is judged by its file, on the configured base, loaded a second time."""

    def __init__(self, config: Config, *, adapter: AdapterWriter) -> None:
        """Keep what is needed.

        Args:
            config: Settings; `[model]` names the base.
            adapter: Writes the file.
        """
        self._config, self._adapter = config, adapter

    @property
    def backend(self) -> Backend:
        """A new one, without weights until it is asked for pictures: nothing here holds them.

        Raises:
            BaseNotFoundError: No base is named, or it is not there.
        """
        from lorabench.generation.diffusers_backend import DiffusersBackend

        return DiffusersBackend(self._config.model, cache_dir=self._config.cache_dir)

    def prepare(self, texts: Sequence[str]) -> dict[str, object]:
        """Nothing: prompts are encoded by the base that is loaded beside the training."""
        del texts
        return {"judged_by": "file"}

    def signals(self) -> Signals:
        """None."""
        return Signals(unmeasured={DRIFT: _FILE_ONLY})

    def save(self, path: Path) -> object:
        """Write it as its trainer would."""
        return self._adapter.save(path)

    def shown(self, path: Path) -> AbstractContextManager[object]:
        """The judge reads files itself."""
        del path
        return nullcontext()

    def rest(self, judge: CheckpointJudge) -> None:
        """Free base and judges where memory is short, or as `free_judges` says; both are loaded again when needed."""
        if self._config.course.free_judges == "never":
            return
        if self._config.course.free_judges == "auto" and not _short():
            return
        judge.free_judges()
        judge.free_base()
        gc.collect()
        _empty_cache()


def subject_of(
    config: Config, *, suite: Suite, pipeline: Any, adapter_name: str, adapter: AdapterSwitch | AdapterWriter | None
) -> Subject:
    """What a monitor judges, from what it was given.

    Raises:
        NothingToJudgeError: Neither a pipeline nor an adapter.
        SpecError, MeasurementError: It cannot be judged.
    """
    if pipeline is not None:
        switch: Any = adapter
        return LiveSubject(config, suite=suite, pipeline=pipeline, adapter_name=adapter_name, adapter=switch)
    if adapter is None:
        raise NothingToJudgeError
    return FileSubject(config, adapter=adapter)


def _short() -> bool:
    """Whether a GPU here has little memory left while the second base is on it."""
    import torch

    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return any((left := free_bytes(device)) is not None and left < SPARE_BYTES for device in devices)


def _empty_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
