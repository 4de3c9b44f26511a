"""Reads a safetensors file into NumPy, with an error of its own for each way in which such a file is broken.

Format: eight bytes little-endian header length, a JSON header (name -> dtype, shape, data_offsets; `__metadata__`),
then the tensors' bytes without gaps. https://github.com/huggingface/safetensors, Apache-2.0.

The file is read once and kept whole, so that what was checked and digested is what is loaded, even where a trainer
overwrites or deletes the file meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.errors import MeasurementError, SpecError

Floats = NDArray[np.float32]

PICKLE_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"})
_PICKLE_STARTS: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LARGEST_HEADER: Final = 100_000_000
_PIECE: Final = 1 << 24
"""Bytes of a large tensor that are read at once; a multiple of every width."""
_WIDTHS: Final[dict[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NUMPY: Final[dict[str, str]] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip


class NotFoundError(SpecError):
    """There is no file at the path."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"an adapter must be a .safetensors file, or a folder that holds pytorch_lora_weights.safetensors; "
            f"found neither at {path}. Check the path."
        )
        self.path = path


class PickleRefusedError(SpecError):
    """The file is a pickle, which runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"an adapter must be a safetensors file, because loading a pickle runs the code inside it; "
            f"{path.name} is a pickle. Convert it in the environment that made it, then give the .safetensors file."
        )
        self.path = path


class NotSafetensorsError(SpecError):
    """The file has no safetensors header."""

    def __init__(self, path: Path, *, found: str) -> None:
        super().__init__(
            f"an adapter must be a safetensors file; {path.name} has no valid header ({found}). "
            f"Give the file that the trainer saved."
        )
        self.path = path


class TruncatedFileError(MeasurementError):
    """The file ends before its tensors do."""

    def __init__(self, path: Path, *, expected: int, found: int) -> None:
        super().__init__(
            f"a safetensors file must hold all bytes its header names; {path.name} is truncated: {found} of {expected} "
            f"bytes. Wait until the trainer has finished writing, or copy the file again."
        )
        self.path, self.expected, self.found = path, expected, found


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies in the file; offsets in bytes from its beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class SafetensorsFile:
    """A whole safetensors file in memory. Maps names to `Tensor`; `read` gives the numbers."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    data: bytes

    def read(self, name: str) -> Floats:
        """The tensor as float32, in its own shape. Converting from a wider type may round."""
        tensor = self.tensors[name]
        raw = memoryview(self.data)[tensor.start : tensor.end]
        return _decoded(raw, tensor.dtype).astype(np.float32).reshape(tensor.shape)

    def digest(self) -> hashlib._Hash:
        """A running SHA-256 over all tensors: names in order, with dtype, shape and bytes; metadata stays out."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            total.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
            total.update(memoryview(self.data)[tensor.start : tensor.end])
        return total


def read_safetensors(path: Path) -> SafetensorsFile:
    """Read a file and check its header against its length.

    Args:
        path: The file.

    Returns:
        The file, whole.

    Raises:
        NotFoundError: No such file.
        PickleRefusedError: A pickle, by its name or its first bytes.
        NotSafetensorsError: No header, or one that contradicts itself.
        TruncatedFileError: Fewer bytes than the header names.
    """
    if not path.is_file():
        raise NotFoundError(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise PickleRefusedError(path)
    content = path.read_bytes()
    if content.startswith(_PICKLE_STARTS):
        raise PickleRefusedError(path)
    header, begin = _header(path, content)
    metadata = header.pop("__metadata__", None) or {}
    tensors = dict(_tensors(path, header, begin=begin))
    needed = max((tensor.end for tensor in tensors.values()), default=0)
    if needed > len(content):
        raise TruncatedFileError(path, expected=needed, found=len(content))
    return SafetensorsFile(path, tensors, {str(k): str(v) for k, v in metadata.items()}, content)


def read_header(path: Path) -> tuple[int, dict[str, str]]:
    """Read only the header of a file, which may still be growing.

    Args:
        path: The file.

    Returns:
        The length in bytes that a whole file with this header has, and the header's metadata.

    Raises:
        NotSafetensorsError: No header, or one that contradicts itself.
        TruncatedFileError: The file ends before its header does.
        OSError: The file cannot be read, or has gone.
    """
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        rest = file.read(max(0, length - 1)) if length <= _LARGEST_HEADER and start[8:] == b"{" else b""
    header, begin = _header(path, start + rest)
    metadata = header.pop("__metadata__", None) or {}
    end = max((tensor.end for _, tensor in _tensors(path, header, begin=begin)), default=begin)
    return end, {str(k): str(v) for k, v in metadata.items()}


def read_places(path: Path) -> dict[str, Tensor]:
    """Where the tensors of a file lie, from its header alone. Tensors of a type that is not read are left out.

    Args:
        path: The file, which may be far larger than memory.

    Raises:
        NotSafetensorsError: No header, or one that contradicts itself.
        TruncatedFileError: The file ends before its header does.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        header, begin = _header(path, start + file.read(length if length <= _LARGEST_HEADER else 1))
    header.pop("__metadata__", None)
    known = {name: entry for name, entry in header.items() if entry.get("dtype") in _WIDTHS}
    return dict(_tensors(path, known, begin=begin))


def read_squares(path: Path, tensor: Tensor) -> float | None:
    """Sum of the squares of one tensor's numbers, read in pieces; None for a type without fractions.

    Args:
        path: The file.
        tensor: From `read_places`.
    """
    if tensor.dtype not in ("F64", "F32", "F16", "BF16"):
        return None
    width, total = _WIDTHS[tensor.dtype], 0.0
    with path.open("rb") as file:
        file.seek(tensor.start)
        for begin in range(tensor.start, tensor.end, _PIECE):
            piece = file.read(min(_PIECE, tensor.end - begin) // width * width)
            numbers = _decoded(piece, tensor.dtype).astype(np.float64)
            total += float(numbers @ numbers)
    return total


def _decoded(raw: bytes | memoryview, dtype: str) -> NDArray[np.floating[Any]]:
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(raw, dtype=_NUMPY[dtype])


def _header(path: Path, content: bytes) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise TruncatedFileError(path, expected=8, found=len(content))
    length = int.from_bytes(content[:8], "little")
    if length > _LARGEST_HEADER:
        raise NotSafetensorsError(path, found=f"it would be {length} bytes long")
    if length + 8 > len(content):
        if content[8:9] == b"{":
            raise TruncatedFileError(path, expected=length + 8, found=len(content))
        raise NotSafetensorsError(path, found="it does not begin with a brace")
    try:
        header = json.loads(content[8 : 8 + length])
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise NotSafetensorsError(path, found="it is not JSON") from error
    if not isinstance(header, dict):
        raise NotSafetensorsError(path, found="it is not a JSON object")
    return header, 8 + length


def _tensors(path: Path, header: Mapping[str, Any], *, begin: int) -> Iterator[tuple[str, Tensor]]:
    for name, entry in header.items():
        try:
            dtype, shape, (start, end) = str(entry["dtype"]), tuple(map(int, entry["shape"])), entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise NotSafetensorsError(path, found=f"the entry of {name} is malformed") from error
        if dtype not in _WIDTHS:
            raise NotSafetensorsError(path, found=f"{name} has the type {dtype}, which is not supported")
        if not 0 <= start <= end or end - start != math.prod(shape) * _WIDTHS[dtype]:
            raise NotSafetensorsError(path, found=f"shape and length of {name} disagree")
        yield name, Tensor(dtype, shape, begin + start, begin + end)
