from pathlib import Path

import pytest

from lorabench.errors import SpecError
from lorabench.records.record import Record
from lorabench.storage.record_files import read_record


class Note(Record):
    schema_version: int = 3
    text: str


class NoteError(SpecError):
    pass


def read(path: Path) -> Note:
    return read_record(
        path, Note, name="note.json", schema_version=3, refuse=lambda file, found: NoteError(f"{file.name}: {found}")
    )


def test_record_is_found_by_its_file_and_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text(Note(text="grün").model_dump_json(), encoding="utf-8")

    assert read(tmp_path) == read(tmp_path / "note.json") == Note(text="grün")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (b'{"text": "a', "not a JSON object ("),
        (b"\xff", "not UTF-8 text (invalid start byte)"),
        (b'{"text": "a"}', "schema version None"),
        (b'{"schema_version": 2, "text": "a"}', "schema version 2"),
        (b'{"schema_version": 4, "text": "a"}', "schema version 4, written by a newer lorabench than this one"),
        (
            b'{"schema_version": 3, "text": "a", "mood": "b"}',
            "mood: Extra inputs are not permitted (no version up to this one knows that key)",
        ),
        (b'{"schema_version": 3}', "text: Field required"),
    ],
    ids=["missing", "cut-short", "binary", "no-version", "older", "newer", "unknown-key", "incomplete"],
)
def test_what_is_wrong_with_a_file_is_told_by_its_owners_error(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    if content is not None:
        (tmp_path / "note.json").write_bytes(content)

    with pytest.raises(NoteError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"note.json: {found}")
