from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from lorabench.records.proof import ZooEntry
from lorabench.storage import zoo_folder
from lorabench.storage.shipped import ShippedDataMissingError
from lorabench.storage.zoo_folder import (
    ManifestError,
    NoZooError,
    ZooFileError,
    adapter_path,
    read_zoo,
    shipped_zoo,
    unpack_set,
)

ENTRY = ZooEntry(name="one", failure="healthy", half="fix", story="made for a test")


def zipped(folder: Path, files: dict[str, bytes]) -> None:
    (folder / "sets").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "sets" / "one.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_a_manifest_is_read(tmp_path: Path) -> None:
    manifest = {"schema_version": 1, "adapters": [ENTRY.model_dump(mode="json")]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    assert read_zoo(tmp_path).adapters == (ENTRY,)


def test_a_folder_without_manifest_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a zoo must hold a manifest\.json .*Name the zoo's folder"):
        read_zoo(tmp_path)


def test_a_missing_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZooFileError, match=r"one\.safetensors: no such file\. Build the zoo again"):
        adapter_path(tmp_path, ENTRY)


def test_a_planted_fault_reads_its_hosts_files(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "host.safetensors").touch()
    planted = ENTRY.model_copy(update={"host": "host", "fault": "blur"})

    assert adapter_path(tmp_path, planted).name == "host.safetensors"


def test_a_set_is_unpacked_once(tmp_path: Path) -> None:
    zipped(tmp_path, {"000.png": b"picture", "captions.jsonl": b"{}"})

    folder = unpack_set(tmp_path, ENTRY, to=tmp_path / "work")
    first = (folder / "000.png").stat().st_mtime_ns
    unpack_set(tmp_path, ENTRY, to=tmp_path / "work")

    assert sorted(file.name for file in folder.iterdir()) == ["000.png", "captions.jsonl"]
    assert (folder / "000.png").stat().st_mtime_ns == first


def test_a_name_that_climbs_out_is_refused(tmp_path: Path) -> None:
    zipped(tmp_path, {"../evil.png": b"x"})

    with pytest.raises(ZooFileError, match="a file outside of its folder"):
        unpack_set(tmp_path, ENTRY, to=tmp_path / "work")
    assert not (tmp_path / "evil.png").exists()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "one.zip").write_bytes(b"no archive")

    with pytest.raises(ZooFileError, match=r"one\.zip"):
        unpack_set(tmp_path, ENTRY, to=tmp_path / "work")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped(tmp_path, {"000.png": b"12345678"})
    monkeypatch.setattr(zoo_folder, "_MOST_BYTES", 4)

    with pytest.raises(ZooFileError, match="more than 4 bytes unpacked"):
        unpack_set(tmp_path, ENTRY, to=tmp_path / "work")


def test_without_a_source_tree_a_zoo_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(relative: str) -> Path:
        raise ShippedDataMissingError(relative, ())

    monkeypatch.setattr(zoo_folder, "shipped_data", missing)

    with pytest.raises(NoZooError, match=r"a proof needs a zoo; none is named.*--zoo"):
        shipped_zoo()
