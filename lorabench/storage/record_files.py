"""One record in one JSON file: read whole, or told what is wrong with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from lorabench.errors import SpecError
from lorabench.records.record import Record

R = TypeVar("R", bound=Record)
_NEWER: Final = ", written by a newer lorabench than this one"
_UNKNOWN: Final = " (no version up to this one knows that key)"


def read_record(
    path: Path, kind: type[R], *, name: str, schema_version: int, refuse: Callable[[Path, str], SpecError]
) -> R:
    """Read a record, from its file or from the folder that holds the file.

    Args:
        path: File or folder.
        kind: The record's class.
        name: Of the file in a folder.
        schema_version: The only one that is understood.
        refuse: Makes the error from the file's path and what was found there, in words.

    Raises:
        SpecError: What `refuse` makes: the file is missing, cut short, of another schema version or holds unknown keys.
    """
    file = path / name if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise refuse(file, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise refuse(file, f"not UTF-8 text ({error.reason})") from error
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise refuse(file, f"not a JSON object ({error})") from error
    if version != schema_version:
        newer = isinstance(version, int) and version > schema_version
        raise refuse(file, f"schema version {version!r}{_NEWER if newer else ''}")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        raise refuse(file, f"{where}: {first['msg']}{_UNKNOWN if unknown else ''}") from error
