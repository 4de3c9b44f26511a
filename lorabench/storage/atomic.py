"""Writes a file whole or not at all: temporary name in its folder, flushed to disk, renamed over the target."""

from __future__ import annotations

import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

from lorabench.errors import MeasurementError


class DiskFullError(MeasurementError):
    """No space is left for a file."""

    def __init__(self, path: Path, *, n_bytes: int) -> None:
        super().__init__(
            f"{path.name} ({n_bytes} bytes) must fit on the disk; no space is left in {path.parent}. Free some, or "
            f"name a folder on another disk; what was finished before is kept."
        )
        self.path, self.n_bytes = path, n_bytes


class NotWritableError(MeasurementError):
    """The folder or the file cannot be written."""

    def __init__(self, path: Path, *, reason: str) -> None:
        super().__init__(
            f"{path.name} must be writable; writing it into {path.parent} failed: {reason}. "
            f"Change the permissions, or name another folder."
        )
        self.path = path


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically; its folder is made if missing. Readers see the old content or the new one, never a part.

    Args:
        path: The file.
        content: All of it.
        durable: Whether to wait until the disk has it, so that it outlives a power cut. Caches do not wait: their
            entries can be made again, a damaged one counts as missing, and for thousands of small files the waiting
            takes longer than all else.

    Raises:
        DiskFullError: No space is left. The target is as it was and nothing temporary stays behind.
        NotWritableError: The folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        _fill(handle, content, durable=durable)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(path, n_bytes=len(content)) from error
        raise NotWritableError(path, reason=error.strerror or str(error)) from error
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target` be the same file as `source`, or a copy where the disks or the rights allow no link; atomic.

    Args:
        source: A file that is only ever replaced, never written over.
        target: Where it shall be too; its folder is made if missing, and what stands there is replaced.

    Raises:
        FileNotFoundError: There is no `source`.
        DiskFullError: No space is left for a copy.
        NotWritableError: The folder of `target` cannot be written.
    """
    temporary = _temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        write_bytes(target, source.read_bytes())
        return
    try:
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # still there if both names were links to one file already


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8 and with the line ends that the text has. Errors as in `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write plain JSON types atomically: two blanks of indent, keys as given, a newline at the end."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode(), durable=durable)


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process takes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _fill(handle: int, content: bytes, *, durable: bool) -> None:
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)
