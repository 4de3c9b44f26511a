from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorabench.errors import MeasurementError
from lorabench.storage.pictures import Picture, PictureCache, pixel_digest


def key_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def picture_of(seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> PictureCache:
    return PictureCache(tmp_path / "pictures")


def test_picture_comes_back_to_the_last_bit_with_its_digest(cache: PictureCache) -> None:
    digest = cache.put(key_of("a"), picture_of(1), material={"prompt": "a"})

    stored = cache.get(key_of("a"))

    assert stored is not None
    assert np.array_equal(stored.picture, picture_of(1))
    assert stored.sha256 == digest == pixel_digest(picture_of(1)) == cache.pixel_digest(picture_of(1))
    assert cache.has(key_of("a"))


def test_exported_entry_outlives_the_cache(cache: PictureCache, tmp_path: Path) -> None:
    digest = cache.put(key_of("a"), picture_of(1), material={})

    assert cache.export(key_of("a"), tmp_path / "run" / "a.png")
    assert not cache.export(key_of("b"), tmp_path / "run" / "b.png")
    cache.clear()

    with Image.open(tmp_path / "run" / "a.png") as picture:
        assert pixel_digest(np.asarray(picture)) == digest
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.png"]


def test_digest_tells_shapes_apart() -> None:
    flat = picture_of(1)

    assert pixel_digest(flat) != pixel_digest(flat.reshape(20, 12, 3))


def test_missing_key_is_none(cache: PictureCache) -> None:
    assert cache.get(key_of("a")) is None
    assert not cache.has(key_of("a"))


@pytest.mark.parametrize("damage", ["truncated", "other pixels", "not a picture", "facts missing", "facts broken"])
def test_damaged_entry_counts_as_missing_and_can_be_made_again(damage: str, cache: PictureCache) -> None:
    key = key_of("a")
    cache.put(key, picture_of(1), material={})
    png = cache.path(key)
    facts = png.with_suffix(".json")
    if damage == "truncated":
        png.write_bytes(png.read_bytes()[:-40])
    elif damage == "other pixels":
        cache.put(key_of("b"), picture_of(2), material={})
        png.write_bytes(cache.path(key_of("b")).read_bytes())
    elif damage == "not a picture":
        png.write_bytes(b"nothing")
    elif damage == "facts missing":
        facts.unlink()
    else:
        facts.write_text("{")

    assert cache.get(key) is None
    cache.put(key, picture_of(1), material={})
    assert cache.get(key) is not None


def test_miss_is_explained_by_the_fields_that_differ_from_the_nearest_entry(cache: PictureCache) -> None:
    near = {"prompt": "a cat", "settings": {"height": 64, "width": 64}, "adapter": None}
    far = {"prompt": "a dog", "settings": {"height": 32, "width": 32}, "adapter": None}
    cache.put(key_of("near"), picture_of(1), material=near)
    cache.put(key_of("far"), picture_of(2), material=far)

    wanted = {**near, "settings": {"height": 64, "width": 96}}
    explanation = cache.explain(key_of("new"), material=wanted)

    assert not explanation.hit
    assert explanation.nearest == key_of("near")
    assert [(one.field, one.wanted, one.cached) for one in explanation.differences] == [("settings.width", "96", "64")]
    assert "differs in settings.width: wanted 96, cached 64" in explanation.sentence()


def test_hit_damage_and_empty_cache_are_explained(cache: PictureCache) -> None:
    assert "which is empty" in cache.explain(key_of("a"), material={}).sentence()

    cache.put(key_of("a"), picture_of(1), material={"prompt": "a"})
    assert "is in the cache" in cache.explain(key_of("a"), material={"prompt": "a"}).sentence()

    cache.path(key_of("a")).write_bytes(b"nothing")
    assert "its entry is damaged" in cache.explain(key_of("a"), material={"prompt": "a"}).sentence()


def test_pruning_removes_what_was_not_used_for_longest(cache: PictureCache) -> None:
    for index, name in enumerate("abc"):
        cache.put(key_of(name), picture_of(index), material={})
        os.utime(cache.path(key_of(name)), (1000 + index, 1000 + index))
    cache.get(key_of("a"))
    info = cache.info()

    removed = cache.prune(info.n_bytes - 1)

    assert (info.n_entries, removed) == (3, 1)
    assert [cache.has(key_of(name)) for name in "abc"] == [True, False, True]
    assert cache.info().n_bytes < info.n_bytes
    assert cache.clear() == 2
    assert cache.info().n_entries == 0


def test_full_disk_is_an_error_with_words_and_spoils_no_entry(
    cache: PictureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(key_of("a"), picture_of(1), material={})

    def full(handle: int, content: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MeasurementError, match="must fit on the disk; no space is left"):
        cache.put(key_of("b"), picture_of(2), material={})

    assert cache.get(key_of("a")) is not None
    assert not cache.has(key_of("b"))
    assert list(cache.folder.rglob("*.tmp")) == []


def put_many(folder: Path) -> None:
    cache = PictureCache(folder)
    for _ in range(5):
        for index in range(6):
            cache.put(key_of(str(index)), picture_of(index), material={"index": index})
            found = cache.get(key_of(str((index + 3) % 6)))
            assert found is None or np.array_equal(found.picture, picture_of((index + 3) % 6))


def test_two_processes_may_share_one_cache(cache: PictureCache) -> None:
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    workers = [context.Process(target=put_many, args=(cache.folder,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)

    assert [worker.exitcode for worker in workers] == [0, 0]
    for index in range(6):
        stored = cache.get(key_of(str(index)))
        assert stored is not None
        assert np.array_equal(stored.picture, picture_of(index))
    assert list(cache.folder.rglob("*.tmp")) == []
