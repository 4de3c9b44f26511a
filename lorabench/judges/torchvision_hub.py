"""AlexNet and VGG16 as torchvision publishes them: from torch's own cache, else from its hub where that answers."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

ADDRESSES = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
"""torchvision's `IMAGENET1K_V1` weights. The name ends in the first eight digits of the file's SHA-256."""

_REACH_SECONDS = 3.0


def trunk_file(net: str) -> Path | None:
    """The checkpoint of the trunk, or None where torch's cache lacks it and the hub cannot be reached.

    A file whose content does not begin with the hash in its name is not used. The network is left alone when
    `HF_HUB_OFFLINE` is set.
    """
    import torch

    address = ADDRESSES[net]
    name = address.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    prefix = name.removesuffix(".pth").rpartition("-")[2]
    if not path.is_file() and _reachable(address):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path), hash_prefix=prefix, progress=False)
        except (URLError, OSError, RuntimeError):
            return None
    return path if path.is_file() and _sha256(path).startswith(prefix) else None


def _reachable(address: str) -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    host = urlsplit(address).hostname
    try:
        with socket.create_connection((host, 443), timeout=_REACH_SECONDS):
            return True
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
