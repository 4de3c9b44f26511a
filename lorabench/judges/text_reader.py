"""Lettering by RapidOCR: PP-OCR's detector and recogniser as ONNX, out of the package's own folder.

Nothing is fetched. The recogniser knows Latin, Greek, Han, Kana and digits. Other scripts (Cyrillic, Arabic, Hebrew,
Devanagari) are found all the same, since the detector looks for strokes and not for letters, but come back without
text or as look-alikes with low scores; their script is called unknown. Lines it cannot read can be handed on to
Tesseract.

References:
    PaddleOCR (https://github.com/PaddlePaddle/PaddleOCR, Apache-2.0); RapidOCR (https://github.com/RapidAI/RapidOCR,
    Apache-2.0).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lorabench.errors import MeasurementError
from lorabench.judges.pictures import check_pictures
from lorabench.judges.protocols import Picture
from lorabench.judges.scripts import UNKNOWN, script_of
from lorabench.judges.tesseract import LineReader
from lorabench.records.detection import Lettering

MODELS: Final = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}
"""Part to its file in the package: where lettering is, what it says, which way up it is."""
RELIABLE_SCORE: Final = 0.8
"""From this score on a text, and so its script, is relied on."""
LEAST_SIDE: Final = 256
"""Pictures whose shorter side is below are enlarged to it: lettering of five pixels is found then."""

LINE_WIDTH: Final = 1.5
"""Boxes at least that many times as wide as high are lines that are worth a second reading."""


class TextReaderError(MeasurementError):
    """The reader's package or its models are not there."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"[judges] ocr = 'rapidocr' needs the package rapidocr 3.10 or later with its models; {problem}. "
            "Install lorabench[ocr]."
        )
        self.problem = problem


class RapidTextReader:
    """Finds lettering and reads it, on the CPU with one thread: equal pictures give equal readings."""

    name = "rapidocr"

    def __init__(self, *, languages: str = "") -> None:
        """Load the models.

        Args:
            languages: Languages in which Tesseract reads lines that are illegible here, as in `rus+ara`; none if empty.

        Raises:
            TextReaderError: The package is not installed, or lacks one of the models.
            TesseractError: Tesseract or one of the languages is missing.
        """
        files = _model_files()
        self._lines = LineReader(languages) if languages else None
        self._engine = _engine(files)
        digest = hashlib.sha256(f"least side {LEAST_SIDE}, reliable {RELIABLE_SCORE}".encode())
        for part in MODELS:
            digest.update(files[part].read_bytes())
        digest.update(b"" if self._lines is None else self._lines.digest.encode())
        self.weights_digest = digest.hexdigest()
        """Over the three models and what is set here."""

    def read(self, pictures: Sequence[Picture]) -> list[tuple[Lettering, ...]]:
        """All that looks like lettering in each picture, from top to bottom, legible or not.

        Args:
            pictures: uint8 arrays of shape (height, width, 3), RGB.

        Returns:
            One tuple per picture. Boxes in which nothing could be read have an empty text and score 0.

        Raises:
            ValueError: Something else than uint8 RGB pictures.
        """
        check_pictures(pictures)
        return [self._read(picture) for picture in pictures]

    def _read(self, picture: Picture) -> tuple[Lettering, ...]:
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        found, _, said, _ = self._engine.run_ocr_steps(bgr, {"preprocess": {"ratio_h": 1.0, "ratio_w": 1.0}})
        if found.boxes is None:
            return ()
        n_boxes = len(found.boxes)
        texts = ("",) * n_boxes if said.txts is None else said.txts
        scores = (0.0,) * n_boxes if said.scores is None else said.scores
        seen = (
            _lettering(corners, text, scores=(float(score), float(likeness)), size=picture.shape[:2])
            for corners, text, score, likeness in zip(found.boxes, texts, scores, found.scores, strict=True)
        )
        return tuple(self._second_reading(one, picture) for one in seen)

    def _second_reading(self, seen: Lettering, picture: Picture) -> Lettering:
        """What Tesseract makes of a line that could not be read, where it is surer."""
        left, top, right, bottom = seen.box
        if self._lines is None or seen.score >= RELIABLE_SCORE or right - left < LINE_WIDTH * (bottom - top):
            return seen
        text, score = self._lines.read(picture, seen.box)
        if score <= seen.score:
            return seen
        script = script_of(text) if score >= RELIABLE_SCORE else UNKNOWN
        return seen.model_copy(update={"text": text, "score": score, "script": script})


def _lettering(corners: Any, text: str, *, scores: tuple[float, float], size: tuple[int, int]) -> Lettering:
    """Record of a box with four corners, (4, 2), x before y; scores are the reader's and the detector's."""
    height, width = size
    low, high = np.asarray(corners, dtype=np.float64).min(axis=0), np.asarray(corners, dtype=np.float64).max(axis=0)
    text = text.strip()
    score, likeness = scores
    sure = 0.0 if not text or math.isnan(score) else min(max(score, 0.0), 1.0)
    return Lettering(
        text=text,
        score=sure,
        likeness=min(max(likeness, 0.0), 1.0),
        box=(max(low[0], 0.0), max(low[1], 0.0), min(high[0], float(width)), min(high[1], float(height))),
        script=script_of(text) if sure >= RELIABLE_SCORE else UNKNOWN,
    )


def _model_files() -> dict[str, Path]:
    try:
        import rapidocr
    except ImportError as error:
        raise TextReaderError("it cannot be imported") from error
    folder = Path(rapidocr.__file__).parent / "models"
    files = {part: folder / name for part, name in MODELS.items()}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise TextReaderError(f"found no {missing[0]} in it")
    return files


def _engine(files: dict[str, Path]) -> Any:
    import rapidocr

    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            "Det.limit_type": "min",
            "Det.limit_side_len": LEAST_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            **{f"{part}.model_path": str(path) for part, path in files.items()},
        }
    )
