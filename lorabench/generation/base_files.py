"""What can be known of a base from its folder, without loading weights: its class, its family and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lorabench.errors import MeasurementError, SpecError
from lorabench.generation.families import FAMILIES
from lorabench.records.record import digest_of
from lorabench.storage.atomic import write_json

_COUNTED_SUFFIXES: Final = frozenset({".safetensors", ".json", ".model", ".txt"})
_CHUNK: Final = 1 << 22


class BaseNotFoundError(SpecError):
    """No base is named, or there is none under the name."""

    def __init__(self, base: str, *, reason: str) -> None:
        named = f"found {base!r} ({reason})" if base else "none is named"
        super().__init__(
            f"the base must be a folder with a diffusers pipeline (model_index.json), or a hub id; {named}. "
            f"Set base in [model], or --base."
        )
        self.base = base


class UnknownPipelineError(SpecError):
    """A pipeline class that this backend cannot drive."""

    def __init__(self, base: str, *, pipeline: str) -> None:
        super().__init__(
            f"the base's pipeline must be one of {', '.join(FAMILIES)}; {base} says {pipeline}. "
            f"Give a text-to-image base of these families, or write a backend for it."
        )
        self.pipeline = pipeline


class FamilyContradictionError(SpecError):
    """The family in the settings is not the base's."""

    def __init__(self, base: str, *, stated: str, found: str) -> None:
        super().__init__(
            f"the stated family must be the base's; stated {stated}, {base} is {found}. Leave family at 'auto'."
        )
        self.stated, self.found = stated, found


class NoSafetensorsError(MeasurementError):
    """The base has no safetensors weights."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"a base's weights must be safetensors files, because loading a pickle runs the code inside it; found none "
            f"below {folder.name}. Convert the base, or download it in this format."
        )


def read_model_index(folder: Path) -> dict[str, Any]:
    """The pipeline's index.

    Raises:
        BaseNotFoundError: The folder has none, or it is not JSON.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        raise BaseNotFoundError(str(folder), reason="no model_index.json in it")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaseNotFoundError(str(folder), reason="its model_index.json is not JSON") from error
    if not isinstance(index, dict):
        raise BaseNotFoundError(str(folder), reason="its model_index.json is not an object")
    return index


def pipeline_class(folder: Path, *, base: str, stated_family: str) -> str:
    """Class name of the base's pipeline.

    Raises:
        BaseNotFoundError: No pipeline there.
        UnknownPipelineError: Not one of `FAMILIES`.
        FamilyContradictionError: Another family than stated.
    """
    name = str(read_model_index(folder).get("_class_name"))
    if name not in FAMILIES:
        raise UnknownPipelineError(base, pipeline=name)
    found = FAMILIES[name].name
    if stated_family not in ("auto", found):
        raise FamilyContradictionError(base, stated=stated_family, found=found)
    return name


def base_digest(folder: Path, *, memory: Path | None) -> str:
    """SHA-256 (hex) over all files of the base that can change a picture: weights, configurations, tokenizers.

    Args:
        folder: The base.
        memory: Where digests of single files are remembered by path, size and time of change, so that a large base
            is read once; None reads it each time.

    Raises:
        NoSafetensorsError: No weights in safetensors format.
    """
    files = sorted(_counted(folder))
    if not any(path.suffix == ".safetensors" for path in files):
        raise NoSafetensorsError(folder)
    return digest_of({path.relative_to(folder).as_posix(): _file_digest(path, memory=memory) for path in files})


def _counted(folder: Path) -> Iterator[Path]:
    """The index and the files inside the components' folders; not what lies beside them (single-file copies)."""
    yield folder / "model_index.json"
    for component in sorted(read_model_index(folder)):
        if not component.startswith("_"):
            yield from (path for path in (folder / component).rglob("*") if path.suffix in _COUNTED_SUFFIXES)


def _file_digest(path: Path, *, memory: Path | None) -> str:
    facts = path.stat()
    name = digest_of([str(path.resolve()), facts.st_size, facts.st_mtime_ns])
    note = memory / f"{name}.json" if memory is not None else None
    if note is not None and (known := _remembered(note)) is not None:
        return known
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if note is not None:
        write_json(note, {"file": path.name, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _remembered(note: Path) -> str | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known, str) else None
