"""Open-vocabulary detectors out of transformers: OWLv2 and Grounding DINO, from a local folder or a hub id.

Neither model suppresses overlapping boxes by itself, and both miscount without: it is done here, per class, at an
overlap of 0.5. Grounding DINO's boxes are matched to class names by the place of their tokens in the query, not by
comparing decoded words, which come back cut or merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lorabench.errors import MeasurementError
from lorabench.judges.boxes import Boxes, suppressed
from lorabench.judges.color_reader import ColorReader
from lorabench.judges.devices import full_precision, resolve_device, untouched_random_state
from lorabench.judges.digests import tensors_digest
from lorabench.judges.hub import hub_problem
from lorabench.judges.pictures import check_pictures
from lorabench.judges.protocols import Picture
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.detection import Detection

MAX_OVERLAP = 0.5
"""Largest intersection over union of two boxes of one class."""

Scores = NDArray[np.float64]
"""(boxes, labels), 0 to 1."""


class DetectorLoadError(MeasurementError):
    """A detector that could not be loaded whole."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"judges.detector must name a complete model; {source!r}: {problem}. "
            "Name a folder written by save_pretrained, or a hub id that this machine can reach."
        )
        self.source, self.problem = source, problem


class _TransformersDetector:
    """What both detectors share: loading, thresholds, suppression, colours."""

    kind: ClassVar[str]
    model_class: ClassVar[str]
    processor_class: ClassVar[str]
    default_thresholds: ClassVar[tuple[float, float]]
    counts_parts: frozenset[str] = frozenset()

    def __init__(
        self,
        source: str,
        *,
        device: str = "auto",
        presence_threshold: float | None = None,
        count_threshold: float | None = None,
        color_reader: ColorReader | None = None,
    ) -> None:
        """Load model and processor.

        Args:
            source: Folder, or hub id.
            device: torch device, or `auto`.
            presence_threshold: Scores must be above it to be reported; 0 to 1. The default is a starting point to
                calibrate on labelled pictures: thresholds do not carry over from one detector to another.
            count_threshold: Scores counting should ask for; at least `presence_threshold`. Not applied here: kept
                beside the detections for whoever counts.
            color_reader: Names the colours of what was found; None leaves detections without colours.

        Raises:
            DetectorLoadError: The model is not there, or some of its weights are missing.
            ValueError: Thresholds outside 0 to 1, or counting below presence.
        """
        presence, count = self.default_thresholds
        self.presence_threshold = presence if presence_threshold is None else presence_threshold
        self.count_threshold = max(count, self.presence_threshold) if count_threshold is None else count_threshold
        if not 0 <= self.presence_threshold <= self.count_threshold <= 1:
            msg = (
                "thresholds must satisfy 0 <= presence <= count <= 1, "
                f"got presence {self.presence_threshold} and count {self.count_threshold}"
            )
            raise ValueError(msg)
        self.device = resolve_device(device)
        self._model, self._processor = self._load(source)
        self._color_reader = color_reader
        self.reads_color = color_reader is not None
        self.name = f"{self.kind}-{Path(source).name}".lower()
        self.weights_digest = tensors_digest(self._model.state_dict(), settings=self._settings())
        """Over the tensors, the thresholds and the colour reader: all that changes a detection."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """`presence`, `count` and `max_overlap`, for the report."""
        return {"presence": self.presence_threshold, "count": self.count_threshold, "max_overlap": MAX_OVERLAP}

    def detect(self, pictures: Sequence[Picture], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        """Objects of the given classes in each picture, by falling score.

        A box belongs to the class that scores best in it; boxes of one class that overlap by more than half are one
        object.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB.
            labels: Class names, lower case.

        Returns:
            One tuple per picture, of detections scoring above `presence_threshold`.

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        check_pictures(pictures)
        names = tuple(dict.fromkeys(labels))
        if not names:
            return [() for _ in pictures]
        return [self._detect(picture, names) for picture in pictures]

    def _detect(self, picture: Picture, labels: tuple[str, ...]) -> tuple[Detection, ...]:
        with full_precision(self.device):
            boxes, scores = self._scored_boxes(picture, labels)
        height, width = picture.shape[:2]
        boxes = np.clip(boxes, 0, [width, height, width, height])
        best, score = scores.argmax(axis=1), scores.max(axis=1)  # (boxes,)
        found: list[Detection] = []
        for index, label in enumerate(labels):
            of_class = np.flatnonzero((best == index) & (score > self.presence_threshold))
            kept = of_class[suppressed(boxes[of_class], score[of_class], max_overlap=MAX_OVERLAP)]
            found += self._described(picture, label, boxes=boxes[kept], scores=score[kept])
        return tuple(sorted(found, key=lambda detection: -detection.score))

    def _described(self, picture: Picture, label: str, *, boxes: Boxes, scores: NDArray[np.float64]) -> list[Detection]:
        corners = [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes]
        colors: Sequence[str | None] = [None] * len(corners)
        if self._color_reader is not None:
            colors = self._color_reader.read(picture, corners, label=label)
        return [
            Detection(label=label, box=box, score=float(score), color=color)
            for box, score, color in zip(corners, scores, colors, strict=True)
        ]

    def _scored_boxes(self, picture: Picture, labels: tuple[str, ...]) -> tuple[Boxes, Scores]:
        """Boxes in pixels (boxes, 4) and their score for each label (boxes, labels)."""
        raise NotImplementedError

    def _load(self, source: str) -> tuple[Any, Any]:
        declare_missing_operators()
        import transformers

        problem = None if Path(source).is_dir() else hub_problem(source)
        only_here = problem is not None
        try:
            processor = getattr(transformers, self.processor_class).from_pretrained(source, local_files_only=only_here)
            with untouched_random_state():
                model, report = getattr(transformers, self.model_class).from_pretrained(
                    source, use_safetensors=True, output_loading_info=True, local_files_only=only_here
                )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            if only_here:
                reason = f"it is no folder and not whole in the hub's cache, and {problem}"
            raise DetectorLoadError(source, reason) from error
        absent = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
        if absent:
            raise DetectorLoadError(source, f"{len(absent)} weights are missing or misshapen (first: {absent[0]})")
        return model.float().eval().requires_grad_(requires_grad=False).to(self.device), processor

    def _settings(self) -> str:
        reader = self._color_reader
        return f"{dict(self.thresholds)} {'' if reader is None else reader.weights_digest}"


