"""`baseline`: numbers that a person accepted. A run only reads them."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import ConfigFile, load_settings
from lorabench.cli.reporting import RunArgument, read_judged
from lorabench.cli.verdicts import pictures_of
from lorabench.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from lorabench.records.baseline import Baseline
    from lorabench.records.results import Results
    from lorabench.storage.baselines import BaselineStore

app = typer.Typer(
    help="Accepted numbers, kept under version control; changed by `accept` only.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the baseline.")]
Folder = Annotated[
    Path | None, typer.Option("--baselines-dir", metavar="FOLDER", help="Instead of that of the settings.")
]
Reason = Annotated[str, typer.Option(help="Why, for whoever reads the history.")]
By = Annotated[str | None, typer.Option("--by", help="Who accepts; else the user's name.")]
AllowFailed = Annotated[bool, typer.Option("--allow-failed", help="Accept although a gate failed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class BaselineNameError(SpecError):
    """A name that no baseline can have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"a baseline's name must match {NAME.pattern}, and may end in @NUMBER for reading; found {name!r}."
        )
        self.name = name


class BaselineExistsError(SpecError):
    """`save` on a name that is taken."""

    def __init__(self, name: str, run: Path) -> None:
        super().__init__(
            f"`baseline save` makes a first baseline; {name!r} exists. Look at `lorabench baseline diff {name} {run}`, "
            f"then replace it with `lorabench baseline accept {name} {run}`."
        )
        self.name = name


class NoReasonError(SpecError):
    """Nobody says why."""

    def __init__(self) -> None:
        super().__init__(
            "an accepted baseline must say why; found neither --reason nor a comment on the run in --from. "
            'Give --reason "...".'
        )


class UnconfirmedError(SpecError):
    """A question that nobody can answer."""

    def __init__(self) -> None:
        super().__init__("deleting must be confirmed; stdin is no terminal. Say --yes if you mean it.")


@app.command("save")
def save(
    name: Name,
    run: RunArgument,
    *,
    reason: Reason = "first baseline",
    by: By = None,
    allow_failed: AllowFailed = False,
    folder: Folder = None,
    config_file: ConfigFile = None,
) -> None:
    """Make a complete run the first baseline of a name."""
    store = _store(folder, config_file)
    if _checked(name) in store.names():
        raise BaselineExistsError(name, run)
    _accept(store, name, run, reason=reason, by=by, allow_failed=allow_failed)


@app.command("accept")
def accept(
    name: Name,
    run: RunArgument,
    *,
    reason: Annotated[
        str | None, typer.Option(help="Why, for whoever reads the history; with --from, else the reviewer's comment.")
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="decisions.json of the run's report; checked against the run."),
    ] = None,
    by: By = None,
    allow_failed: AllowFailed = False,
    folder: Folder = None,
    config_file: ConfigFile = None,
) -> None:
    """Replace a baseline by a complete run. Refused in CI, and after a partial or failed run."""
    said = "" if decisions is None else _reviewed(decisions, run)
    why = reason or said
    if not why:
        raise NoReasonError
    _accept(_store(folder, config_file), _checked(name), run, reason=why, by=by, allow_failed=allow_failed)


def _reviewed(decisions: Path, run: Path) -> str:
    """The reviewer's comment, once the decisions were found to accept this very run."""
    from lorabench.storage.decisions import check_accepted, read_decisions

    read = read_decisions(decisions)
    check_accepted(read, read_judged(run).results)
    return read.comment.strip()


