"""`audit`: what is true of a folder of training pictures and captions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.options import Assignments, Captions, ConfigFile, load_settings
from lorabench.errors import MeasurementError

if TYPE_CHECKING:
    from lorabench.dataset.auditing import Senses
    from lorabench.records.audit import Audit
    from lorabench.records.config import Config


def audit(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Training pictures, with their captions.")],
    *,
    trigger: Annotated[
        str | None, typer.Option("--trigger", metavar="PHRASE", help="Phrase that calls the style; else the settings'.")
    ] = None,
    captions: Captions = None,
    size: Annotated[
        int | None, typer.Option("--size", min=16, metavar="PIXELS", help="Edge that is trained at.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the audit as JSON, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Say what is true of training pictures and captions: repeats, compositions, colours, captions, traces of files."""
    config, _ = load_settings({"style.trigger": trigger}, config_file=config_file, assignments=assignments)
    found = make_audit(folder, config, captions=captions, training_size=size)
    if to is not None:
        from lorabench.storage.diagnosis_files import write_audit

        write_audit(found, to)
        output.message(f"audit: {to}")
    if as_json:
        output.json_data(found.model_dump(mode="json"))
        return
    from lorabench.report.audit_text import render_audit

    output.show(render_audit(found))


def make_audit(
    folder: Path, config: Config, *, captions: Path | None = None, training_size: int | None = None
) -> Audit:
    """Audit a folder with the judges that the settings name and that are there."""
    from lorabench.dataset.auditing import audit as audited

    with output.stdout_for_data():
        return audited(
            folder,
            captions=captions,
            trigger=config.style.trigger or None,
            training_size=training_size,
            senses=senses_of(config),
        )


def senses_of(config: Config) -> Senses:
    """The judges of an audit; one that nobody named may be missing."""
    from lorabench.dataset.auditing import Senses
    from lorabench.registry import JUDGES

    judges, absent = config.judges, {}
    lpips = reader = detector = None
    try:
        lpips = JUDGES.load("lpips")(judges.lpips_net, weights=judges.lpips_weights, device=judges.device)
    except (MeasurementError, ImportError) as error:
        if judges.lpips_weights is not None:
            raise
        absent["lpips"] = str(error)
    if judges.ocr not in ("", "off"):
        reader = JUDGES.load(judges.ocr)()
    else:
        absent["reader"] = "no text reader is named ([judges] ocr)."
    if judges.detector == "oracle":
        detector = JUDGES.load("oracle")()
    else:
        absent["detector"] = "no detector that counts parts is named ([judges] detector)."
    return Senses(lpips=lpips, reader=reader, detector=detector, absent=absent)
