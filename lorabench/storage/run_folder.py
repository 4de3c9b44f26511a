"""One run's folder: plan, results, report and pictures. The same command finds the same folder and goes on there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.results import RESULTS_SCHEMA_VERSION, Results
from lorabench.storage.atomic import write_bytes
from lorabench.storage.record_files import read_record

if TYPE_CHECKING:
    from lorabench.records.plan import Plan


class RunBusyError(MeasurementError):
    """Another process works in the run's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"one run folder must have one process; another one is at work in {folder}. Wait for it, or stop it."
        )
        self.folder = folder


class ResultsFileError(SpecError):
    """A results file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"results must be a results.json of schema version {RESULTS_SCHEMA_VERSION}; {path}: {found}. "
            "Name a run folder or its results.json, or make it again with `lorabench run`."
        )
        self.path = path


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan_path = folder / "plan.json"
        self.results_path = folder / "results.json"
        self.report_path = folder / "report.html"
        self.pictures = folder / "pictures"

    @classmethod
    def of(cls, runs_dir: Path, *, suite: str, candidate: str, digest: str) -> RunFolder:
        """The folder of a run, named by what is judged and by the digest of everything that decides its numbers."""
        name = re.sub(r"[^a-z0-9._-]+", "-", f"{suite}-{candidate}".lower()).strip("-.")
        return cls(runs_dir / f"{name[:80]}-{digest[:10]}")

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            RunBusyError: Another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunBusyError(self.folder) from None
        try:
            yield
        finally:
            lock.release()

    def picture_path(self, sha256: str) -> Path:
        """Where the picture with these pixels lies, if it is there."""
        return self.pictures / f"{sha256}.png"

    def write_plan(self, plan: Plan) -> None:
        """Store the plan."""
        write_bytes(self.plan_path, plan.model_dump_json(indent=1).encode())

    def write_results(self, results: Results) -> None:
        """Store the results."""
        write_bytes(self.results_path, results.model_dump_json(indent=1).encode())


def read_results(path: Path) -> Results:
    """Read `results.json`, or the one inside a run folder.

    Raises:
        ResultsFileError: It is missing, cut short, or of another schema version.
    """
    return read_record(
        path, Results, name="results.json", schema_version=RESULTS_SCHEMA_VERSION, refuse=ResultsFileError
    )
