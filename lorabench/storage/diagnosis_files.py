"""Audits and diagnoses on disk: `audit.json`, and `diagnosis.json` beside a run's `results.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lorabench.errors import SpecError
from lorabench.records.audit import AUDIT_SCHEMA_VERSION, Audit
from lorabench.records.diagnosis import DIAGNOSIS_SCHEMA_VERSION, Diagnosis
from lorabench.storage.atomic import write_bytes
from lorabench.storage.record_files import read_record

AUDIT_FILE: Final = "audit.json"
DIAGNOSIS_FILE: Final = "diagnosis.json"


class AuditFileError(SpecError):
    """An audit cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"an audit must be an audit.json of schema version {AUDIT_SCHEMA_VERSION}; {path}: {found}. "
            "Make it again with `lorabench audit FOLDER --output audit.json`."
        )
        self.path = path


class DiagnosisFileError(SpecError):
    """A diagnosis cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a diagnosis must be a diagnosis.json of schema version {DIAGNOSIS_SCHEMA_VERSION}; {path}: {found}. "
            "Make it again with `lorabench diagnose RUN`, or delete it."
        )
        self.path = path


def read_audit(path: Path) -> Audit:
    """Read `audit.json`, or the one inside a folder.

    Raises:
        AuditFileError: It is missing, cut short, or of another schema version.
    """
    return read_record(path, Audit, name=AUDIT_FILE, schema_version=AUDIT_SCHEMA_VERSION, refuse=AuditFileError)


def write_audit(found: Audit, path: Path) -> None:
    """Store an audit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, found.model_dump_json(indent=1).encode())


def read_diagnosis(folder: Path) -> Diagnosis | None:
    """The diagnosis in a run's folder; None where there is none.

    Raises:
        DiagnosisFileError: It is cut short, or of another schema version.
    """
    path = folder / DIAGNOSIS_FILE
    if not path.is_file():
        return None
    return read_record(
        path,
        Diagnosis,
        name=DIAGNOSIS_FILE,
        schema_version=DIAGNOSIS_SCHEMA_VERSION,
        refuse=DiagnosisFileError,
    )


def write_diagnosis(found: Diagnosis, folder: Path) -> Path:
    """Store a diagnosis beside the results it is about."""
    path = folder / DIAGNOSIS_FILE
    write_bytes(path, found.model_dump_json(indent=1).encode())
    return path
