from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorabench.storage.arrays import ArrayCache, array_key


def key(content: str) -> str:
    return array_key(content, encoder="clip", weights_digest="w", parameters={"size": 224})


def test_array_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    array = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)

    cache.put(key("a"), array)

    found = cache.get(key("a"))
    assert found is not None
    assert np.array_equal(found, array)
    assert found.dtype == np.float32


def test_every_part_of_the_key_counts() -> None:
    base = {"encoder": "clip", "weights_digest": "w", "parameters": {"size": 224}}
    keys = {array_key("a", **base), array_key("b", **base)}
    for change in ({"encoder": "lpips"}, {"weights_digest": "v"}, {"parameters": {"size": 336}}, {"parameters": None}):
        keys.add(array_key("a", **{**base, **change}))

    assert len(keys) == 6


@pytest.mark.parametrize("cut", [1, 33, 10_000])
def test_damaged_entry_counts_as_missing(cut: int, tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.put(key("a"), np.ones(4, np.float32))
    content = cache.path(key("a")).read_bytes()
    cache.path(key("a")).write_bytes(content[:-cut])

    assert cache.get(key("a")) is None


def test_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    import hashlib
    import io

    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    cache = ArrayCache(tmp_path)
    cache.path(key("a")).parent.mkdir(parents=True)
    cache.path(key("a")).write_bytes(stream.getvalue() + hashlib.sha256(stream.getvalue()).digest())

    assert cache.get(key("a")) is None


def test_rows_are_made_once_and_keep_their_order(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    asked: list[list[int]] = []

    def make(positions: list[int]) -> np.ndarray:
        asked.append(positions)
        return np.array([[position, 10 * position] for position in positions], np.float32)

    cache.put(key("b"), np.array([7, 7], np.float32))
    keys = [key(name) for name in "abc"]

    first, again = cache.rows(keys, make), cache.rows(keys, make)

    assert asked == [[0, 2]]
    assert first.tolist() == [[0, 0], [7, 7], [2, 20]]
    assert np.array_equal(first, again)
    assert cache.clear() == 3


def test_no_keys_have_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one key to stack rows; got none"):
        ArrayCache(tmp_path).rows([], lambda positions: np.empty((0, 1), np.float32))
