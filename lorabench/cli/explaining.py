"""`diagnose`: from what is known about a run to its likely causes, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabench.cli import output
from lorabench.cli.auditing import make_audit
from lorabench.cli.options import Assignments, Captions, ConfigFile, load_settings
from lorabench.cli.reporting import RunArgument, read_judged
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.generation.adapter import AdapterFile
    from lorabench.records.adapter_health import Examination
    from lorabench.records.audit import Audit
    from lorabench.records.config import Config
    from lorabench.records.results import Results


class TwoAuditsError(SpecError):
    """An audit, and a folder to audit."""

    def __init__(self) -> None:
        super().__init__("the data must be given once; found both --audit and --dataset. Leave one out.")


def diagnose(
    run: RunArgument,
    *,
    course: Annotated[
        Path | None, typer.Option("--course", metavar="FOLDER", help="Course of the training it comes from.")
    ] = None,
    sweep: Annotated[Path | None, typer.Option("--sweep", metavar="FILE", help="Sweep of the same adapter.")] = None,
    audit: Annotated[Path | None, typer.Option("--audit", metavar="FILE", help="Audit of the training set.")] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", metavar="FOLDER", help="Training pictures, to be audited now.")
    ] = None,
    captions: Captions = None,
    lora: Annotated[
        Path | None, typer.Option("--lora", metavar="FILE", help="The adapter's file, with its trainer's settings.")
    ] = None,
    causes: Annotated[
        Path | None, typer.Option("--causes", metavar="FILE", help="Table of causes of your own, instead of ours.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Put diagnosis.json beside the results.")] = True,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Rank what is likely wrong with a training, from a run and whatever else is given, and say what to do."""
    from lorabench.diagnosis.causes import read_causes
    from lorabench.diagnosis.facts import facts_of
    from lorabench.diagnosis.reasoning import diagnose as diagnosed
    from lorabench.storage.course_folder import read_course
    from lorabench.storage.diagnosis_files import write_diagnosis
    from lorabench.storage.sweep_files import read_sweep
    from lorabench.training.step_times import step_time_finding

    if audit is not None and dataset is not None:
        raise TwoAuditsError
    table = None if causes is None else read_causes(causes)
    judged = read_judged(run)
    config, _ = load_settings({}, config_file=config_file, assignments=assignments, quiet=True)
    file, examination = _file(lora, config)
    told = None if course is None else read_course(course)
    facts = facts_of(
        judged.results,
        course=told,
        step_time=None if told is None else step_time_finding(told),
        sweep=None if sweep is None else read_sweep(sweep),
        audit=_audit(audit, dataset, captions, results=judged.results, config=config),
        adapter=file,
        examination=examination,
    )
    found = diagnosed(facts, causes=table)
    if write:
        output.message(f"diagnosis: {write_diagnosis(found, judged.results_path.parent)}")
    if as_json:
        output.json_data(found.model_dump(mode="json"))
        return
    from lorabench.report.findings_view import render_diagnosis

    output.show(render_diagnosis(found))


def _audit(
    file: Path | None,
    folder: Path | None,
    captions: Path | None,
    *,
    results: Results,
    config: Config,
) -> Audit | None:
    """The audit that was made earlier, or one made now with the trigger of the run."""
    if file is not None:
        from lorabench.storage.diagnosis_files import read_audit

        return read_audit(file)
    if folder is None:
        return None
    style = config.style.model_copy(update={"trigger": results.style.trigger})
    return make_audit(folder, config.model_copy(update={"style": style}), captions=captions)


def _file(lora: Path | None, config: Config) -> tuple[AdapterFile | None, Examination | None]:
    """The adapter's file, as far as it can be read, and its examination beside the base of the settings."""
    if lora is None:
        return None, None
    from lorabench.errors import MeasurementError
    from lorabench.generation.adapter import read_adapter
    from lorabench.generation.adapter_examination import examine_file

    base = Path(config.model.base).expanduser() if config.model.base else None
    alpha = config.candidate.alpha
    examination = examine_file(lora, base=base if base is not None and base.is_dir() else None, alpha=alpha)
    try:
        return read_adapter(lora, alpha=alpha), examination
    except MeasurementError:  # the examination has said why
        return None, examination