@app.command("list")
def list_all(folder: Folder = None, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """All baselines."""
    store = _store(folder, config_file)
    found = [store.read(name) for name in store.names()]
    if as_json:
        output.json_data([_facts(baseline) for baseline in found])
        return
    rows = [
        [f"{one.name}@{one.number}", one.suite, one.candidate.name, one.accepted_at, one.accepted_by, one.reason]
        for one in found
    ]
    output.table(["Baseline", "Suite", "Candidate", "Accepted", "By", "Reason"], rows)


@app.command("show")
def show(name: Name, folder: Folder = None, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """One baseline: NAME, or NAME@NUMBER for an earlier one."""
    store = _store(folder, config_file)
    baseline = _read(store, name)
    if as_json:
        output.json_data(baseline.model_dump(mode="json"))
        return
    facts = {**_facts(baseline), "numbers": ", ".join(str(number) for number in store.numbers(baseline.name))}
    output.table(["", ""], [[key, str(value)] for key, value in facts.items()])
    rows = [[metric, str(baseline.metrics.get(metric, "")), f"{fmean(values.values()):.4f}", str(len(values))]
            for metric, values in _by_metric(baseline).items()]  # fmt: skip
    output.table(["Metric", "Version", "Mean", "Pictures"], rows)


@app.command("diff")
def diff(
    name: Name, run: RunArgument, folder: Folder = None, config_file: ConfigFile = None, as_json: AsJson = False
) -> None:
    """What accepting a run would change. Decides nothing; `lorabench run --baseline NAME` does."""
    baseline = _read(_store(folder, config_file), name)
    results = read_judged(run).results
    changes, conditions = _changes(baseline, results), _conditions(baseline, results)
    if as_json:
        output.json_data(
            {
                "baseline": f"{baseline.name}@{baseline.number}",
                "run": results.run_id,
                "obstacles": conditions,
                "metrics": changes,
            }
        )
        return
    for text in conditions:
        output.message(f"! {text}")
    rows = [
        [one["metric"], *(_number(one[key]) for key in ("baseline", "run", "change")), str(one["n_pairs"]), one["note"]]
        for one in changes
    ]
    output.table(["Metric", "Baseline", "Run", "Change", "Pairs", "Note"], rows)


@app.command("restore")
def restore(
    name: Name,
    number: Annotated[int, typer.Argument(min=1, help="Number of the acceptance, see `baseline show`.")],
    folder: Folder = None,
    config_file: ConfigFile = None,
) -> None:
    """Make an earlier acceptance the current one again."""
    restored = _store(folder, config_file).restore(_checked(name), number, environ=os.environ)
    output.data(f"{restored.name} is number {restored.number} again ({restored.run_id}).")


@app.command("prune")
def prune(
    folder: Folder = None,
    config_file: ConfigFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete accepted pictures that neither a baseline nor its history names any more."""
    unused = _store(folder, config_file).unused_blobs()
    for path in unused:
        output.message(str(path))
    if unused and not yes:
        if not sys.stdin.isatty():
            raise UnconfirmedError
        if not typer.confirm(f"Delete {len(unused)} pictures?", err=True):
            unused = []
    for path in unused:
        path.unlink()
    output.data(f"{len(unused)} pictures deleted.")


@app.command("verify")
def verify(folder: Folder = None, config_file: ConfigFile = None) -> None:
    """Check that every baseline can be read and its pictures are there, unaltered."""
    store = _store(folder, config_file)
    problems = store.verify()
    for problem in problems:
        output.data(problem)
    if problems:
        raise typer.Exit(ExitCode.NOT_MEASURED)
    output.data(f"{len(store.names())} baselines, all sound.")


def _store(folder: Path | None, config_file: Path | None) -> BaselineStore:
    from lorabench.storage.baselines import BaselineStore

    config, _ = load_settings({"baselines_dir": folder}, config_file=config_file, assignments=None)
    return BaselineStore(config.baselines_dir)


def _accept(store: BaselineStore, name: str, run: Path, *, reason: str, by: str | None, allow_failed: bool) -> None:
    judged = read_judged(run)
    accepted = store.accept(
        judged.results,
        name=name,
        reason=reason,
        accepted_by=by or _user(),
        picture=pictures_of(judged.results_path.parent),
        environ=os.environ,
        allow_failed=allow_failed,
    )
    output.data(f"{accepted.name}@{accepted.number}: {accepted.run_id}. Commit {store.folder / accepted.name}.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        msg = "a baseline names who accepted it; the system knows no user name. Say --by NAME."
        raise SpecError(msg) from None


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise BaselineNameError(name)
    return name


def _read(store: BaselineStore, name: str) -> Baseline:
    plain, at, number = name.partition("@")
    if at and not number.isdecimal():
        raise BaselineNameError(name)
    return store.read(_checked(plain), int(number) if at else None)


def _facts(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": baseline.name,
        "number": baseline.number,
        "suite": baseline.suite,
        "base": baseline.base.name,
        "candidate": baseline.candidate.name,
        "scale": baseline.scale,
        "run": baseline.run_id,
        "accepted_at": baseline.accepted_at,
        "accepted_by": baseline.accepted_by,
        "reason": baseline.reason,
    }


def _by_metric(baseline: Baseline) -> dict[str, dict[tuple[str, str], float]]:
    values: dict[str, dict[tuple[str, str], float]] = {}
    for case, by_seed in baseline.scores.items():
        for seed, scores in by_seed.items():
            for metric, value in scores.items():
                values.setdefault(metric, {})[case, seed] = value
    return values


def _candidate_values(results: Results) -> dict[str, dict[tuple[str, str], float]]:
    values: dict[str, dict[tuple[str, str], float]] = {}
    for item in results.measurements:
        if item.cell.arm == "L1":
            values.setdefault(item.metric, {})[item.cell.case, str(item.cell.seed)] = item.value
    return values


def _changes(baseline: Baseline, results: Results) -> list[dict[str, Any]]:
    """Means over the pairs that both sides have, by metric."""
    before, after = _by_metric(baseline), _candidate_values(results)
    versions = {metric.name: metric.version for metric in results.metrics}
    return [
        _change(
            metric,
            before.get(metric, {}),
            after.get(metric, {}),
            versions=(baseline.metrics.get(metric), versions.get(metric)),
        )
        for metric in dict.fromkeys((*before, *after))
    ]


def _change(
    metric: str,
    before: Mapping[tuple[str, str], float],
    after: Mapping[tuple[str, str], float],
    *,
    versions: tuple[int | None, int | None],
) -> dict[str, Any]:
    pairs = [key for key in before if key in after]
    note = ""
    if not before or not after:
        note = "only in the run" if after else "only in the baseline"
    elif versions[0] != versions[1]:
        note = f"versions differ: {versions[0]} and {versions[1]}"
        pairs = []
    elif len(pairs) < max(len(before), len(after)):
        note = f"{len(before)} pictures in the baseline, {len(after)} in the run"
    means = (fmean(before[key] for key in pairs), fmean(after[key] for key in pairs)) if pairs else (None, None)
    change = None if means[0] is None or means[1] is None else means[1] - means[0]
    return {
        "metric": metric,
        "baseline": means[0],
        "run": means[1],
        "change": change,
        "n_pairs": len(pairs),
        "note": note,
    }


def _conditions(baseline: Baseline, results: Results) -> list[str]:
    """Why the numbers cannot be compared, if they cannot."""
    from lorabench.errors import MeasurementError
    from lorabench.evaluation.baseline_gates import check_comparable

    try:
        check_comparable(baseline, suite=results.suite, base=results.base, settings=results.settings)
    except MeasurementError as error:
        return [str(error)]
    return []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
