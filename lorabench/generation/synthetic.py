"""A backend without weights: it draws what the prompt says, and can be told to do so badly.

For tests of suites, gates and reports, here and in other projects. Prompts of the mini world are drawn truly; other
prompts get shapes that depend on the prompt's words alone. Arms of the base are always right. Arms of the candidate
get the planted faults, so that a test can ask whether that check, and no other, finds them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lorabench.errors import SpecError
from lorabench.generation.batching import Batches
from lorabench.generation.noise import NOISE_RECIPE, noise_seed
from lorabench.generation.protocol import Made, Picture
from lorabench.records.config import ModelConfig
from lorabench.records.plan import Cell, GenerationSettings, PlannedCell
from lorabench.records.record import digest_of
from lorabench.records.results import BaseInfo
from lorabench.world.captions import FLAT_PHRASE, PAINTING, TRIGGER
from lorabench.world.drawing import Style, draw
from lorabench.world.prompt_reading import read_prompt
from lorabench.world.scene import COLOURS, SHAPES, SIZE, Scene, WorldObject, sample_scene

if TYPE_CHECKING:
    from lorabench.generation.adapter import AdapterFile

FaultKind = Literal[
    "drop_second",
    "swap_colors",
    "flip",
    "palette",
    "one_color",
    "wrong_count",
    "wrong_parts",
    "extra_object",
    "clutter",
    "lettering",
    "photo_style",
    "grain",
    "copy_training",
    "same_for_all_seeds",
    "constant",
    "black",
    "raise",
]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
SYNTHETIC_VERSION: Final = "1"

_PALETTES: Final[dict[FaultKind, tuple[str, ...]]] = {"palette": ("red", "yellow"), "one_color": ("red",)}
"""Colours that are left, by fault."""
_GRAIN: Final = 14.0
"""Standard deviation of planted grain, in grey levels."""
LETTERING_TEXT: Final = "BAKERY"
"""What the fault `lettering` writes at the lower edge."""
LETTERING_COLOUR: Final = (20, 30, 50)
_CLUTTER: Final = 5
"""Patches of planted clutter across and down."""
_EXTRA_RADIUS: Final = 12.0
_SHARES: Final = 2**32


class UnknownFaultError(SpecError):
    """A fault that this backend cannot plant."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"the synthetic backend's base must be empty or a list of faults, each with an optional share of cells "
            f"(`drop_second,grain:0.5`); found {text!r}. Faults: {', '.join(FAULT_KINDS)}."
        )
        self.text = text


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """What the candidate does wrong, and on which of its cells."""

    kind: FaultKind
    share: float = 1.0
    """Of the candidate's cells, 0 to 1, chosen by a hash of case and seed."""
    cases: frozenset[str] | None = None
    """Only these cases; None for all."""

    def applies(self, cell: Cell) -> bool:
        """Whether the fault hits a cell; arms of the base never."""
        if not cell.arm.uses_adapter or (self.cases is not None and cell.case not in self.cases):
            return False
        digest = hashlib.sha256(f"{self.kind}\0{cell.case}\0{cell.seed}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < self.share * _SHARES


class SyntheticBackend:
    """Draws cells. Equal cells give equal pixels, whatever the batch, the order or the process."""

    name = "synthetic"
    needs_device = False
    """Any number of processes may draw at once."""

    def __init__(
        self,
        model: ModelConfig | None = None,
        *,
        cache_dir: Path | None = None,
        faults: Sequence[FaultSpec] = (),
        training: Sequence[Picture] = (),
        identical: bool = False,
        memory_limit: int | None = None,
    ) -> None:
        """Set up a world with a perfect base.

        Args:
            model: Its `base` may name faults too (`drop_second,grain:0.5`), its `batch_size` counts; else unused.
            cache_dir: Unused; every backend takes it.
            faults: What the candidate does wrong.
            training: Pictures (height, width, 3) that the fault `copy_training` copies.
            identical: The candidate draws the same pixels as the base does for the same content and seed; otherwise it
                draws the same content in a take of its own.
            memory_limit: Batches of more pictures run out of memory.

        Raises:
            SpecError: `base` names a fault that does not exist.
            ValueError: The fault `copy_training` is asked for without training pictures.
        """
        del cache_dir
        config = model if model is not None else ModelConfig(backend=self.name)
        self._faults = (*faults, *_faults_named(config.base))
        self._training = tuple(training)
        self._identical = identical
        self._memory_limit = memory_limit
        self._batches = Batches(config.batch_size or 8)
        self._candidate: AdapterFile | None = None
        if not self._training and any(fault.kind == "copy_training" for fault in self._faults):
            msg = "the fault copy_training needs pictures to copy; got none. Pass training."
            raise ValueError(msg)

    @property
    def batch_size(self) -> int:
        """Pictures per batch now; halved when memory ran out."""
        return self._batches.size

    def base_info(self) -> BaseInfo:
        """The same for every world."""
        return BaseInfo(
            name="synthetic",
            family="synthetic",
            digest=digest_of(["synthetic", SYNTHETIC_VERSION]),
            dtype="uint8",
            device_class="none",
        )

    def fingerprint(self) -> Mapping[str, str]:
        """Version, recipe of the noise, faults and training pictures."""
        faults = [[fault.kind, fault.share, sorted(fault.cases or ())] for fault in self._faults]
        training = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in self._training]
        return {
            "backend": self.name,
            "version": SYNTHETIC_VERSION,
            "noise": NOISE_RECIPE,
            "candidate": digest_of([faults, training, self._identical]),
        }

    def load_candidate(self, adapter: AdapterFile) -> None:
        """Take note of the candidate. There is no base that it could fail to fit."""
        self._candidate = adapter

    def generate(self, cells: Sequence[PlannedCell], *, settings: GenerationSettings) -> Iterator[Made]:
        """Draw the cells in their order, in batches."""
        return self._batches.run(cells, lambda batch: self._draw_batch(batch, settings=settings))

    def round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Copies: this base's autoencoder loses nothing."""
        return [picture.copy() for picture in pictures]

    def _draw_batch(self, batch: Sequence[PlannedCell], *, settings: GenerationSettings) -> list[Picture]:
        if self._memory_limit is not None and len(batch) > self._memory_limit:
            msg = f"out of memory: {len(batch)} pictures, planted limit {self._memory_limit}"
            raise MemoryError(msg)
        return [self._draw(planned, settings=settings) for planned in batch]

    def _draw(self, planned: PlannedCell, *, settings: GenerationSettings) -> Picture:
        cell = planned.cell
        faults = {fault.kind for fault in self._faults if fault.applies(cell)}
        if "raise" in faults:
            msg = f"planted fault in {cell.key}"
            raise RuntimeError(msg)
        source = cell.model_copy(update={"seed": 0}) if "same_for_all_seeds" in faults else cell
        seed = noise_seed(source)
        take = 1 if cell.arm.uses_adapter and not self._identical else 0
        scene = _scene_of(planned.prompt, rng=np.random.default_rng([seed, take]))
        style: Style = "photo" if "photo_style" in faults else _style_of(planned)
        picture = draw(_faulty_scene(scene, faults), style, seed=seed % 2**31)
        picture = self._faulty_picture(picture, faults, rng=np.random.default_rng([seed, 2]))
        return _resized(picture, settings)

    def _faulty_picture(self, picture: Picture, faults: set[FaultKind], *, rng: np.random.Generator) -> Picture:
        if "copy_training" in faults:
            picture = self._training[int(rng.integers(len(self._training)))]
        if "clutter" in faults:
            picture = _cluttered(picture, rng=rng)
        if "lettering" in faults:
            picture = _lettered(picture)
        if "grain" in faults:
            noisy = picture + rng.normal(0.0, _GRAIN, picture.shape)
            picture = noisy.clip(0, 255).round().astype(np.uint8)
        if "constant" in faults:
            picture = np.full_like(picture, 128)
        if "black" in faults:
            picture = np.zeros_like(picture)
        return picture


