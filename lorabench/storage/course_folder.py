"""One training's course on disk: what was judged, what happened, and our own copies of checkpoints.

`course.json` is the truth and changes whole or not at all: an evaluation is in it or was never made. `events.jsonl`
grows by a line per event and is for people and tools. `loss.json` is the training's own loss, condensed.
`kept/<training step>/` holds adapters out of reach of the trainer's pruning.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.course import COURSE_SCHEMA_VERSION, Course
from lorabench.storage.atomic import DiskFullError, NotWritableError, write_bytes
from lorabench.storage.record_files import read_record

KEPT_NAMES: Final = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_config.json")
"""What is kept of a checkpoint's folder."""
TORN: Final = "torn"
"""Kind of a line of the event log that was cut short by a crash."""

_KEPT: Final = re.compile(r"^(?P<step>\d+)(?:-\d+)?$")


class CourseBusyError(MeasurementError):
    """Another process works in the course's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"one course folder must have one process; another one is at work in {folder}. "
            f"Wait for it, stop it, or name another folder."
        )
        self.folder = folder


class CourseFileError(SpecError):
    """A course's file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a course must be a course.json of schema version {COURSE_SCHEMA_VERSION}; {path}: {found}. "
            f"Name a course folder, or move the damaged one aside to begin again."
        )
        self.path = path


class OtherCourseError(SpecError):
    """The folder holds a course that was judged by other means."""

    def __init__(self, folder: Path, *, found: str, expected: str) -> None:
        super().__init__(
            f"all checkpoints of a course must be judged alike; the course in {folder} has the identity {found[:12]}, "
            f"suite, metrics, margins and base now make {expected[:12]}. Go back to those settings, name another "
            f"folder, or restart: the old course is then moved aside."
        )
        self.folder, self.found, self.expected = folder, found, expected


class CheckpointGoneError(MeasurementError):
    """A checkpoint went away before it was kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"a checkpoint must stay until it is kept; {path} is gone. Raise the trainer's limit of checkpoints, or "
            f"look more often."
        )
        self.path = path


class CourseFolder:
    """Paths and files of one course."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.folder = folder
        self.course_path = folder / "course.json"
        self.events_path = folder / "events.jsonl"
        self.loss_path = folder / "loss.json"
        self.kept = folder / "kept"
        self._clock = clock

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            CourseBusyError: Another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CourseBusyError(self.folder) from None
        try:
            yield
        finally:
            lock.release()

    def load(self, identity: str, *, restart: bool = False) -> Course:
        """The course so far; an empty one where there is none.

        Args:
            identity: Digest of everything that makes evaluations comparable.
            restart: Move a course of another identity aside, into `earlier/`, instead of refusing.

        Raises:
            CourseFileError: There is a file that cannot be read.
            OtherCourseError: The course has another identity.
        """
        if not self.course_path.exists():
            return Course(identity=identity)
        course = read_course(self.course_path)
        if course.identity == identity:
            return course
        if not restart:
            raise OtherCourseError(self.folder, found=course.identity, expected=identity)
        self._move_aside()
        return Course(identity=identity)

    def save(self, course: Course) -> None:
        """Store the course, whole or not at all."""
        write_bytes(self.course_path, course.model_dump_json(indent=1).encode())

    def event(self, kind: str, **facts: Any) -> None:
        """Append what happened to the event log, on disk when this returns.

        Args:
            kind: One word.
            facts: Plain JSON types.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The log cannot be written.
        """
        entry = {"at": self._clock().isoformat(timespec="milliseconds"), "kind": kind, **facts}
        line = (json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.events_path.open("a+b", buffering=0) as log:
                _append_line(log.fileno(), line)
        except OSError as error:
            raise _told(error, self.events_path, n_bytes=len(line)) from error

    def save_loss(self, state: Mapping[str, Any]) -> None:
        """Store what is remembered of the training's own loss, whole or not at all.

        Args:
            state: Plain JSON of bounded size, `LossTrend.state_dict()`.
        """
        write_bytes(self.loss_path, json.dumps(state, separators=(",", ":"), allow_nan=False).encode())

    def loss(self) -> dict[str, Any] | None:
        """What `save_loss` stored; None where there is nothing that can be read."""
        try:
            state = json.loads(self.loss_path.read_bytes())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first. A line that a crash cut short comes as `{"kind": "torn", "text": ...}`."""
        try:
            content = self.events_path.read_bytes()
        except FileNotFoundError:
            return []
        lines = content.decode("utf-8", errors="replace").split("\n")
        return [_event(line) for line in lines if line.strip()]

    def keep(self, training_step: int, files: Path | Sequence[Path], *, copy: bool = False) -> Path:
        """Keep a checkpoint's adapter out of reach of the trainer's pruning.

        Args:
            training_step: Of the checkpoint.
            files: A file, a checkpoint's folder (its adapter and the adapter's configuration are taken), or files.
            copy: Copy instead of hard-linking: for files that the trainer will overwrite in place.

        Returns:
            The folder, `kept/<training step>`; with a running number behind it where other weights of that step are
            kept already. The same weights are kept once.

        Raises:
            CheckpointGoneError: A file is not there any more.
            DiskFullError: No space is left; nothing half-kept stays behind.
            NotWritableError: The folder cannot be written.
        """
        sources = _sources(files)
        number = 1
        while (place := self._place(training_step, number)).exists():
            if _same(sources, place):
                return place
            number += 1
        temporary = self.kept / f".{training_step}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            temporary.mkdir(parents=True)
            for source in sources:
                _take(source, temporary / source.name, copy=copy)
            temporary.rename(place)
        except OSError as error:
            raise _told(error, place, n_bytes=0) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return place

    def kept_folders(self) -> list[tuple[int, Path]]:
        """Training step and folder of everything kept, ascending."""
        if not self.kept.is_dir():
            return []
        found = ((_KEPT.match(path.name), path) for path in self.kept.iterdir())
        return sorted((int(match["step"]), path) for match, path in found if match is not None)

    def own(self, place: Path) -> None:
        """Give a kept folder bytes of its own, so that a trainer that writes over its file cannot change ours.

        Raises:
            DiskFullError: No space is left.
            NotWritableError: The folder cannot be written.
        """
        for path in place.iterdir():
            if path.stat().st_nlink > 1:
                temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
                try:
                    shutil.copyfile(path, temporary)
                    temporary.replace(path)
                except OSError as error:
                    temporary.unlink(missing_ok=True)
                    raise _told(error, path, n_bytes=path.stat().st_size) from error

    def prune(self, keep_steps: Collection[int]) -> tuple[int, ...]:
        """Delete what is kept of other training steps, and what a crash left half-kept.

        Returns:
            Training steps whose checkpoints are kept no longer.
        """
        gone = [(step, path) for step, path in self.kept_folders() if step not in keep_steps]
        leftovers = list(self.kept.glob(".*.tmp")) if self.kept.is_dir() else []
        for path in (*(path for _, path in gone), *leftovers):
            shutil.rmtree(path, ignore_errors=True)
        return tuple(sorted({step for step, _ in gone}))

    def _place(self, training_step: int, number: int) -> Path:
        return self.kept / (str(training_step) if number == 1 else f"{training_step}-{number}")

    def _move_aside(self) -> None:
        """The course's own file goes last: after a crash in between, the next restart goes on in the same place."""
        number = 1
        while (place := self.folder / "earlier" / str(number)).joinpath(self.course_path.name).exists():
            number += 1
        place.mkdir(parents=True, exist_ok=True)
        for path in (self.kept, self.events_path, self.loss_path, self.course_path):
            if path.exists():
                path.rename(place / path.name)


