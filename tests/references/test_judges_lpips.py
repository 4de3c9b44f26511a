"""The embedding against the `lpips` package, and the published weights against the values quoted for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorabench.judges.lpips_embedding import LpipsEncoder
from lorabench.judges.weights import fetch_lpips


def package_distance(encoder: LpipsEncoder, a: np.ndarray, b: np.ndarray) -> float:
    """`lpips.LPIPS.forward` on the same network, called as the package documents it (values from -1 to 1)."""
    tensors = [torch.tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in (a, b)]
    with torch.no_grad():
        return float(encoder._model(*tensors))


def random_trunk(net: str, folder: Path) -> Path:
    """A trunk with random weights under torchvision's names."""
    from lorabench.judges.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    import torchvision

    with torch.device("meta"):
        features = (torchvision.models.alexnet if net == "alex" else torchvision.models.vgg16)(weights=None).features
    rng = np.random.default_rng(1)
    tensors = {}
    for name, parameter in features.named_parameters():
        scale = (2 / np.prod(parameter.shape[1:])) ** 0.5 if parameter.ndim == 4 else 0.1
        tensors[f"features.{name}"] = torch.tensor(rng.normal(size=parameter.shape, scale=scale), dtype=torch.float32)
    path = folder / f"{net}.pth"
    torch.save(tensors, path)
    return path


def test_squared_distances_at_256_pixels_equal_the_package(tmp_path) -> None:
    rng = np.random.default_rng(0)
    encoder = LpipsEncoder("alex", random_trunk("alex", tmp_path), device="cpu")
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((256, 256), 3))
    noise = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    almost = smooth.copy()
    almost[100:110, 100:110] += 3
    pictures = [smooth, noise, almost]

    vectors = encoder.embed(pictures).astype(np.float64)

    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = package_distance(encoder, pictures[i], pictures[j])
        assert np.square(vectors[i] - vectors[j]).sum() == pytest.approx(expected, abs=1e-5)
        assert encoder.distance(pictures[i], pictures[j]) == pytest.approx(expected, abs=1e-6)


def test_vgg_distance_equals_the_package(tmp_path) -> None:
    rng = np.random.default_rng(0)
    encoder = LpipsEncoder("vgg", random_trunk("vgg", tmp_path), device="cpu", size=64)
    a, b = (rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2))

    assert encoder.distance(a, b) == pytest.approx(package_distance(encoder, a, b), abs=1e-5)


@pytest.mark.data
@pytest.mark.weights
@pytest.mark.parametrize(("net", "to_p0", "to_p1"), [("alex", 0.7219, 0.1376), ("vgg", 0.5686, 0.4217)])
def test_fetched_weights_give_the_published_example_distances(net, to_p0, to_p1) -> None:
    folder = os.environ.get("LORABENCH_TEST_DATA")
    if not folder:
        pytest.skip("LORABENCH_TEST_DATA is not set")
    fetch_lpips(net)
    reference, p0, p1 = (
        np.array(Image.open(Path(folder) / "lpips" / f"ex_{name}.png").convert("RGB")) for name in ("ref", "p0", "p1")
    )
    encoder = LpipsEncoder(net, device="cpu", size=64)  # the example patches are 64 pixels wide

    assert encoder.distance(reference, p0) == pytest.approx(to_p0, abs=5e-5)
    assert encoder.distance(reference, p1) == pytest.approx(to_p1, abs=5e-5)