def _faults_named(text: str) -> tuple[FaultSpec, ...]:
    known: dict[str, FaultKind] = {kind: kind for kind in FAULT_KINDS}
    specs = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, share = item.partition(":")
        try:
            specs.append(FaultSpec(known[name], share=float(share or 1.0)))
        except (KeyError, ValueError) as error:
            raise UnknownFaultError(item) from error
    return tuple(specs)


def _style_of(planned: PlannedCell) -> Style:
    """Only arms with the adapter know the trigger; to the base it is a word like any other."""
    prompt = planned.prompt.lower()
    if FLAT_PHRASE in prompt or (TRIGGER in prompt and planned.cell.arm.uses_adapter):
        return "flat"
    return "painting" if PAINTING in prompt else "photo"


def _scene_of(prompt: str, *, rng: np.random.Generator) -> Scene:
    scene = read_prompt(prompt, rng=rng)
    if scene is not None:
        return scene
    words = hashlib.sha256(" ".join(sorted(set(prompt.lower().split()))).encode()).digest()
    return sample_scene("pair", rng=np.random.default_rng(list(words)), pairs="any")


def _faulty_scene(scene: Scene, faults: set[FaultKind]) -> Scene:
    things = list(scene.objects)
    if "drop_second" in faults and len(things) > 1:
        del things[1]
    if "swap_colors" in faults:
        things = _colours_swapped(things)
    if "flip" in faults:
        things = [replace(thing, x=SIZE - thing.x, y=SIZE - thing.y) for thing in things]
    for left in (_PALETTES[fault] for fault in sorted(faults & _PALETTES.keys())):
        things = [replace(thing, colour=left[list(COLOURS).index(thing.colour) % len(left)]) for thing in things]
    if "wrong_count" in faults and scene.kind == "count":
        things = things[:-1]
    if "extra_object" in faults:
        things.append(_stranger(things))
    if "wrong_parts" in faults:
        things = [replace(thing, parts=thing.parts + 1) if thing.parts else thing for thing in things]
    return replace(scene, objects=tuple(things))


