"""Read NumPy arrays out of a pickle and nothing else.

A pickle is a program. The one file we have to read in that format is pinned by its SHA-256; this reader is the second
lock: it knows three names, all of them NumPy's own means of rebuilding an array, and refuses the file at the first
other name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from lorabench.errors import MeasurementError

_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class UnsafePickleError(MeasurementError):
    """A pickle that asks for more than NumPy arrays, or that is not a readable pickle."""

    def __init__(self, source: str, found: str) -> None:
        super().__init__(
            f"a weights file in pickle format may hold NumPy arrays only; found {found} in {source}. "
            "Nothing of it was run. Do not use this file; fetch the weights again from their published source."
        )
        self.source, self.found = source, found


def load_arrays(data: bytes, *, source: str) -> Any:
    """Unpickle plain containers, numbers, strings and numeric NumPy arrays.

    Args:
        data: The pickle.
        source: Where it came from, for the message.

    Returns:
        The pickled object.

    Raises:
        UnsafePickleError: The pickle names anything but NumPy's array constructors, or is not a complete pickle.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), source).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnsafePickleError(source, f"unreadable content ({type(error).__name__})") from error


class _ArraysOnly(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, source: str) -> None:
        super().__init__(file)
        self._source = source

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """The three known names; everything else ends the reading before it is imported."""
        if (module, name) not in _ARRAY_NAMES:
            raise UnsafePickleError(self._source, f"the name {module}.{name}")
        rebuild: dict[str, Callable[..., Any]]
        rebuild = {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": _numeric_dtype}
        return rebuild[name]


def _reconstruct(subtype: type, shape: tuple[int, ...], kind: bytes) -> np.ndarray[Any, Any]:
    if subtype is not np.ndarray:
        msg = f"array type {subtype!r}"
        raise ValueError(msg)
    return np.ndarray.__new__(np.ndarray, shape, kind.decode() if isinstance(kind, bytes) else kind)


def _numeric_dtype(code: str, *rest: Any) -> np.dtype[Any]:
    dtype = np.dtype(code, *rest)
    if dtype.kind not in "fiub":
        msg = f"array of type {dtype}"
        raise ValueError(msg)
    return dtype
