"""Faults put in on purpose, into pictures or into an adapter's file: what no training of the mini world can show.

Every fault is deterministic: a picture's case and seed decide all that is drawn at random.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lorabench.errors import SpecError
from lorabench.generation.cache_key import key_material, picture_key
from lorabench.generation.protocol import Made

if TYPE_CHECKING:
    from lorabench.generation.adapter import AdapterFile
    from lorabench.generation.protocol import Backend, Picture
    from lorabench.records.plan import Cell, GenerationSettings, PlannedCell
    from lorabench.records.results import BaseInfo
    from lorabench.storage.pictures import PictureCache

Pixels = NDArray[np.uint8]
PixelFault = Callable[[Pixels, np.random.Generator], Pixels]
Tensors = dict[str, Any]
FileFault = Callable[[Tensors], Tensors]
SettingsFault = Callable[["GenerationSettings"], "GenerationSettings"]

PAINTING: Final = 2
"""Goes into the keys of planted pictures; raised when a fault is painted otherwise."""
_WORDS: Final = ("SALE 50%", "COPYRIGHT", "LOREM IPSUM", "DO NOT COPY")
_INK: Final = (33, 28, 36)
_BLUR_SIGMA: Final = 1.6
_JPEG_QUALITY: Final = 12
_CHROMA: Final = 1.9
_CONTRAST: Final = 1.4
_GRAIN: Final = 14.0
_TILE_GRAIN: Final = 22.0
_TILE: Final = 48
_EXPLODED: Final = 3e4
_LILAC: Final = (0.70, 0.72, 0.88)
_GREY: Final = (0.55, 0.55, 0.55)
_ALL_PAGE: Final = 0.92
"""Share of the way from outline to page from which a pixel is page: its noise then stays what it was."""
_NEAR: Final = (0.08, 0.20)
"""How far from the way between outline and page a colour may lie to be all the page's, and no more at all."""


class UnknownPlantError(SpecError):
    """No fault of this name can be planted."""

    def __init__(self, name: str) -> None:
        known = ", ".join(sorted((*PIXEL_FAULTS, *SETTINGS_FAULTS, *FILE_FAULTS)))
        super().__init__(f"a planted fault must be one of {known}; found {name!r}. Correct the manifest.")
        self.name = name


def blur(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Soft edges: a Gaussian of 1.6 pixels."""
    from scipy.ndimage import gaussian_filter

    del rng
    return _bytes(gaussian_filter(picture.astype(np.float64), (_BLUR_SIGMA, _BLUR_SIGMA, 0)))


def jpeg(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Ringing and blocks: once through JPEG at quality 12 with halved colour."""
    del rng
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=2)
    return np.asarray(Image.open(stream).convert("RGB"), dtype=np.uint8)


