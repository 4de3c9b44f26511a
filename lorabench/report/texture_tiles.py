"""Where in a picture its grain sits: the noise of its smooth zones tile by tile, as a small picture and in numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as PillowImage

from lorabench.metrics.color import luma
from lorabench.metrics.texture import ROUNDING_SIGMA, noise_response, smooth_sigma
from lorabench.records.comparison import Outcome
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.notation import number
from lorabench.report.thumbnails import PictureSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID: Final = 8
"""Tiles along each edge, where the picture is large enough for them."""
LEAST_TILE: Final = 16
"""Edge of the smallest tile, in pixels: less has too few smooth pixels to read noise from."""
LEAST_GRID: Final = 2
N_CASES: Final = 12
"""Cases with maps: those whose grain rose most."""
N_SEEDS: Final = 2
"""Seeds of such a case that are read: those a card shows at once."""
LEAST_TOP: Final = 1.0
"""The scale of a page ends no lower, in grey levels: noise below it is hard to see."""
VISIBLE: Final = {"smooth_zone_sigma": ROUNDING_SIGMA, "tile_sigma": math.log(1.5)}
"""What selects the cases, each from where on it can be seen: grain in the whole picture, beyond the rounding of 8-bit
pictures; grain in its noisiest tile, half as much again as in its median tile."""
GATED: Final = ("photo_bleed", "smooth_zone_sigma", "tile_sigma", "photo_probability")
"""Metrics whose failed gates bring maps of whatever rose."""
RAMP: Final = (
    (0.0, (6, 8, 28)),
    (0.2, (58, 18, 94)),
    (0.4, (140, 34, 104)),
    (0.6, (212, 70, 68)),
    (0.8, (248, 142, 34)),
    (1.0, (252, 244, 164)),
)
"""Colours of the map: place on the scale, RGB. Lightness rises all along, so it is read without colour too."""


@dataclass(frozen=True, slots=True)
class TileMap:
    """Noise in the smooth zones of each tile of one picture, in grey levels."""

    rows: tuple[tuple[float, ...], ...]
    top: float
    """Where the page's scale ends."""

    @property
    def typical(self) -> float:
        """The median tile."""
        return float(np.median(self.rows))

    @property
    def hottest(self) -> float:
        """The noisiest tile."""
        return max(max(row) for row in self.rows)

    @property
    def place(self) -> str:
        """Where the noisiest tile lies, in words."""
        row, column = np.unravel_index(int(np.argmax(self.rows)), np.shape(self.rows))
        return f"row {row + 1}, column {column + 1} of {len(self.rows[0])}"

    @property
    def words(self) -> str:
        """The map in one sentence."""
        return (
            f"Grain by tile: median {number(self.typical)} grey levels, "
            f"most {number(self.hottest)} in {self.place}"
        )  # fmt: skip

    @property
    def content(self) -> bytes:
        """The map as a WebP file with one pixel per tile."""
        return tile_webp(self.rows, top=self.top)


@dataclass(frozen=True, slots=True)
class TextureMaps:
    """All maps of a page, on one scale."""

    by_cell: Mapping[str, TileMap]
    """Cell key to its map."""
    cases: frozenset[str]
    top: float

    @property
    def legend(self) -> bytes:
        """The scale itself, dark to light, as a WebP file of one row."""
        return tile_webp(([self.top * (index / 31) ** 2 for index in range(32)],), top=self.top)


def tile_sigmas(picture: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Smooth-zone sigma of each tile of a picture.

    Args:
        picture: uint8 (h, w, 3), RGB.

    Returns:
        Grey levels, (g, g) with g = 8 or as many tiles of 16 px as the shorter edge holds; None with less than two.
    """
    grid = min(GRID, min(picture.shape[:2]) // LEAST_TILE)
    if grid < LEAST_GRID:
        return None
    gradients, responses = (_tiles(values, grid) for values in noise_response(luma(picture)))
    return np.array([smooth_sigma(*tile) for tile in zip(gradients, responses, strict=True)]).reshape(grid, grid)


def _tiles(values: NDArray[np.float64], grid: int) -> list[NDArray[np.float64]]:
    """A grid of tiles, row by row."""
    return [tile for row in np.array_split(values, grid, axis=0) for tile in np.array_split(row, grid, axis=1)]


def tile_webp(rows: Sequence[Sequence[float]], *, top: float) -> bytes:
    """Draw a map, a pixel per tile: dark without noise, lightest from `top` on; the root of the share between.

    Args:
        rows: Grey levels, (g, g).
        top: Where the scale ends, positive.
    """
    share = np.sqrt(np.clip(np.asarray(rows, dtype=np.float64) / top, 0.0, 1.0))
    places = [place for place, _ in RAMP]
    channels = [np.interp(share, places, [color[channel] for _, color in RAMP]) for channel in range(3)]
    buffer = io.BytesIO()
    PillowImage.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def texture_maps(reader: CaseReader, cases: Iterable[CaseView], *, picture: PictureSource) -> TextureMaps:
    """Read the maps of the cases whose grain rose most, candidate and control.

    Args:
        reader: Of the run.
        cases: The cases on the page.
        picture: Where pictures come from.
    """
    failed = any(gate.outcome is Outcome.FAIL and gate.metric in GATED for gate in reader.results.gates)
    judged = -1 if reader.main is None else reader.columns.index(reader.main)
    chosen = grainiest(cases, column=judged, however_little=failed)
    found = {}
    for view in chosen:
        for seed in view.seeds[:N_SEEDS]:
            for one in seed.pictures:
                if one.image is not None and one.column in (reader.main, reader.control):
                    pixels = picture(one.image.sha256)
                    tiles = None if pixels is None else tile_sigmas(pixels)
                    if tiles is not None:
                        found[one.image.cell.key] = tiles
    top = max([LEAST_TOP, *(math.ceil(2 * float(tiles.max())) / 2 for tiles in found.values())])
    maps = {key: TileMap(tuple(tuple(map(float, row)) for row in tiles), top) for key, tiles in found.items()}
    return TextureMaps(maps, frozenset(view.case.id for view in chosen), top)


def grainiest(cases: Iterable[CaseView], *, column: int, however_little: bool = False) -> list[CaseView]:
    """Cases whose grain, or whose noisiest tile, rose against the control: by turns the worst of either.

    Args:
        cases: To choose from.
        column: Place of the candidate among the columns.
        however_little: Also those whose candidate shows no more grain than anybody can see.

    Returns:
        At most twelve.
    """
    rising: dict[str, list[tuple[float, CaseView]]] = {name: [] for name in VISIBLE}
    for view in cases:
        for row in view.metrics:
            visible = VISIBLE.get(row.metric.name, math.inf)
            seen = however_little or (row.means[column] or 0.0) >= visible
            if visible < math.inf and seen and row.difference is not None and row.difference > 0:
                rising[row.metric.name].append((row.difference, view))
    queues = [[view for _, view in sorted(found, key=lambda pair: -pair[0])] for found in rising.values()]
    turns = [view for place in range(max(map(len, queues))) for queue in queues for view in queue[place : place + 1]]
    return list({view.case.id: view for view in turns}.values())[:N_CASES]
