from __future__ import annotations

from pathlib import Path

from lorabench.records.detection import Detection
from lorabench.storage.detections import DetectionCache

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
