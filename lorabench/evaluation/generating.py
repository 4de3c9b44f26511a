"""Plan → Images: take from the cache what is there, make the rest, keep each batch as soon as it exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorabench.evaluation.observer import Observer
from lorabench.generation.cache_key import key_material, picture_key
from lorabench.records.images import FailedCell, Image, Images
from lorabench.records.plan import Cell, Plan, PlannedCell
from lorabench.storage.pictures import pixel_digest

if TYPE_CHECKING:
    from lorabench.generation.adapter import AdapterFile
    from lorabench.generation.protocol import Backend, Made, Picture
    from lorabench.storage.pictures import PictureCache

STAGE = "generating"


def generate(
    plan: Plan,
    *,
    backend: Backend,
    cache: PictureCache,
    adapter: AdapterFile | None,
    observer: Observer,
    cache_only: bool = False,
) -> Images:
    """Make the pictures of a plan, or find them in the cache.

    A picture goes into the cache the moment its batch is done: whatever ends the process, the next call with the
    same plan goes on where this one stopped. Cells that share everything (an arm's cells with the same prompt, seed
    and adapter state) share one picture. The candidate is attached only if one of its pictures is missing.

    Args:
        plan: The cells.
        backend: Makes pictures.
        cache: Keeps pictures under the digest of all that made them.
        adapter: The candidate; may be None where no cell uses one.
        observer: Hears of each finished cell.
        cache_only: Make nothing; what is not in the cache counts as failed.

    Returns:
        Images and failed cells; every planned cell is in exactly one of the two.

    Raises:
        MeasurementError: The candidate does not fit the base, or the cache cannot be written.
    """
    fingerprint = dict(backend.fingerprint())
    digest = adapter.info.digest if adapter is not None else None
    keys = {
        planned.cell: picture_key(planned, settings=plan.settings, fingerprint=fingerprint, adapter_digest=digest)
        for planned in plan.cells
    }
    found = _from_cache(plan, keys=keys, cache=cache)
    missing = _one_per_key([planned for planned in plan.cells if planned.cell not in found], keys)
    if cache_only:
        missing = []
    made: dict[str, Made] = {}
    sharing = Counter(key for cell, key in keys.items() if cell not in found)
    with observer.stage(STAGE, len(plan.cells)):
        observer.advanced(STAGE, len(found))
        if any(planned.cell.arm.uses_adapter for planned in missing) and adapter is not None:
            backend.load_candidate(adapter)
        for result in backend.generate(missing, settings=plan.settings) if missing else ():
            key = keys[result.planned.cell]
            if result.picture is not None:
                material = key_material(
                    result.planned, settings=plan.settings, fingerprint=fingerprint, adapter_digest=digest
                )
                cache.put(key, result.picture, material=material, broken=result.broken)
            made[key] = result
            observer.advanced(STAGE, sharing[key])
    reason = "not in the cache" if cache_only else "the backend returned nothing for this cell"
    return _collect(plan, keys=keys, found=found, made=made, otherwise=reason)


def _from_cache(plan: Plan, *, keys: Mapping[Cell, str], cache: PictureCache) -> dict[Cell, Image]:
    found = {}
    for planned in plan.cells:
        stored = cache.get(keys[planned.cell])
        if stored is not None:
            found[planned.cell] = _image(
                planned.cell, keys[planned.cell], stored.picture, sha256=stored.sha256, from_cache=True
            ).model_copy(update={"broken": stored.broken})
    return found


def _one_per_key(missing: list[PlannedCell], keys: Mapping[Cell, str]) -> list[PlannedCell]:
    first: dict[str, PlannedCell] = {}
    for planned in missing:
        first.setdefault(keys[planned.cell], planned)
    return list(first.values())


def _collect(
    plan: Plan,
    *,
    keys: Mapping[Cell, str],
    found: Mapping[Cell, Image],
    made: Mapping[str, Made],
    otherwise: str,
) -> Images:
    images, failed = [], []
    for planned in plan.cells:
        cell = planned.cell
        if cell in found:
            images.append(found[cell])
            continue
        result = made.get(keys[cell])
        if result is None or result.picture is None:
            reason = otherwise if result is None else str(result.failure)
            failed.append(FailedCell(cell=cell, reason=reason))
            continue
        digest = pixel_digest(result.picture)
        image = _image(cell, keys[cell], result.picture, sha256=digest, seconds=result.seconds)
        images.append(image.model_copy(update={"broken": result.broken}))
    return Images(made=tuple(images), failed=tuple(failed))


def _image(
    cell: Cell, key: str, picture: Picture, *, sha256: str, from_cache: bool = False, seconds: float = 0.0
) -> Image:
    return Image(
        cell=cell,
        sha256=sha256,
        cache_key=key,
        height=picture.shape[0],
        width=picture.shape[1],
        from_cache=from_cache,
        generation_seconds=seconds,
    )
