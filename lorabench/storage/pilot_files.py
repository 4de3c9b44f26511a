"""Pilots on disk."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from lorabench.errors import SpecError
from lorabench.records.pilot import PILOT_SCHEMA_VERSION, Pilot
from lorabench.storage.atomic import write_text


class PilotFileError(SpecError):
    """A pilot's file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a pilot must be a JSON file of schema version {PILOT_SCHEMA_VERSION}, as `lorabench pilot --output` "
            f"writes; {path}: {found}. Run the pilot again, or name its file."
        )
        self.path = path


def write_pilot(path: Path, pilot: Pilot) -> None:
    """Store a pilot, whole or not at all.

    Raises:
        DiskFullError: No space is left.
        NotWritableError: The file cannot be written.
    """
    write_text(path, pilot.model_dump_json(indent=1) + "\n")


def read_pilot(path: Path) -> Pilot:
    """Read a pilot.

    Raises:
        PilotFileError: It is missing, no JSON, or of another form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PilotFileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise PilotFileError(path, f"not JSON ({error})") from error
    try:
        return Pilot.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise PilotFileError(path, f"{where}: {first['msg']}") from error
