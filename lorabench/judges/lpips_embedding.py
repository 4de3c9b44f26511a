"""LPIPS as an embedding: one forward pass per picture instead of one per pair.

LPIPS compares unit-normalised feature maps F_l with non-negative channel weights w_l and averages over the map's H_l ×
W_l places. So it is the squared Euclidean distance between

    phi(x) = concat over l of sqrt(w_l / (H_l W_l)) · F_l(x),

exactly. A matrix of distances between n and m pictures costs n + m passes and one matrix product. Channels of weight
zero add nothing and are left out.

Source of the distance: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, arXiv 1801.03924, version 0.1 of the `lpips` package (BSD-2-Clause), whose network and heads run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorabench.judges.devices import full_precision, resolve_device
from lorabench.judges.digests import tensors_digest
from lorabench.judges.pictures import check_pictures, resized
from lorabench.judges.protocols import Picture, Vectors
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.judges.weights import DamagedWeightsError, LpipsNet, find_lpips_trunk, read_trunk

if TYPE_CHECKING:
    import torch

SIZE = 256
"""Side of the picture the network sees, in pixels. Distances depend on it, so it is fixed."""


class LpipsEncoder:
    """Vectors whose squared Euclidean distance is LPIPS.

    Pictures are resized to `size` × `size` (Pillow's antialiased bicubic filter on uint8 values; a picture of that size
    is left alone, one that is not square is stretched). The distance is not invariant to shifts, crops or mirroring:
    embed the mirrored training picture as well, and embed at 128 pixels for tolerance to small shifts.

    Memory: 434,858 float32 numbers or 1.7 MB per picture for `alex` at 256 pixels, 32 MB for `vgg`.
    """

    resize_filter = "pillow-bicubic-antialiased"

    def __init__(
        self, net: LpipsNet = "alex", weights: Path | None = None, *, device: str = "auto", size: int = SIZE
    ) -> None:
        """Load the trunk and the heads.

        Args:
            net: Trunk: `alex` (the usual one) or `vgg`.
            weights: File of trunk weights (.safetensors of the weights cache, or torchvision's .pth); None looks into
                the weights cache, then into torchvision's.
            device: torch device, or `auto`.
            size: Side in pixels the picture is resized to; at least 32.

        Raises:
            MissingWeightsError: No trunk weights anywhere. They are never replaced by random ones.
            DamagedWeightsError: The file does not hold this trunk.
            ValueError: `size` below 32.
        """
        if size < 32:
            msg = f"size must be at least 32 pixels for the network's five levels, got {size}"
            raise ValueError(msg)
        trunk = find_lpips_trunk(net) if weights is None else read_trunk(weights)
        self.name = f"lpips-{net}-{size}px"
        self.net: LpipsNet = net
        self.size = size
        self.device = resolve_device(device)
        self._model = _lpips_model(net)
        _load_trunk(self._model.net, trunk, source=weights or Path(f"the weights cache ({net})"))
        self._model.to(self.device)
        self.weights_digest = tensors_digest(self._model.state_dict())
        self._factors = [_channel_factors(head) for head in self._model.lins]

    def embed(self, pictures: Sequence[Picture], *, batch_size: int = 4) -> Vectors:
        """Embeddings of the pictures.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB.
            batch_size: Pictures per forward pass; changes speed and memory, and the values by rounding only (1e-6).

        Returns:
            float32 of shape (n, d); squared Euclidean distances between rows are LPIPS distances.

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        check_pictures(pictures)
        chunks = [self._embed(pictures[start : start + batch_size]) for start in range(0, len(pictures), batch_size)]
        return np.concatenate(chunks) if chunks else np.empty((0, self.n_features), dtype=np.float32)

    def tiles(self, grid: int) -> NDArray[np.intp]:
        """The tile of a grid that each coordinate of an embedding belongs to, by the middle of its place.

        Args:
            grid: Tiles per side.

        Returns:
            (d,), 0 to grid² - 1, row by row.
        """
        with self._quietly():
            maps = self._feature_maps(np.zeros((1, self.size, self.size, 3), dtype=np.uint8))
        parts = []
        for values, (channels, _) in zip(maps, self._factors, strict=True):
            rows, columns = (((np.arange(side) + 0.5) * grid / side).astype(np.intp) for side in values.shape[2:])
            parts.append(np.tile((rows[:, None] * grid + columns[None, :]).ravel(), len(channels)))
        return np.concatenate(parts)

    def distance(self, a: Picture, b: Picture) -> float:
        """LPIPS of two pictures, by direct differences: right to about 1e-8 also for near-duplicates."""
        first, second = self.embed([a, b]).astype(np.float64)
        return float(np.square(first - second).sum())

    @property
    def n_features(self) -> int:
        """Length d of an embedding."""
        with self._quietly():
            maps = self._feature_maps(np.zeros((1, self.size, self.size, 3), dtype=np.uint8))
        return sum(_kept(values, factor).shape[1] for values, factor in zip(maps, self._factors, strict=True))

    def _embed(self, pictures: Sequence[Picture]) -> Vectors:
        import torch

        pixels = np.stack([resized(picture, size=self.size) for picture in pictures])  # (n, size, size, 3)
        with self._quietly():
            maps = self._feature_maps(pixels)
            parts = [_kept(values, factor) for values, factor in zip(maps, self._factors, strict=True)]
            vectors: Vectors = torch.cat(parts, dim=1).cpu().numpy()  # (n, d)
        return vectors

    def _feature_maps(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> list[torch.Tensor]:
        """Unit-normalised maps of the five levels, each (n, c, h, w)."""
        import lpips
        import torch

        scaled = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1.0  # -1 to 1
        levels = self._model.net(self._model.scaling_layer(scaled))
        return [lpips.normalize_tensor(level) for level in levels]

    def _quietly(self) -> AbstractContextManager[None]:
        return full_precision(self.device)


def _kept(values: torch.Tensor, factor: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The level's part of the embedding, (n, kept channels × h × w)."""
    channels, weight = factor
    places = values.shape[2] * values.shape[3]
    scale = (weight / places).sqrt()[None, :, None, None]
    return (values.index_select(1, channels) * scale).flatten(1)


def _channel_factors(head: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels of non-zero weight and their weights w_l."""
    weight = head.model[-1].weight.detach().reshape(-1)
    if bool((weight < 0).any()):
        msg = "the identity needs non-negative head weights; found a negative one in the installed lpips package"
        raise ValueError(msg)
    channels = weight.nonzero().reshape(-1)
    return channels, weight[channels]


def _lpips_model(net: LpipsNet) -> Any:
    """The `lpips` network with the heads of its own package and a trunk still to be filled.

    It is laid out without memory first: the package would draw random numbers for a whole classifier, of which it keeps
    the convolutions.
    """
    declare_missing_operators()
    import warnings

    import lpips
    import torch

    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*'(pretrained|weights)'.*")  # lpips uses torchvision's old keyword
        model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    model.to_empty(device="cpu")
    model.scaling_layer = lpips.ScalingLayer()
    heads_file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    for level, head in enumerate(model.lins):
        head.load_state_dict({"model.1.weight": heads[f"lin{level}.model.1.weight"]})
    return model.eval().requires_grad_(requires_grad=False)


def _load_trunk(trunk: Any, tensors: Mapping[str, torch.Tensor], *, source: Path) -> None:
    """Fill every convolution of the trunk, strictly.

    Raises:
        DamagedWeightsError: A tensor is missing, has another shape, or is not finite.
    """
    import torch

    for name, parameter in trunk.named_parameters():
        _, index, kind = name.split(".")  # slice2.3.weight is torchvision's features.3.weight
        key = f"features.{index}.{kind}"
        found = tensors.get(key)
        problem = None
        if found is None:
            problem = f"no {key}"
        elif found.shape != parameter.shape:
            problem = f"{key} of shape {tuple(found.shape)} instead of {tuple(parameter.shape)}"
        elif not bool(torch.isfinite(found).all()):
            problem = f"NaN or infinity in {key}"
        if problem is not None:
            raise DamagedWeightsError(source, problem, "Name the trunk that belongs to this net: alex or vgg.")
        parameter.data.copy_(found)
