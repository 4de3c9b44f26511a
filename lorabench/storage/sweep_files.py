"""Sweeps on disk: a folder with `sweep.json` and the pictures it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorabench.errors import SpecError
from lorabench.records.results import Results
from lorabench.records.sweep import SWEEP_SCHEMA_VERSION, Sweep
from lorabench.storage.atomic import write_text
from lorabench.storage.record_files import read_record
from lorabench.storage.run_folder import RunFolder

FILE = "sweep.json"


class SweepFileError(SpecError):
    """A sweep's file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a sweep must be a {FILE} of schema version {SWEEP_SCHEMA_VERSION}, as `lorabench sweep` writes; "
            f"{path}: {found}. Run the sweep again, or name its folder."
        )
        self.path = path


class SweepFolder:
    """Paths and files of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweep_path = folder / FILE
        self.page_path = folder / "sweep.html"
        self.pictures = folder / "pictures"

    @classmethod
    def of(cls, runs_dir: Path, *, suite: str, candidate: str, digest: str) -> SweepFolder:
        """The folder of a sweep, named by what is judged and by the digest of everything that decides its numbers."""
        name = re.sub(r"[^a-z0-9._-]+", "-", f"sweep-{suite}-{candidate}".lower()).strip("-.")
        return cls(runs_dir / f"{name[:80]}-{digest[:10]}")

    @property
    def sweep_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def picture_path(self, sha256: str) -> Path:
        """Where the picture with these pixels lies, if it is there."""
        return self.pictures / f"{sha256}.png"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            RunBusyError: Another process holds it.
        """
        with RunFolder(self.folder).claimed():
            yield

    def write(self, sweep: Sweep) -> None:
        """Store the sweep, whole or not at all."""
        write_sweep(self.sweep_path, sweep)


def write_sweep(path: Path, sweep: Sweep) -> None:
    """Store a sweep, whole or not at all.

    Raises:
        DiskFullError: No space is left.
        NotWritableError: The file cannot be written.
    """
    write_text(path, sweep.model_dump_json(indent=1) + "\n")


def find_sweep(run: Path, results: Results) -> Path | None:
    """The newest sweep beside a run's folder that is of the same candidate, base and suite.

    Args:
        run: The run's folder.
        results: Of the run.

    Returns:
        The sweep's folder. None without a candidate or without such a sweep; files that cannot be read are passed
        over, since nobody asked for them.
    """
    if results.candidate is None:
        return None
    wanted = (results.candidate.digest, results.base.digest, results.suite.content_digest())
    found: list[tuple[str, Path]] = []
    for path in sorted(run.resolve().parent.glob(f"sweep-*/{FILE}")):
        try:
            sweep = read_sweep(path)
        except SweepFileError:
            continue
        if (sweep.candidate.digest, sweep.base.digest, sweep.suite_digest) == wanted:
            found.append((sweep.provenance.created_at, path.parent))
    return max(found)[1] if found else None


def read_sweep(path: Path) -> Sweep:
    """Read `sweep.json`, or the one inside a sweep's folder.

    Raises:
        SweepFileError: It is missing, cut short, or of another schema version.
    """
    return read_record(path, Sweep, name=FILE, schema_version=SWEEP_SCHEMA_VERSION, refuse=SweepFileError)
