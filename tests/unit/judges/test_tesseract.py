"""Lines that the text reader cannot read, by a program that stands in for Tesseract, and by Tesseract."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lorabench.judges.tesseract import LineReader, TesseractError, TesseractLanguagesError
from lorabench.judges.text_reader import RapidTextReader

STAND_IN = """#!{python}
import sys
if "--list-langs" in sys.argv:
    print('List of available languages in "{folder}" (1):')
    print("rus")
elif "--version" in sys.argv:
    print("tesseract 5.3.0")
elif {fails}:
    sys.exit(1)
else:
    assert sys.argv[1:] == ["stdin", "stdout", "--psm", "7", "-l", "rus", "tsv"], sys.argv
    assert sys.stdin.buffer.read(4) == b"\\x89PNG"
    sys.stdout.buffer.write("level\\tconf\\ttext\\n4\\t-1\\t\\n5\\t{confidence}\\tХЛЕБ\\n".encode())
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program of that name first on the PATH."""

    def put(*, confidence: float = 93.0, fails: bool = False) -> None:
        import sys

        program = tmp_path / "tesseract"
        text = STAND_IN.format(python=sys.executable, folder=tmp_path, fails=fails, confidence=confidence)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return put


PICTURE = np.full((40, 90, 3), 200, np.uint8)
BOX = (5.0, 5.0, 80.0, 30.0)


def test_line_is_read_with_the_mean_confidence(stand_in) -> None:
    stand_in()

    assert LineReader("rus").read(PICTURE, BOX) == ("ХЛЕБ", pytest.approx(0.93))


def test_line_in_which_nothing_is_read_is_empty(stand_in) -> None:
    stand_in(confidence=-1)

    assert LineReader("rus").read(PICTURE, BOX) == ("", 0.0)


def test_language_data_are_part_of_the_digest(stand_in, tmp_path: Path) -> None:
    stand_in()
    before = LineReader("rus").digest
    (tmp_path / "rus.traineddata").write_bytes(b"other data")

    assert LineReader("rus").digest != before


def test_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(
        TesseractError, match=r"needs the program tesseract with these languages; it is not on the PATH"
    ):
        LineReader("rus")


def test_missing_language_is_named(stand_in) -> None:
    stand_in()

    with pytest.raises(TesseractError, match=r"it does not know ara\. Install it \(Debian: tesseract-ocr"):
        LineReader("rus+ara")


def test_failing_program_is_said_to_fail(stand_in) -> None:
    stand_in(fails=True)
    reader = LineReader("rus")

    with pytest.raises(TesseractError, match="it fails"):
        reader.read(PICTURE, BOX)


@pytest.mark.parametrize("languages", ["rus,ara", "-h", "rus+", "rus ara", "+"])
def test_languages_that_are_no_names_are_refused(languages: str) -> None:
    with pytest.raises(TesseractLanguagesError, match=r"\[judges\] ocr_languages must be Tesseract's names"):
        LineReader(languages)


def cyrillic(word: str, *, size: int) -> np.ndarray:
    fonts = sorted(Path("/usr/share/fonts").rglob("DejaVuSans-Bold.ttf"))
    if not fonts:
        pytest.skip("no font with Cyrillic letters is installed")
    image = Image.new("RGB", (512, 200), (235, 225, 205))
    ImageDraw.Draw(image).text((40, 60), word, font=ImageFont.truetype(str(fonts[0]), size), fill=(30, 20, 60))
    return np.asarray(image)


@pytest.mark.weights
def test_line_that_the_reader_cannot_read_is_handed_on(stand_in) -> None:
    pytest.importorskip("rapidocr")
    stand_in()
    with_second, alone = RapidTextReader(languages="rus"), RapidTextReader()

    (seen,) = with_second.read([cyrillic("МОЛОКО", size=40)])[0]

    assert (seen.text, seen.script, seen.score) == ("ХЛЕБ", "Cyrillic", pytest.approx(0.93))
    assert with_second.weights_digest != alone.weights_digest


@pytest.mark.weights
@pytest.mark.parametrize(("word", "size"), [("МОЛОКО", 40), ("Доброе утро", 24), ("ХЛЕБ", 30)])
def test_tesseract_reads_russian_and_the_script_is_named(word: str, size: int) -> None:
    pytest.importorskip("rapidocr")
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed")
    try:
        reader = RapidTextReader(languages="rus")
    except TesseractError:
        pytest.skip("tesseract does not know Russian")

    (seen,) = reader.read([cyrillic(word, size=size)])[0]

    assert (seen.text, seen.script) == (word, "Cyrillic")
