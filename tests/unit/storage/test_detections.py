from __future__ import annotations

from pathlib import Path

from lorabench.records.detection import Detection, Lettering
from lorabench.storage.detections import DetectionCache, LetteringCache

SEEN = (Detection(label="hand", box=(1.0, 2.0, 30.0, 40.5), score=0.75, color="red", count=5),)
KEY = "ab" * 32


def test_detections_come_back_as_they_were(tmp_path: Path) -> None:
    cache = DetectionCache(tmp_path)
    cache.put(KEY, SEEN)

    assert DetectionCache(tmp_path).get(KEY) == SEEN


def test_nothing_seen_is_not_the_same_as_not_looked(tmp_path: Path) -> None:
    cache = DetectionCache(tmp_path)
    assert cache.get(KEY) is None

    cache.put(KEY, ())

    assert cache.get(KEY) == ()


def test_damaged_entry_counts_as_missing(tmp_path: Path) -> None:
    cache = DetectionCache(tmp_path)
    cache.put(KEY, SEEN)
    cache.path(KEY).write_bytes(cache.path(KEY).read_bytes()[:-5])

    assert cache.get(KEY) is None


def test_lettering_comes_back_as_it_was(tmp_path: Path) -> None:
    read = (Lettering(text="ХЛЕБ", score=0.9, likeness=0.8, box=(1.0, 2.0, 30.0, 9.5), script="Cyrillic"),)
    cache = LetteringCache(tmp_path)
    cache.put(KEY, read)

    assert LetteringCache(tmp_path).get(KEY) == read


def test_only_what_is_missing_is_made_and_it_is_kept(tmp_path: Path) -> None:
    cache, asked = DetectionCache(tmp_path), []
    other = "cd" * 32
    cache.put(KEY, SEEN)

    def make(missing):
        asked.append(list(missing))
        return [()] * len(missing)

    assert cache.rows([other, KEY], make) == [(), SEEN]
    assert cache.rows([other, KEY], make) == [(), SEEN]
    assert asked == [[0]]
