from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorabench.judges.transformers_detector import DetectorLoadError, GroundingDinoDetector, Owlv2Detector
from lorabench.registry import JUDGES

LABELS = ("cat", "red dog", "dog")


@pytest.fixture(scope="module")
def owlv2(owlv2_folder) -> Owlv2Detector:
    return Owlv2Detector(str(owlv2_folder), device="cpu", presence_threshold=0.0)


@pytest.fixture(scope="module")
def grounding_dino(grounding_dino_folder) -> GroundingDinoDetector:
    return GroundingDinoDetector(str(grounding_dino_folder), device="cpu", presence_threshold=0.0)


@pytest.fixture(params=["owlv2", "grounding_dino"])
def detector(request):
    return request.getfixturevalue(request.param)


def stub_boxes(monkeypatch, detector, boxes, scores) -> None:
    """Let the network say what the test wants; what follows is ours."""
    answer = np.array(boxes, dtype=float), np.array(scores, dtype=float)
    monkeypatch.setattr(detector, "_scored_boxes", lambda *_: answer)


def test_detections_lie_in_the_picture_and_fall_in_score(detector, pictures) -> None:
    found = detector.detect(pictures, labels=LABELS)

    assert len(found) == 3
    assert any(found)
    for picture, group in zip(pictures, found, strict=True):
        height, width = picture.shape[:2]
        for item in group:
            left, top, right, bottom = item.box
            assert 0 <= left <= right <= width
            assert 0 <= top <= bottom <= height
            assert item.label in LABELS
        assert [item.score for item in group] == sorted((item.score for item in group), reverse=True)


def test_detections_do_not_depend_on_batch_mates(detector, pictures) -> None:
    together = detector.detect(pictures, labels=LABELS)

    assert together == [detector.detect([picture], labels=LABELS)[0] for picture in pictures]


def test_boxes_of_one_class_that_overlap_are_one_object(detector, pictures, monkeypatch) -> None:
    boxes = [[0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60], [0, 0, 20, 20]]
    scores = [[0.6, 0.1], [0.9, 0.1], [0.5, 0.1], [0.1, 0.4]]
    stub_boxes(monkeypatch, detector, boxes, scores)

    (found,) = detector.detect(pictures[:1], labels=["cat", "dog"])

    assert [(item.label, item.score) for item in found] == [("cat", 0.9), ("cat", 0.5), ("dog", 0.4)]


def test_presence_threshold_is_strict_and_counting_is_left_to_the_counter(owlv2_folder, pictures, monkeypatch) -> None:
    detector = Owlv2Detector(str(owlv2_folder), device="cpu")
    stub_boxes(monkeypatch, detector, [[0, 0, 9, 9], [20, 20, 30, 30], [40, 40, 60, 60]], [[0.2], [0.21], [0.8]])

    (found,) = detector.detect(pictures[:1], labels=["cat"])

    assert [item.score for item in found] == [0.8, 0.21]
    assert detector.thresholds == {"presence": 0.20, "count": 0.30, "max_overlap": 0.5}


def test_boxes_are_cut_at_the_edge(detector, pictures, monkeypatch) -> None:
    stub_boxes(monkeypatch, detector, [[-5, -5, 200, 30]], [[0.9]])

    assert detector.detect(pictures[:1], labels=["cat"])[0][0].box == (0, 0, 64, 30)


def test_no_labels_find_nothing(detector, pictures) -> None:
    assert detector.detect(pictures, labels=[]) == [(), (), ()]


def test_colors_come_from_the_reader(owlv2_folder, pictures, monkeypatch) -> None:
    class Says:
        weights_digest = "1" * 64

        def read(self, picture, boxes, *, label):
            return [f"{label}-color"] * len(boxes)

    plain = Owlv2Detector(str(owlv2_folder), device="cpu")
    reading = Owlv2Detector(str(owlv2_folder), device="cpu", color_reader=Says())
    stub_boxes(monkeypatch, reading, [[0, 0, 9, 9]], [[0.9]])

    assert reading.detect(pictures[:1], labels=["cat"])[0][0].color == "cat-color"
    assert (plain.reads_color, reading.reads_color) == (False, True)
    assert plain.weights_digest != reading.weights_digest


def test_facts_are_declared(owlv2, grounding_dino, owlv2_folder) -> None:
    assert JUDGES.load("owlv2") is Owlv2Detector
    assert JUDGES.load("grounding-dino") is GroundingDinoDetector
    assert (owlv2.name, grounding_dino.name) == ("owlv2-tiny-owl", "grounding-dino-tiny-dino")
    assert owlv2.counts_parts == frozenset()
    same = Owlv2Detector(str(owlv2_folder), device="cpu", presence_threshold=0.0)
    other = Owlv2Detector(str(owlv2_folder), device="cpu", presence_threshold=0.1)
    assert same.weights_digest == owlv2.weights_digest != other.weights_digest


def test_labels_beyond_the_text_length_are_asked_in_several_queries(grounding_dino, pictures) -> None:
    labels = ("red dog", "cat", "blue circle", "table", "green square", "sky")

    groups = grounding_dino._groups(labels)
    boxes, scores = grounding_dino._scored_boxes(pictures[2], labels)

    assert [label for group in groups for label in group] == list(labels)
    assert len(groups) > 1
    assert boxes.shape == (12 * len(groups), 4)
    assert scores.shape == (12 * len(groups), 6)
    first, rest = scores[:12], scores[12:]
    assert (first[:, len(groups[0]) :] == 0).all()
    assert (rest[:, : len(groups[0])] == 0).all()


def test_label_with_a_full_stop_stays_one_phrase(grounding_dino, pictures) -> None:
    _, scores = grounding_dino._scored_boxes(pictures[0], ("red. dog",))

    np.testing.assert_allclose(scores, grounding_dino._scored_boxes(pictures[0], ("red dog",))[1])


@pytest.mark.parametrize(("presence", "count"), [(-0.1, 0.3), (0.5, 0.3), (0.2, 1.5)])
def test_impossible_thresholds_are_refused(owlv2_folder, presence, count) -> None:
    with pytest.raises(ValueError, match="0 <= presence <= count <= 1"):
        Owlv2Detector(str(owlv2_folder), presence_threshold=presence, count_threshold=count)


def test_count_threshold_follows_a_raised_presence_threshold(owlv2_folder) -> None:
    assert Owlv2Detector(str(owlv2_folder), device="cpu", presence_threshold=0.6).count_threshold == 0.6


def test_missing_weights_are_refused_not_filled_at_random(owlv2_folder, tmp_path) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(owlv2_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["class_head.dense0.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(
        DetectorLoadError, match=r"1 weights are missing or misshapen \(first: class_head\.dense0\.weight\)"
    ):
        Owlv2Detector(str(folder))


def test_absent_folder_is_said_in_words(tmp_path) -> None:
    with pytest.raises(
        DetectorLoadError, match=r"judges\.detector must name a complete model.*written by save_pretrained"
    ):
        Owlv2Detector(str(tmp_path / "nowhere"))


def test_loading_leaves_the_random_state_alone(owlv2_folder) -> None:
    before = torch.random.get_rng_state()

    Owlv2Detector(str(owlv2_folder), device="cpu")

    assert torch.equal(torch.random.get_rng_state(), before)


def test_floats_are_refused(detector) -> None:
    with pytest.raises(ValueError, match="pictures must be uint8 arrays"):
        detector.detect([np.zeros((8, 8, 3))], labels=["cat"])
