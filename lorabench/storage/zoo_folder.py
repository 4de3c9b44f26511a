"""A zoo on disk: `manifest.json`, `adapters/<name>.safetensors`, `sets/<name>.zip`."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.proof import ZOO_SCHEMA_VERSION, Zoo, ZooEntry
from lorabench.storage.atomic import write_bytes
from lorabench.storage.record_files import read_record
from lorabench.storage.shipped import ShippedDataMissingError, shipped_data

MANIFEST: Final = "manifest.json"
_MOST_BYTES: Final = 50_000_000
"""Of one unpacked training set."""


class ManifestError(SpecError):
    """A zoo's manifest cannot be used."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a zoo must hold a {MANIFEST} of schema version {ZOO_SCHEMA_VERSION}; {path}: {found}. "
            "Name the zoo's folder, or build it again with fixtures/zoo/build_zoo.py."
        )
        self.path = path


class NoZooError(SpecError):
    """No zoo is named, and none comes with lorabench here."""

    def __init__(self) -> None:
        super().__init__(
            "a proof needs a zoo; none is named, and only the source tree holds one (fixtures/zoo). "
            "Name a folder with --zoo, or run from the source tree."
        )


class ZooFileError(MeasurementError):
    """A file that the manifest names is missing or damaged."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a zoo must hold an adapter and a training set for each entry of its manifest; {path}: {found}. "
            "Build the zoo again with fixtures/zoo/build_zoo.py."
        )
        self.path = path


def shipped_zoo() -> Path:
    """The zoo of the source tree; an installed lorabench has none.

    Raises:
        NoZooError: It is not there.
    """
    try:
        return shipped_data("fixtures/zoo")
    except ShippedDataMissingError:
        raise NoZooError from None


def read_zoo(folder: Path) -> Zoo:
    """Read a zoo's manifest.

    Raises:
        ManifestError: It is missing, damaged or of another schema version.
    """
    return read_record(folder, Zoo, name=MANIFEST, schema_version=ZOO_SCHEMA_VERSION, refuse=ManifestError)


def adapter_path(folder: Path, entry: ZooEntry) -> Path:
    """The file of an entry's adapter; for a planted fault that of its host.

    Raises:
        ZooFileError: It is not there.
    """
    path = folder / "adapters" / f"{entry.file}.safetensors"
    if not path.is_file():
        raise ZooFileError(path, "no such file")
    return path


def unpack_set(folder: Path, entry: ZooEntry, *, to: Path) -> Path:
    """Unpack an entry's training set.

    Args:
        folder: The zoo.
        entry: Whose set.
        to: Folder below which it is laid.

    Returns:
        The folder with pictures and captions.

    Raises:
        ZooFileError: The archive is missing, damaged, too large, or names files elsewhere.
    """
    source, target = folder / "sets" / f"{entry.file}.zip", to / entry.file
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _MOST_BYTES:
                raise ZooFileError(source, f"more than {_MOST_BYTES} bytes unpacked")
            for info in infos:
                if PurePosixPath(info.filename).name != info.filename:
                    raise ZooFileError(source, f"a file outside of its folder ({info.filename})")
                path = target / info.filename
                if not path.is_file() or path.stat().st_size != info.file_size:
                    write_bytes(path, archive.read(info))
    except (OSError, zipfile.BadZipFile) as error:
        raise ZooFileError(source, str(error)) from error
    return target
