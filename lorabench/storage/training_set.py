"""The pictures an adapter was trained on, as a trainer would have shown them to the model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lorabench.errors import MeasurementError
from lorabench.storage.pictures import pixel_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
CAPTION_FILES: Final = ("captions.jsonl", "metadata.jsonl")
MAX_PIXELS: Final = 89_478_485
"""Pictures with more pixels than this are refused as decompression bombs (Pillow's own limit)."""
_OPAQUE: Final = frozenset({"1", "L", "P", "RGB", "YCbCr"})
_WITH_ALPHA: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


class TrainingPictureError(MeasurementError):
    """A training picture cannot be used as it is."""

    def __init__(self, path: Path, *, found: str, advice: str) -> None:
        super().__init__(
            f"training pictures must be whole still pictures in 8-bit grey or RGB; {path}: {found}. {advice}"
        )
        self.path = path


class TrainingFolderError(MeasurementError):
    """The folder of training pictures is missing or holds none."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"the training folder must hold pictures ({', '.join(sorted(SUFFIXES))}); {folder} {found}. "
            "Name the folder the adapter was trained on."
        )
        self.folder = folder


class CaptionsError(MeasurementError):
    """The captions of the training pictures cannot be used."""

    def __init__(self, path: Path, line: int | None, found: str) -> None:
        place = f"{path}:{line}" if line is not None else str(path)
        super().__init__(
            f'captions must be JSON lines such as {{"file": "a.png", "text": "a cat"}} about pictures of the folder; '
            f"{place}: {found}. Correct it."
        )
        self.path, self.line = path, line


@dataclass(frozen=True)
class TrainingSet:
    """Training pictures in one size, in the order of their names.

    Attributes:
        folder: Where they were read.
        names: Path of each picture below the folder, with forward slashes.
        pictures: uint8 RGB arrays (height, width, 3), 0 to 255, resized and cropped.
        captions: Caption of each picture; None where there is none.
        digests: SHA-256 over the pixels of `pictures` (shape and bytes).
        original_sizes: (height, width) of each file after its EXIF turn, before resizing.
    """

    folder: Path
    names: tuple[str, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    captions: tuple[str | None, ...]
    digests: tuple[str, ...]
    original_sizes: tuple[tuple[int, int], ...]

    @property
    def resized(self) -> tuple[bool, ...]:
        """Whether each picture had another size than the one asked for."""
        return tuple(
            size != picture.shape[:2] for size, picture in zip(self.original_sizes, self.pictures, strict=True)
        )

    @property
    def caption_of(self) -> Mapping[str, str]:
        """Name to caption, of the pictures that have one."""
        pairs = zip(self.names, self.captions, strict=True)
        return MappingProxyType({name: caption for name, caption in pairs if caption is not None})


def read_training_set(folder: Path, captions: Path | None = None, *, size: tuple[int, int]) -> TrainingSet:
    """Read all pictures of a folder and of the folders below it.

    Captions come from the file that is named, else from `captions.jsonl` (fields `file`, `text`), else from
    `metadata.jsonl` (`file_name`, `text`); pictures without an entry there take `<picture>.txt` if it exists.

    Each picture is turned by its EXIF flag, laid on white where it is transparent, and brought to the size by one
    antialiased Lanczos resize of its largest centred part with the right proportions. Colour profiles are not
    applied, because trainers do not apply them either.

    Args:
        folder: The pictures; hidden files are passed over.
        captions: Captions as JSON lines.
        size: (height, width) in pixels.

    Returns:
        The training set, sorted by name.

    Raises:
        TrainingFolderError: No folder, or no picture in it.
        TrainingPictureError: A picture is broken, animated, 16-bit, CMYK or too large.
        CaptionsError: A caption file is wrong, or names a picture that is not there.
    """
    paths = picture_paths(folder)
    texts = _captions(folder, captions, names=frozenset(paths))
    read = [read_training_picture(path, size=size) for path in paths.values()]
    pictures = tuple(picture for picture, _ in read)
    return TrainingSet(
        folder=folder,
        names=tuple(paths),
        pictures=pictures,
        captions=tuple(texts.get(name, _sidecar(path)) for name, path in paths.items()),
        digests=tuple(pixel_digest(picture) for picture in pictures),
        original_sizes=tuple(original for _, original in read),
    )


def read_captions(folder: Path, captions: Path | None = None) -> dict[str, str]:
    """Captions of the training pictures by picture name, found as `read_training_set` does; no picture is opened.

    Args:
        folder: The pictures.
        captions: Captions as JSON lines.

    Returns:
        Name to caption, of the pictures that have one.

    Raises:
        TrainingFolderError: No folder, or no picture in it.
        CaptionsError: A caption file is wrong, or names a picture that is not there.
    """
    paths = picture_paths(folder)
    texts = _captions(folder, captions, names=frozenset(paths))
    found = {name: texts.get(name, _sidecar(path)) for name, path in paths.items()}
    return {name: text for name, text in found.items() if text is not None}


def read_training_picture(path: Path, *, size: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Read one picture as `read_training_set` does.

    Args:
        path: The file.
        size: (height, width) in pixels.

    Returns:
        RGB pixels uint8 (height, width, 3), and the file's own (height, width).

    Raises:
        TrainingPictureError: See `read_training_set`.
    """
    picture = open_upright(path)
    height, width = size
    original = (picture.height, picture.width)
    if original != size:
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture, dtype=np.uint8), original


