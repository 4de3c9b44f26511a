"""The runs behind the items: opened when the first item needs one, filled window by window, pulled whole by gates."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.evaluation.engine import CaseView, Run
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.generation.protocol import Backend
    from lorabench.pytest_plugin.options import Candidate, Options
    from lorabench.records.config import Config
    from lorabench.records.images import Image
    from lorabench.records.results import Results
    from lorabench.records.suite import Suite

RunKey = tuple[Path, str]
"""Suite file and candidate label: what has a run of its own."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One suite file under one candidate."""

    path: Path
    suite: Suite
    candidate: Candidate
    config: Config
    line_of: Mapping[str, int] = field(default_factory=dict)
    """Case id to line of the suite file, for messages."""

    @property
    def key(self) -> RunKey:
        """Names the run."""
        return self.path, self.candidate.label


@dataclass(slots=True)
class _State:
    """What is known about one subject during the session."""

    total: int
    suite: str
    backend: Backend | None = None
    run: Run | None = None
    failure: Exception | None = None
    """Why the run could not be opened; the same for every item."""
    results: Results | None = None
    selected: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    evaluated: set[str] = field(default_factory=set)
    seconds: float = 0.0
    case_seconds: dict[str, float] = field(default_factory=dict)


class OtherBackendError(ValueError):
    """Two `lora_backend` fixtures claim one suite file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"all items of a suite file must have one lora_backend; found two for {path}. "
            "Give the fixture session scope, and override it in one conftest.py only."
        )
        self.path = path


class Runner:
    """Opens, fills and closes the runs of a session. The `lora_runner` fixture."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._states: dict[RunKey, _State] = {}
        self._own_cache: tempfile.TemporaryDirectory[str] | None = None
        self._backends: dict[object, Backend] = {}
        self._judges: dict[object, JudgeSet] = {}

    def declare(self, subject: Subject) -> None:
        """Make a collected subject known, so that the summary can count what was not evaluated."""
        self._states.setdefault(subject.key, _State(total=len(subject.suite.cases), suite=subject.suite.name))

    def schedule(self, cases: Iterable[tuple[RunKey, str]]) -> None:
        """Say which prompts were selected, in their order. Windows are made of them."""
        by_run: dict[RunKey, dict[str, None]] = defaultdict(dict)
        for key, case in cases:
            by_run[key][case] = None
        for key, selected in by_run.items():
            self._states[key].selected = list(selected)
            self._states[key].pending = list(selected)

    def view(self, subject: Subject, case: str, *, backend: Backend | None) -> CaseView:
        """Pictures, measurements and checks of one prompt.

        Makes the next window of selected prompts if this one has no pictures yet. A window that fails is not blamed on
        all its prompts: this prompt is tried alone, and the others when their turn comes.

        Args:
            subject: Suite file and candidate.
            case: Id of the case.
            backend: What makes the pictures; None lets the settings choose.

        Raises:
            LorabenchError: The run cannot be opened, or this prompt cannot be measured.
        """
        state, run = self._open(subject, backend)
        if case in state.pending:
            self._make_window(state, run, case)
        view = run.case(case)
        state.evaluated.add(case)
        return view

    def results(self, subject: Subject, *, backend: Backend | None) -> Results:
        """Results of the whole suite, whatever was selected.

        Raises:
            LorabenchError: The run cannot be opened or finished.
        """
        state, run = self._open(subject, backend)
        if state.results is None:
            started = time.perf_counter()
            with run.folder.claimed():
                state.results = run.finish()
            state.seconds += time.perf_counter() - started
            state.pending.clear()
        return state.results

    def picture(self, subject: Subject, image: Image) -> NDArray[np.uint8]:
        """The pixels of a picture of an open run: (height, width, 3), RGB, 0 to 255."""
        run = self._states[subject.key].run
        if run is None:
            msg = f"a picture belongs to an open run; none is open for {subject.path}. Ask for the prompt first."
            raise ValueError(msg)
        return run.picture(image)

    def seconds_of(self, subject: Subject, case: str) -> float | None:
        """The prompt's share of the time its window took; None if its pictures were not made in a window."""
        return self._states[subject.key].case_seconds.get(case)

    def records(self) -> list[dict[str, Any]]:
        """What the summary needs of each subject, in plain types that cross process borders."""
        return [_record(key, state, enabled=self._options.enabled) for key, state in self._states.items()]

    def close(self) -> None:
        """Release the run folders and the session's own cache."""
        for state in self._states.values():
            if state.run is not None:
                state.run.close()
        if self._own_cache is not None:
            self._own_cache.cleanup()

    def _open(self, subject: Subject, backend: Backend | None) -> tuple[_State, Run]:
        self.declare(subject)
        state = self._states[subject.key]
        if state.failure is not None:
            raise state.failure.with_traceback(None)
        if state.run is None:
            state.backend = backend
            try:
                state.run = self._opened(subject, backend)
            except Exception as error:
                state.failure = error
                raise
        if state.backend is not backend:
            raise OtherBackendError(subject.path)
        return state, state.run

    def _opened(self, subject: Subject, backend: Backend | None) -> Run:
        from lorabench.evaluation.engine import open_run

        config = subject.config
        if self._options.no_cache:
            self._own_cache = self._own_cache or tempfile.TemporaryDirectory(prefix="lorabench-cache-")
            config = config.model_copy(update={"cache_dir": Path(self._own_cache.name)})
        model, judged = (config.model, config.cache_dir), (config.judges, config.training_set.folder is not None)
        run = open_run(
            config,
            suite=subject.suite,
            backend=backend or self._backends.get(model),
            judges=self._judges.get(judged),
            line_of=subject.line_of,
            cache_only=self._options.cache_only,
            command=f"pytest --lorabench {subject.path.name}",
        )
        if backend is None:
            self._backends[model] = run.backend
        self._judges[judged] = run.judges
        return run

    def _make_window(self, state: _State, run: Run, case: str) -> None:
        start = state.pending.index(case)
        window = (state.pending[start:] + state.pending[:start])[: self._options.window]
        started = time.perf_counter()
        try:
            run.measure_cases(window)
        except Exception:
            if len(window) == 1:
                raise
            window = [case]
            run.measure_cases(window)
        finally:
            spent = time.perf_counter() - started
            state.seconds += spent
            state.case_seconds.update(dict.fromkeys(window, spent / len(window)))
            state.pending = [other for other in state.pending if other not in window]


def _record(key: RunKey, state: _State, *, enabled: bool) -> dict[str, Any]:
    path, label = key
    run = state.run
    return {
        "file": str(path),
        "suite": state.suite,
        "candidate": label,
        "enabled": enabled,
        "total": state.total,
        "selected": len(state.selected),
        "evaluated": len(state.evaluated),
        "generated": run.n_generated if run is not None else 0,
        "from_cache": run.n_from_cache if run is not None else 0,
        "seconds": state.seconds,
        "folder": str(run.folder.folder) if run is not None and state.results is not None else None,
    }


def merge_records(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record per subject out of those of several processes: every process collects, one evaluates."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        kept = merged.setdefault((record["file"], record["candidate"]), dict(record))
        if kept["evaluated"] == 0 and kept["folder"] is None and (record["evaluated"] or record["folder"]):
            merged[record["file"], record["candidate"]] = dict(record)
    return list(merged.values())
