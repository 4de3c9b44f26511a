from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lorabench.errors import MeasurementError
from lorabench.storage.atomic import link_or_copy, write_bytes, write_json, write_text


def test_content_is_written_and_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "grün\n")
    write_json(tmp_path / "a" / "c.json", {"z": 1, "a": [None]})

    assert (tmp_path / "a" / "b.txt").read_bytes() == "grün\n".encode()
    assert (tmp_path / "a" / "c.json").read_text() == '{\n  "z": 1,\n  "a": [\n    null\n  ]\n}\n'


def test_old_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_text(tmp_path / "x", text)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "new")]


def full_disk(after: int) -> Any:
    real, written = os.write, 0

    def write(handle: int, content: Any) -> int:
        nonlocal written
        if written >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(handle, bytes(content[:3]))
        written += done
        return done

    return write


def test_full_disk_keeps_the_old_file_and_leaves_nothing_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "x", "old")
    monkeypatch.setattr(os, "write", full_disk(after=5))

    with pytest.raises(MeasurementError, match=r"x \(9 bytes\) must fit on the disk; no space is left in .* Free some"):
        write_bytes(tmp_path / "x", b"123456789")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", full_disk(after=1000))

    write_bytes(tmp_path / "x", b"123456789")

    assert (tmp_path / "x").read_bytes() == b"123456789"


def test_folder_that_is_a_file_is_named_in_the_error(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "file")

    with pytest.raises(
        MeasurementError, match=r"y must be writable; writing it into .* failed: .* name another folder"
    ):
        write_text(tmp_path / "x" / "y", "text")


def test_interruption_leaves_nothing_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)

    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == []


def test_linked_file_is_the_same_file_and_replaces_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "source", "new")
    write_text(tmp_path / "there" / "x", "old")

    for _ in range(2):
        link_or_copy(tmp_path / "source", tmp_path / "there" / "x")

    assert (tmp_path / "there" / "x").samefile(tmp_path / "source")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["x"]


def test_file_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    write_text(tmp_path / "source", "text")

    link_or_copy(tmp_path / "source", tmp_path / "there" / "x")

    assert (tmp_path / "there" / "x").read_text() == "text"
    assert not (tmp_path / "there" / "x").samefile(tmp_path / "source")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["x"]


def test_linking_into_a_folder_that_is_a_file_is_named_in_the_error(tmp_path: Path) -> None:
    write_text(tmp_path / "source", "text")
    write_text(tmp_path / "x", "file")

    with pytest.raises(MeasurementError, match=r"y must be writable; writing it into .* failed"):
        link_or_copy(tmp_path / "source", tmp_path / "x" / "y")


def test_file_that_is_not_there_is_not_linked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "source", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("durable", "waits"), [(True, 1), (False, 0)])
def test_caches_do_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, waits: int
) -> None:
    waited = []
    monkeypatch.setattr(os, "fsync", waited.append)
    write_bytes(tmp_path / "entry", b"content", durable=durable)
    assert (tmp_path / "entry").read_bytes() == b"content"
    assert len(waited) == waits