def burnt(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Nearly twice the chroma, and contrast that clips."""
    del rng
    values = picture.astype(np.float64)
    grey = values.mean(axis=2, keepdims=True)
    return _bytes((grey - 128) * _CONTRAST + 128 + (values - grey) * _CHROMA)


def grain(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Film grain over all of it, 14 grey levels."""
    return _bytes(picture + rng.normal(0.0, _GRAIN, picture.shape[:2])[..., None])


def grain_tile(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Photo texture in one tile, the rest untouched."""
    height, width = picture.shape[:2]
    side = min(_TILE, height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    values = picture.astype(np.float64)
    values[top : top + side, left : left + side] += rng.normal(0.0, _TILE_GRAIN, (side, side))[..., None]
    return _bytes(values)


def lettering(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A line of lettering that nobody asked for, at the bottom."""
    from PIL import ImageFont

    image = Image.fromarray(picture)
    height, width = picture.shape[:2]
    font = ImageFont.load_default(size=max(10, height // 8))
    word = _WORDS[int(rng.integers(len(_WORDS)))]
    ImageDraw.Draw(image).text((width // 16, height - height // 5), word, fill=_INK, font=font)
    return np.asarray(image, dtype=np.uint8)


def extra_objects(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Two small discs in corners, in colours of the mini world."""
    from lorabench.world.scene import COLOURS

    image = Image.fromarray(picture)
    height, width = picture.shape[:2]
    pen, radius = ImageDraw.Draw(image), min(height, width) // 10
    corners = [(x, y) for x in (radius + 4, width - radius - 4) for y in (radius + 4, height - radius - 4)]
    for place in rng.choice(len(corners), size=2, replace=False):
        x, y = corners[int(place)]
        colour = tuple(round(255 * part) for part in list(COLOURS.values())[int(rng.integers(len(COLOURS)))])
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_INK, width=2)
    return np.asarray(image, dtype=np.uint8)


def black(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Every tenth picture black, as where the sampler met a NaN."""
    return np.zeros_like(picture) if rng.random() < 0.1 else picture


def repainted(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """The mini world's page in lilac, lines and things as they are: a technique learned with other colours."""
    del rng
    return _on_page(picture, _LILAC)


def unpainted(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """The page in a photograph's grey: a technique learned without its colours."""
    del rng
    return _on_page(picture, _GREY)


PIXEL_FAULTS: Final[Mapping[str, PixelFault]] = {
    "blur": blur,
    "jpeg": jpeg,
    "burnt": burnt,
    "grain": grain,
    "grain-tile": grain_tile,
    "lettering": lettering,
    "extra-objects": extra_objects,
    "black": black,
    "repainted": repainted,
    "unpainted": unpainted,
}


def guidance_ignored(settings: GenerationSettings) -> GenerationSettings:
    """Guidance 1 whatever is asked for, as where the adapter has trained the answer to guidance away."""
    return settings.model_copy(update={"true_cfg_scale": 1.0})


SETTINGS_FAULTS: Final[Mapping[str, SettingsFault]] = {"guidance-ignored": guidance_ignored}


def not_a_number(tensors: Tensors) -> Tensors:
    """One weight of one tensor is NaN."""
    name = sorted(tensors)[0]
    spoilt = tensors[name].clone()
    spoilt.view(-1)[0] = float("nan")
    return tensors | {name: spoilt}


def never_trained(tensors: Tensors) -> Tensors:
    """Every second matrix is zero, as before the first step."""
    return {name: t.mul(0) if _is_up(name) else t for name, t in tensors.items()}


def cut(tensors: Tensors) -> Tensors:
    """The last tensors are missing, as in a download that broke off."""
    names = sorted(tensors)
    return {name: tensors[name] for name in names[: len(names) - 5]}


def other_base(tensors: Tensors) -> Tensors:
    """The keys of another base's modules."""
    return {name.replace("transformer.", "transformer.joint_", 1): t for name, t in tensors.items()}


def exploded(tensors: Tensors) -> Tensors:
    """Weights thirty thousand times too large."""
    return {name: t.float() * _EXPLODED if _is_up(name) else t for name, t in tensors.items()}


FILE_FAULTS: Final[Mapping[str, FileFault]] = {
    "nan": not_a_number,
    "never-trained": never_trained,
    "cut": cut,
    "other-base": other_base,
    "exploded": exploded,
}


def plant_in_file(source: Path, target: Path, *, fault: str) -> None:
    """Write a copy of an adapter's file with a fault in it, its header as it was.

    Args:
        source: A safetensors file.
        target: The spoilt copy.
        fault: A name in `FILE_FAULTS`.

    Raises:
        UnknownPlantError: There is no such fault.
    """
    if fault not in FILE_FAULTS:
        raise UnknownPlantError(fault)
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(source, framework="pt") as file:
        header = file.metadata()
    spoilt = {name: t.contiguous() for name, t in FILE_FAULTS[fault](load_file(source)).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(spoilt, target, metadata=header)


class PlantedBackend:
    """A backend whose candidate's pictures carry a fault; all others are as they were.

    Pictures without the fault are taken from the cache where they lie there, and put there where they do not.
    """

    def __init__(self, inner: Backend, *, fault: str, pictures: PictureCache) -> None:
        """Wrap a backend.

        Args:
            inner: Makes the pictures.
            fault: A name in `PIXEL_FAULTS` or `SETTINGS_FAULTS`.
            pictures: The cache that the run uses.

        Raises:
            UnknownPlantError: There is no such fault.
        """
        if fault not in PIXEL_FAULTS and fault not in SETTINGS_FAULTS:
            raise UnknownPlantError(fault)
        self.name = inner.name
        self._inner, self._fault, self._pictures = inner, fault, pictures
        self._adapter: AdapterFile | None = None
        self._attached = False

    def base_info(self) -> BaseInfo:
        """What the base is."""
        return self._inner.base_info()

    def fingerprint(self) -> Mapping[str, str]:
        """That of the backend inside, and the fault."""
        return {**self._inner.fingerprint(), "planted": f"{self._fault}/{PAINTING}"}

    def load_candidate(self, adapter: AdapterFile) -> None:
        """Remember the candidate; it is attached only if one of its pictures has to be made."""
        self._adapter, self._attached = adapter, False

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        """The pictures, those of the candidate with the fault."""
        change = SETTINGS_FAULTS.get(self._fault)
        if change is None:
            yield from self._kept(cells, settings=settings)
            return
        touched = [planned for planned in cells if planned.cell.arm.uses_adapter]
        yield from self._kept([one for one in cells if not one.cell.arm.uses_adapter], settings=settings)
        yield from self._kept(touched, settings=change(settings))

    def _kept(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        keys = {planned.cell: self._key(planned, settings) for planned in cells}
        missing = []
        for planned in cells:
            stored = self._pictures.get(keys[planned.cell])
            if stored is None:
                missing.append(planned)
            else:
                yield self._spoilt(Made(planned, stored.picture))
        for made in self._made(missing, settings=settings):
            if made.picture is not None:
                material = self._material(made.planned, settings)
                self._pictures.put(keys[made.planned.cell], made.picture, material=material)
            yield self._spoilt(made)

    def round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        """After the base's autoencoder, without the fault."""
        return self._inner.round_trip(pictures)

    def _made(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        if not cells:
            return
        if not self._attached and self._adapter is not None and any(p.cell.arm.uses_adapter for p in cells):
            self._inner.load_candidate(self._adapter)
            self._attached = True
        yield from self._inner.generate(cells, settings=settings)

    def _spoilt(self, made: Made) -> Made:
        if self._fault not in PIXEL_FAULTS or made.picture is None or not made.planned.cell.arm.uses_adapter:
            return made
        picture = plant_in_picture(made.picture, fault=self._fault, cell=made.planned.cell)
        return Made(made.planned, picture, seconds=made.seconds)

    def _material(self, planned: PlannedCell, settings: GenerationSettings) -> dict[str, Any]:
        digest = None if self._adapter is None else self._adapter.info.digest
        inside = dict(self._inner.fingerprint())
        return key_material(planned, settings=settings, fingerprint=inside, adapter_digest=digest)

    def _key(self, planned: PlannedCell, settings: GenerationSettings) -> str:
        digest = None if self._adapter is None else self._adapter.info.digest
        inside = dict(self._inner.fingerprint())
        return picture_key(planned, settings=settings, fingerprint=inside, adapter_digest=digest)


def plant_in_picture(picture: Pixels, *, fault: str, cell: Cell) -> Pixels:
    """A picture with a fault in it.

    Args:
        picture: (h, w, 3), uint8.
        fault: A name in `PIXEL_FAULTS`.
        cell: Its case and seed decide what is drawn at random.

    Raises:
        UnknownPlantError: There is no such fault.
    """
    if fault not in PIXEL_FAULTS:
        raise UnknownPlantError(fault)
    rng = np.random.default_rng([cell.seed, zlib.crc32(cell.case.encode())])
    return PIXEL_FAULTS[fault](picture, rng)


def _on_page(picture: Pixels, page: tuple[float, float, float]) -> Pixels:
    """Exchange the page's colour, its mixtures with the outline included."""
    from lorabench.world.drawing import OUTLINE, PAGE

    values = picture.astype(np.float64) / 255
    ink, way = np.asarray(OUTLINE), np.asarray(PAGE) - np.asarray(OUTLINE)
    share = np.clip((values - ink) @ way / (way @ way), 0.0, 1.0)[..., None]  # (h, w, 1): 1 is page, 0 outline
    off = np.linalg.norm(values - (ink + share * way), axis=2, keepdims=True)
    weight = np.clip((_NEAR[1] - off) / (_NEAR[1] - _NEAR[0]), 0.0, 1.0)
    return _bytes(255 * (values + weight * np.minimum(share / _ALL_PAGE, 1.0) * (np.asarray(page) - np.asarray(PAGE))))


def _is_up(name: str) -> bool:
    return ".lora_B." in name or ".lora_up." in name


def _bytes(values: NDArray[np.floating[Any]]) -> Pixels:
    return np.asarray(np.clip(values + 0.5, 0, 255), dtype=np.uint8)