class Owlv2Detector(_TransformersDetector):
    """OWLv2 (Minderer et al. 2023, arXiv 2306.09683), asked "a photo of a {class}"."""

    kind = "owlv2"
    model_class = "Owlv2ForObjectDetection"
    processor_class = "Owlv2Processor"
    default_thresholds = (0.20, 0.30)
    template = "a photo of a {label}"

    def _scored_boxes(self, picture: Picture, labels: tuple[str, ...]) -> tuple[Boxes, Scores]:
        queries = [[self.template.format(label=label) for label in labels]]
        inputs = self._processor(text=queries, images=picture, return_tensors="pt").to(self.device)
        outputs = self._model(**inputs)
        # The processor pads to a square at the right and the bottom, so boxes are in units of the longer side.
        boxes = _corners(outputs.pred_boxes[0].double().cpu().numpy()) * max(picture.shape[:2])
        return boxes, outputs.logits[0].double().sigmoid().cpu().numpy()


class GroundingDinoDetector(_TransformersDetector):
    """Grounding DINO (Liu et al. 2023, arXiv 2303.05499), asked "{class}." for all classes in one query."""

    kind = "grounding-dino"
    model_class = "GroundingDinoForObjectDetection"
    processor_class = "GroundingDinoProcessor"
    default_thresholds = (0.30, 0.35)

    def _scored_boxes(self, picture: Picture, labels: tuple[str, ...]) -> tuple[Boxes, Scores]:
        parts = [self._ask(picture, group) for group in self._groups(labels)]
        # Each query has boxes of its own; a label of another query scores 0 in them.
        boxes = np.concatenate([boxes for boxes, _ in parts])
        scores = np.zeros((len(boxes), len(labels)))
        row = column = 0
        for group_boxes, group_scores in parts:
            n_boxes, n_labels = len(group_boxes), group_scores.shape[1]
            scores[row : row + n_boxes, column : column + n_labels] = group_scores
            row, column = row + n_boxes, column + n_labels
        return boxes, scores

    def _ask(self, picture: Picture, labels: tuple[str, ...]) -> tuple[Boxes, Scores]:
        text, spans = _query(labels)
        inputs = self._processor(images=picture, text=text, return_tensors="pt").to(self.device)
        offsets = self._processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        outputs = self._model(**inputs)
        probabilities = outputs.logits[0].double().sigmoid().cpu().numpy()  # (boxes, tokens)
        height, width = picture.shape[:2]
        boxes = _corners(outputs.pred_boxes[0].double().cpu().numpy()) * [width, height, width, height]
        columns = [
            [at for at, (start, end) in enumerate(offsets) if first <= start < end <= last] for first, last in spans
        ]
        return boxes, np.stack([probabilities[:, tokens].max(axis=1) for tokens in columns], axis=1)

    def _groups(self, labels: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Labels in as few queries as the model's text length allows."""
        limit = int(self._model.config.max_text_len)
        groups: list[tuple[str, ...]] = []
        for label in labels:
            longer = (*groups[-1], label) if groups else (label,)
            if groups and len(self._processor.tokenizer(_query(longer)[0])["input_ids"]) <= limit:
                groups[-1] = longer
            else:
                groups.append((label,))
        return groups


def _query(labels: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The query text and where each label stands in it (first character, one past the last)."""
    text, spans = "", []
    for label in labels:
        words = " ".join(label.lower().replace(".", " ").split())
        spans.append((len(text), len(text) + len(words)))
        text += words + ". "
    return text.strip(), spans


def _corners(boxes: NDArray[np.float64]) -> Boxes:
    """Centre and size to left, top, right, bottom, (n, 4)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)