def open_upright(path: Path) -> Image.Image:
    """The picture in its own size as RGB, turned by its EXIF flag and laid on white where it is transparent.

    Raises:
        TrainingPictureError: See `read_training_set`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _refuse_unusable(picture, path)
                picture.load()
                return _on_white(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        found = f"it has more than {MAX_PIXELS:,} pixels"
        raise TrainingPictureError(path, found=found, advice="Make it smaller.") from None
    except UnidentifiedImageError:
        found = "it is no picture that can be read"
        raise TrainingPictureError(path, found=found, advice="Replace or remove it.") from None
    except (OSError, SyntaxError, ValueError) as error:
        found = f"it is damaged or cut off ({error})"
        raise TrainingPictureError(path, found=found, advice="Replace or remove it.") from None


def _refuse_unusable(picture: Image.Image, path: Path) -> None:
    if getattr(picture, "n_frames", 1) > 1:
        found = f"it has {getattr(picture, 'n_frames', 1)} frames"
        raise TrainingPictureError(path, found=found, advice="Save the frame you trained on.")
    if _is_deep(picture):
        found = "it has 16 or 32 bits a channel"
        raise TrainingPictureError(path, found=found, advice="Save it with 8 bits, as it was trained on.")
    if picture.mode not in _OPAQUE | _WITH_ALPHA:
        found = f"its colour mode is {picture.mode}"
        raise TrainingPictureError(path, found=found, advice="Convert it to RGB with a colour-managed program.")


def _is_deep(picture: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; Pillow reads 16-bit RGB files as if they had 8."""
    raw_modes = [str(tile[3]) for tile in getattr(picture, "tile", [])]
    return picture.mode in {"I", "F"} or picture.mode.startswith("I;16") or any(";16" in mode for mode in raw_modes)


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
    return picture.convert("RGB")


def picture_paths(folder: Path) -> dict[str, Path]:
    """Name to path of every picture of a folder and of the folders below it, in the order of the names' paths.

    Raises:
        TrainingFolderError: No folder, or no picture in it.
    """
    if not folder.is_dir():
        raise TrainingFolderError(folder, "is not a folder")
    paths = sorted(path for path in folder.rglob("*") if _is_picture(path, folder))
    if not paths:
        raise TrainingFolderError(folder, "holds none")
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _captions(folder: Path, named: Path | None, *, names: frozenset[str]) -> dict[str, str]:
    path = named or next((folder / name for name in CAPTION_FILES if (folder / name).is_file()), None)
    if path is None:
        return {}
    texts: dict[str, str] = {}
    for line, name, text in _entries(path):
        if name not in names:
            raise CaptionsError(path, line, f"no picture {name!r} in {folder}")
        if name in texts:
            raise CaptionsError(path, line, f"a second caption for {name!r}")
        texts[name] = text
    return texts


def _entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, picture name and caption of each entry."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionsError(path, None, f"it cannot be read as UTF-8 text ({error})") from None
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
        except json.JSONDecodeError as error:
            raise CaptionsError(path, line, f"it is not JSON ({error.msg})") from None
        name = entry.get("file", entry.get("file_name")) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("text"), str):
            raise CaptionsError(path, line, "`file` (or `file_name`) and `text` must both be texts")
        yield line, name, entry["text"]


def _sidecar(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return None
    try:
        return beside.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise CaptionsError(beside, None, f"it cannot be read as UTF-8 text ({error})") from None
