"""`cache`: pictures and features, which may be deleted at any time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import Assignments, CacheFolder, ConfigFile, load_settings
from lorabench.cli.reporting import read_judged
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.records.config import Config
    from lorabench.records.plan import PlannedCell
    from lorabench.records.results import Results
    from lorabench.storage.arrays import ArrayCache
    from lorabench.storage.pictures import PictureCache

app = typer.Typer(help="The cache of pictures and features.", no_args_is_help=True, rich_markup_mode=None)

KEY = re.compile(r"[0-9a-f]{64}")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class SizeError(SpecError):
    """A size that cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"--max-size must be a size such as 500M or 20G; found {text!r}. Write a number and k, M, G or T."
        )
        self.text = text


class UnknownCellError(SpecError):
    """A cell that a run did not plan."""

    def __init__(self, cell: str, *, run: str, examples: list[str]) -> None:
        super().__init__(
            f"a cell must be planned in its run; {run} has no {cell!r}. Cells look like {', '.join(examples)}."
        )
        self.cell = cell


@app.command("info")
def info(
    cache_dir: CacheFolder = None,
    config_file: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Where the cache is and how much it holds."""
    pictures, arrays = _caches(_folder(cache_dir, config_file))
    found = {"pictures": pictures.info(), "features": arrays.info()}
    if as_json:
        output.json_data(
            {
                name: {"folder": str(one.folder), "entries": one.n_entries, "bytes": one.n_bytes}
                for name, one in found.items()
            }
        )
        return
    rows = [[name, str(one.n_entries), f"{one.n_bytes / 1e6:.1f} MB", str(one.folder)] for name, one in found.items()]
    output.table(["Cache", "Entries", "Size", "Folder"], rows)


@app.command("explain")
def explain(
    run: Annotated[str, typer.Argument(metavar="RUN|KEY", help="Run folder or results.json; or the key of a picture.")],
    cell: Annotated[
        str | None, typer.Argument(metavar="CELL", help="Cell of the run, such as L1/spatial-001/seed7/x1.")
    ] = None,
    cache_dir: CacheFolder = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Say why a picture is in the cache or not, and whether the present settings would find it.

    With a run and a cell, the key is made again from the run's prompt and the present settings; what differs from the
    nearest picture in the cache is named.
    """
    if cell is None and KEY.fullmatch(run):
        _explain_key(run, _caches(_folder(cache_dir, config_file))[0])
        return
    config, _ = load_settings({"cache_dir": cache_dir}, config_file=config_file, assignments=assignments)
    results = read_judged(Path(run)).results
    planned = _planned(results, cell)
    pictures = _caches(config.cache_dir or _default())[0]
    _explain_as_made(results, planned, pictures)
    _explain_now(results, planned, config, pictures)


@app.command("prune")
def prune(
    max_size: Annotated[str, typer.Option(help="Keep at most this much of each of pictures and features: 500M, 20G.")],
    cache_dir: CacheFolder = None,
    config_file: ConfigFile = None,
) -> None:
    """Delete what was not used for longest."""
    most = _bytes(max_size)
    pictures, arrays = _caches(_folder(cache_dir, config_file))
    output.data(f"{pictures.prune(most)} pictures and {arrays.prune(most)} features deleted.")


@app.command("clear")
def clear(cache_dir: CacheFolder = None, config_file: ConfigFile = None) -> None:
    """Delete all pictures and features. Weights and baselines stay."""
    pictures, arrays = _caches(_folder(cache_dir, config_file))
    output.data(f"{pictures.clear()} pictures and {arrays.clear()} features deleted.")


def _folder(cache_dir: Path | None, config_file: Path | None) -> Path:
    config, _ = load_settings({"cache_dir": cache_dir}, config_file=config_file, assignments=None)
    return config.cache_dir or _default()


def _default() -> Path:
    from lorabench.evaluation.engine import default_cache_dir

    return default_cache_dir()


def _caches(folder: Path) -> tuple[PictureCache, ArrayCache]:
    from lorabench.storage.arrays import ArrayCache
    from lorabench.storage.pictures import PictureCache

    return PictureCache(folder / "pictures"), ArrayCache(folder / "features")


def _explain_key(key: str, pictures: PictureCache) -> None:
    if pictures.get(key) is None:
        output.data(f"{key[:12]} is not in the cache {pictures.folder}: never made here, deleted, or damaged.")
        return
    output.data(f"{key[:12]} is in the cache, made of:")
    output.json_data(pictures.material(key))


def _planned(results: Results, cell: str | None) -> PlannedCell:
    """The cell asked for; the first one of the candidate, or of all, where none is."""
    by_key = {planned.cell.key: planned for planned in results.plan}
    if cell is None:
        return next((one for one in results.plan if one.cell.arm.uses_adapter), results.plan[0])
    if cell not in by_key:
        raise UnknownCellError(cell, run=results.run_id, examples=list(by_key)[:3])
    return by_key[cell]


def _explain_as_made(results: Results, planned: PlannedCell, pictures: PictureCache) -> None:
    image = next((image for image in results.images if image.cell == planned.cell), None)
    if image is None:
        reason = next((one.reason for one in results.failed if one.cell == planned.cell), "it was not reached")
        output.data(f"{planned.cell.key}: the run has no picture of it: {reason}")
        return
    how = "found in the cache" if image.from_cache else "made"
    now = "is still there" if pictures.get(image.cache_key) is not None else "is not in this cache now"
    output.data(f"{planned.cell.key}: {how} by the run; its entry {image.cache_key[:12]} {now}.")


def _explain_now(results: Results, planned: PlannedCell, config: Config, pictures: PictureCache) -> None:
    from lorabench.generation.cache_key import key_material, picture_key

    made_of = _made_of(results, config)
    if made_of is None:
        output.data(
            "The present settings name no base: name one (--set model.base=...) to see whether they would find it."
        )
        return
    material = key_material(planned, **made_of)
    output.data(
        f"With the present settings: {pictures.explain(picture_key(planned, **made_of), material=material).sentence()}"
    )


def _made_of(results: Results, config: Config) -> dict[str, Any] | None:
    """What a key is made of besides the cell, by the present settings."""
    from lorabench.generation.adapter import read_adapter
    from lorabench.registry import BACKENDS

    if not config.model.base and config.model.backend == "diffusers":
        return None
    digest = None if results.candidate is None else results.candidate.digest
    if config.candidate.lora:
        digest = read_adapter(Path(config.candidate.lora), alpha=config.candidate.alpha).info.digest
    with output.stdout_for_data():
        backend = BACKENDS.load(config.model.backend)(config.model, cache_dir=config.cache_dir or _default())
        fingerprint = dict(backend.fingerprint())
    return {"settings": config.generation, "fingerprint": fingerprint, "adapter_digest": digest}


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise SizeError(text)
    return int(float(found[1]) * _UNITS[found[2]])
