"""Boxes and scores against transformers' own post-processing, on tiny networks with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lorabench.judges.transformers_detector import GroundingDinoDetector, Owlv2Detector, _query

LABELS = ("cat", "red dog", "sky")


@pytest.fixture
def wide() -> np.ndarray:
    """A picture that is not square, where wrong scaling shows."""
    return np.random.default_rng(8).integers(0, 256, (48, 96, 3), dtype=np.uint8)


def test_owlv2_boxes_scores_and_classes_equal_those_of_transformers(owlv2_folder, wide) -> None:
    detector = Owlv2Detector(str(owlv2_folder), device="cpu")
    queries = [[f"a photo of a {label}" for label in LABELS]]
    inputs = detector._processor(text=queries, images=Image.fromarray(wide), return_tensors="pt")
    with torch.no_grad():
        outputs = detector._model(**inputs)
    (expected,) = detector._processor.post_process_grounded_object_detection(outputs, 0.0, [wide.shape[:2]])

    boxes, scores = detector._scored_boxes(wide, LABELS)

    np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(scores.max(axis=1), expected["scores"], atol=1e-5)
    assert scores.argmax(axis=1).tolist() == expected["labels"].tolist()


def test_grounding_dino_boxes_equal_those_of_transformers(grounding_dino_folder, wide) -> None:
    detector = GroundingDinoDetector(str(grounding_dino_folder), device="cpu")
    text, _ = _query(LABELS)
    inputs = detector._processor(images=Image.fromarray(wide), text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = detector._model(**inputs)
    (expected,) = detector._processor.post_process_grounded_object_detection(
        outputs, inputs.input_ids, threshold=-1.0, target_sizes=[wide.shape[:2]]
    )

    boxes, _ = detector._scored_boxes(wide, LABELS)

    np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)


def test_grounding_dino_scores_of_a_class_are_those_of_its_own_tokens(grounding_dino_folder, wide) -> None:
    detector = GroundingDinoDetector(str(grounding_dino_folder), device="cpu")
    text, _ = _query(LABELS)
    inputs = detector._processor(images=Image.fromarray(wide), text=text, return_tensors="pt")
    with torch.no_grad():
        tokens = detector._model(**inputs).logits[0].sigmoid().numpy()

    _, scores = detector._scored_boxes(wide, LABELS)

    # [CLS] cat . red dog . sky . [SEP]
    np.testing.assert_allclose(scores[:, 0], tokens[:, 1], atol=1e-5)
    np.testing.assert_allclose(scores[:, 1], tokens[:, 3:5].max(axis=1), atol=1e-5)
    np.testing.assert_allclose(scores[:, 2], tokens[:, 6], atol=1e-5)