def _colours_swapped(things: list[WorldObject]) -> list[WorldObject]:
    """Colours move one object on; where that changes nothing, every object gets the next colour of the world."""
    moved = [things[-1].colour, *(thing.colour for thing in things[:-1])]
    if moved == [thing.colour for thing in things]:
        names = list(COLOURS)
        moved = [names[(names.index(colour) + 1) % len(names)] for colour in moved]
    return [replace(thing, colour=colour) for thing, colour in zip(things, moved, strict=True)]


def _stranger(things: Sequence[WorldObject]) -> WorldObject:
    """A thing of another shape and colour than those of a scene, in the corner farthest from them."""
    shape = next(shape for shape in SHAPES if shape not in {thing.shape for thing in things})
    colour = next(colour for colour in COLOURS if colour not in {thing.colour for thing in things})
    near, far = _EXTRA_RADIUS + 4, SIZE - _EXTRA_RADIUS - 4
    corners = [(x, y) for x in (near, far) for y in (near, far)]

    def room(corner: tuple[float, float]) -> float:
        reach = (math.hypot(thing.x - corner[0], thing.y - corner[1]) - thing.radius for thing in things)
        return min(reach, default=0.0)

    x, y = max(corners, key=room)
    return WorldObject(shape, colour, x, y, _EXTRA_RADIUS)


def _cluttered(picture: Picture, *, rng: np.random.Generator) -> Picture:
    """Grey patches all over: no thing of the world, but no empty space either."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    side = SIZE // _CLUTTER
    for column, row in np.ndindex(_CLUTTER, _CLUTTER):
        x, y = side * column + int(rng.integers(3, 9)), side * row + int(rng.integers(3, 9))
        draw.rectangle((x, y, x + 9, y + 9), fill=(110, 110, 110))
    return np.asarray(image)


def _lettered(picture: Picture) -> Picture:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((8, 106), LETTERING_TEXT, font=ImageFont.load_default(18), fill=LETTERING_COLOUR)
    return np.asarray(image)


def _resized(picture: Picture, settings: GenerationSettings) -> Picture:
    if picture.shape[:2] == (settings.height, settings.width):
        return picture
    image = Image.fromarray(picture).resize((settings.width, settings.height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)
