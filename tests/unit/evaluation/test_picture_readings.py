"""Metrics that need nothing but the picture: read once, kept, and given back with their reasons."""

import numpy as np

from lorabench.evaluation.picture_readings import read_pictures
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric
from lorabench.storage.arrays import ArrayCache


class Reader:
    """Reads the mean of a picture that is not black, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, picture):
        self.asked += 1
        return float(picture.mean()) if picture.any() else Missing("a mean needs light; the picture is black.")


def metric(name, read, *, version=1):
    facts = Metric(name=name, version=version, higher_is_better=True, unit="grey levels")
    return PictureMetric(metric=facts, read=read)


GREY, BLACK = np.full((8, 8, 3), 40, np.uint8), np.zeros((8, 8, 3), np.uint8)


def test_numbers_and_reasons_come_in_the_order_of_the_pictures(tmp_path) -> None:
    found = read_pictures([GREY, BLACK], ["a", "b"], arrays=ArrayCache(tmp_path), metrics=[metric("light", Reader())])
    assert found == [{"light": 40.0}, {"light": Missing("a mean needs light; the picture is black.")}]


def test_a_picture_read_before_comes_from_the_cache(tmp_path) -> None:
    reader, arrays = Reader(), ArrayCache(tmp_path)
    first = read_pictures([GREY], ["a"], arrays=arrays, metrics=[metric("light", reader)])
    assert read_pictures([GREY], ["a"], arrays=arrays, metrics=[metric("light", reader)]) == first
    assert reader.asked == 1


def test_another_version_of_a_metric_is_read_anew(tmp_path) -> None:
    reader, arrays = Reader(), ArrayCache(tmp_path)
    for version in (1, 2):
        read_pictures([GREY], ["a"], arrays=arrays, metrics=[metric("light", reader, version=version)])
    assert reader.asked == 2


def test_no_pictures_give_no_readings(tmp_path) -> None:
    assert read_pictures([], [], arrays=ArrayCache(tmp_path), metrics=[metric("light", Reader())]) == []
