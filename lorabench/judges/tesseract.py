"""Lines of lettering in scripts that the text reader does not know, by the program Tesseract where it is installed.

RapidOCR finds such lines and cannot read them; Tesseract reads a line well once it is cut out, and finds little in a
whole picture. So each does what it is good at.

Reference:
    R. Smith, An overview of the Tesseract OCR engine, ICDAR 2007; https://github.com/tesseract-ocr/tesseract
    (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from PIL import Image

from lorabench.errors import MeasurementError, SpecError
from lorabench.judges.protocols import Picture

PROGRAM: Final = "tesseract"
LINE_HEIGHT: Final = 48
"""Pixels to which a line is enlarged, in whole steps."""
MARGIN: Final = 3
"""Pixels around a line that are cut out with it."""
TIMEOUT: Final = 60
"""Seconds a line may take."""
_SINGLE_LINE: Final = "7"
_LANGUAGES: Final = re.compile(r"[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*")


class TesseractLanguagesError(SpecError):
    """`[judges] ocr_languages` is not understood."""

    def __init__(self, languages: str) -> None:
        super().__init__(
            "[judges] ocr_languages must be Tesseract's names of languages with + between them, as in 'rus+ara'; "
            f"found {languages!r}."
        )
        self.languages = languages


class TesseractError(MeasurementError):
    """Tesseract or one of its languages is not there, or fails."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"[judges] ocr_languages needs the program {PROGRAM} with these languages; {problem}. "
            "Install it (Debian: tesseract-ocr and tesseract-ocr-LANGUAGE), or leave ocr_languages empty."
        )
        self.problem = problem


class LineReader:
    """Reads one line that is cut out of a picture."""

    def __init__(self, languages: str) -> None:
        """Find the program and its languages.

        Args:
            languages: Tesseract's names, with `+` between them.

        Raises:
            TesseractLanguagesError: The names are no names.
            TesseractError: Program or languages are missing.
        """
        if not _LANGUAGES.fullmatch(languages):
            raise TesseractLanguagesError(languages)
        self._languages = languages
        if shutil.which(PROGRAM) is None:
            raise TesseractError("it is not on the PATH")
        head, *known = self._run(["--list-langs"]).decode(errors="replace").splitlines() or [""]
        if missing := [name for name in languages.split("+") if name not in {line.strip() for line in known}]:
            raise TesseractError(f"it does not know {missing[0]}")
        version = self._run(["--version"]).decode(errors="replace").splitlines()[0]
        digest = hashlib.sha256(f"{version} {languages} {LINE_HEIGHT} {MARGIN}".encode())
        folder = re.search(r'"(.*)"', head)
        for name in languages.split("+"):
            data = Path(folder[1] if folder else "") / f"{name}.traineddata"
            digest.update(data.read_bytes() if data.is_file() else b"")
        self.digest = digest.hexdigest()
        """Over version, languages and their data."""

    def read(self, picture: Picture, box: tuple[float, float, float, float]) -> tuple[str, float]:
        """Text of one line and how sure it is, 0 to 1; empty and 0 where nothing is read.

        Args:
            picture: uint8 (height, width, 3), RGB.
            box: Left, top, right, bottom of the line in pixels.

        Raises:
            TesseractError: The program fails.
        """
        line = Image.fromarray(picture).convert("L").crop(_around(box, size=picture.shape[:2]))
        times = max(1, round(LINE_HEIGHT / line.height))
        line = line.resize((line.width * times, line.height * times), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        line.save(stream, format="PNG")
        options = ["stdin", "stdout", "--psm", _SINGLE_LINE, "-l", self._languages, "tsv"]
        return _words(self._run(options, stream.getvalue()).decode("utf-8", errors="replace"))

    @staticmethod
    def _run(options: list[str], content: bytes = b"") -> bytes:
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        try:
            done = subprocess.run(
                [PROGRAM, *options], input=content, capture_output=True, check=True, timeout=TIMEOUT, env=environment
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise TesseractError(f"it fails ({error})") from error
        return done.stdout


def _around(box: tuple[float, float, float, float], *, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return (
        max(0, int(left) - MARGIN),
        max(0, int(top) - MARGIN),
        min(size[1], int(right) + 1 + MARGIN),
        min(size[0], int(bottom) + 1 + MARGIN),
    )


def _words(table: str) -> tuple[str, float]:
    r"""Words and their mean confidence out of Tesseract's table; confidence and text are its last two columns.

    >>> _words("level\tconf\ttext\n4\t-1\t\n5\t90\tДоброе\n5\t80\tутро\n")
    ('Доброе утро', 0.85)
    """
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    words = [(row[-1].strip(), float(row[-2])) for row in rows if len(row) > 2 and row[-1].strip()]
    sure = [confidence for _, confidence in words if confidence >= 0]
    if not sure:
        return "", 0.0
    return " ".join(word for word, _ in words), min(1.0, sum(sure) / len(sure) / 100)