def read_course(path: Path) -> Course:
    """Read `course.json`, or the one inside a course's folder.

    Raises:
        CourseFileError: It is missing, cut short, or of another schema version.
    """
    return read_record(path, Course, name="course.json", schema_version=COURSE_SCHEMA_VERSION, refuse=CourseFileError)


def _append_line(handle: int, line: bytes) -> None:
    """One write per line; a line that was cut short before is closed first."""
    size = os.lseek(handle, 0, os.SEEK_END)
    if size:
        os.lseek(handle, size - 1, os.SEEK_SET)
        if os.read(handle, 1) != b"\n":
            line = b"\n" + line
    left = memoryview(line)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"kind": TORN, "text": line}


def _sources(files: Path | Sequence[Path]) -> list[Path]:
    """The files to keep.

    Raises:
        CheckpointGoneError: One of them, or every adapter of a folder, is not there.
    """
    if isinstance(files, Path) and files.is_dir():
        found = [files / name for name in KEPT_NAMES if (files / name).is_file()]
        if not any(path.suffix == ".safetensors" for path in found):
            raise CheckpointGoneError(files)
        return found
    sources = [files] if isinstance(files, Path) else list(files)
    for path in sources:
        if not path.is_file():
            raise CheckpointGoneError(path)
    return sources


def _same(sources: Sequence[Path], place: Path) -> bool:
    """Whether a kept folder holds the same bytes under the same names."""
    if {path.name for path in sources} != {path.name for path in place.iterdir()}:
        return False
    return all(filecmp.cmp(path, place / path.name, shallow=False) for path in sources)


def _take(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy one file."""
    if not copy:
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise CheckpointGoneError(source) from None
        except OSError:  # another disk, or one without links
            pass
        else:
            return
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        raise CheckpointGoneError(source) from None


def _told(error: OSError, path: Path, *, n_bytes: int) -> MeasurementError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(path, n_bytes=n_bytes)
    return NotWritableError(path, reason=error.strerror or str(error))
