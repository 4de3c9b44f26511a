"""Accepted numbers, under version control. They change only by `accept`, never in CI, never after a partial run.

Layout of a baselines folder, for a baseline called `style-v3`:

    style-v3/baseline.json            the accepted numbers
    style-v3/history/0002.json        every acceptance, numbered; `restore` brings one back
    blobs/<sha256>.png                accepted pictures, for people
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PngFile
from pydantic import ValidationError

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.baseline import BASELINE_SCHEMA_VERSION, Baseline
from lorabench.records.comparison import Outcome
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.storage.atomic import write_bytes
from lorabench.storage.pictures import pixel_digest, to_png

CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD")


class BaselineMissingError(MeasurementError):
    """No baseline of that name, or none with that number."""

    def __init__(self, name: str, known: list[str], *, number: int | None = None) -> None:
        """`known`: names of baselines, or where a number is asked for, the numbers under that name."""
        wanted = name if number is None else f"{name}@{number}"
        close = difflib.get_close_matches(name, known, n=1) if number is None else []
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."
        remedy = f"Make one from a complete run with `lorabench baseline save {name} RUN`."
        if number is not None and known:
            remedy = f"`lorabench baseline show {name}` lists its numbers."
        super().__init__(f"the baseline must exist; found none called {wanted!r}. {hint} {remedy}")
        self.name, self.known, self.number = name, known, number


class BaselineFileError(MeasurementError):
    """A baseline file cannot be read."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"a baseline must be a baseline.json of schema version {BASELINE_SCHEMA_VERSION}; {path}: {found}. "
            "Bring an older one back with `lorabench baseline restore`, or with your version control."
        )
        self.path = path


class BaselineRefusedError(SpecError):
    """The run must not become a baseline."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"a baseline comes from a complete run that a person accepts; {reason}. {remedy}")
        self.reason = reason


class BaselineStore:
    """The baselines folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"

    def names(self) -> list[str]:
        """Names of the baselines, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("*/baseline.json"))

    def read(self, name: str, number: int | None = None) -> Baseline:
        """The current baseline of that name, or the one with that number.

        Raises:
            BaselineMissingError: There is none.
            BaselineFileError: The file is damaged or of another schema version.
        """
        current = self.folder / name / "baseline.json"
        path = current if number is None else self._history(name, number)
        if not path.is_file():
            known = self.names() if number is None else [str(known) for known in self.numbers(name)]
            raise BaselineMissingError(name, known, number=number)
        return _parse(path)

    def numbers(self, name: str) -> list[int]:
        """Numbers of all acceptances under a name, ascending."""
        return sorted(int(path.stem) for path in (self.folder / name / "history").glob("[0-9]*.json"))

    def accept(
        self,
        results: Results,
        *,
        name: str,
        reason: str,
        accepted_by: str,
        picture: Callable[[str], NDArray[np.uint8] | None],
        environ: Mapping[str, str],
        allow_failed: bool = False,
    ) -> Baseline:
        """Make a run's numbers the baseline.

        Args:
            results: A complete run.
            name: Name of the baseline.
            reason: Why it is accepted, for whoever reads the history.
            accepted_by: Who accepts.
            picture: From pixel digest to picture; those it knows are kept as blobs.
            environ: The process environment; in CI nothing is accepted.
            allow_failed: Accept a run with a failed gate.

        Returns:
            The new baseline as it is on disk, with rounded numbers.

        Raises:
            BaselineRefusedError: CI, a partial run, failed cells, nothing evaluated, no candidate, a failed gate.
        """
        _check_acceptable(results, environ=environ, allow_failed=allow_failed)
        baseline = _from_results(
            results,
            name=name,
            number=max(self.numbers(name), default=0) + 1,
            reason=reason,
            accepted_by=accepted_by,
        )
        for sha256 in _pictures(baseline):
            blob = self.blobs / f"{sha256}.png"
            pixels = None if blob.exists() else picture(sha256)
            if pixels is not None:
                write_bytes(blob, to_png(pixels))
        self._write(baseline)
        return self.read(name)

    def restore(self, name: str, number: int, *, environ: Mapping[str, str]) -> Baseline:
        """Make an earlier acceptance the current one again.

        Raises:
            BaselineMissingError: No such number.
            BaselineRefusedError: In CI.
        """
        _refuse_in_ci(environ)
        baseline = self.read(name, number)
        write_bytes(self.folder / name / "baseline.json", _text(baseline).encode())
        return baseline

    def verify(self) -> list[str]:
        """What is wrong, in baselines and their history: unreadable files, missing or altered pictures."""
        problems: list[str] = []
        for path in self._files():
            try:
                baseline = _parse(path)
            except BaselineFileError as error:
                problems.append(str(error))
                continue
            faults = ((sha, self._fault(sha)) for sha in sorted(_pictures(baseline)))
            problems += [f"{baseline.name}: picture {sha} {fault}" for sha, fault in faults if fault is not None]
        return list(dict.fromkeys(problems))

    def unused_blobs(self) -> list[Path]:
        """Pictures that neither a current baseline nor the history names.

        Raises:
            BaselineFileError: A file is damaged, so that nobody knows which pictures it names.
        """
        used = {sha for path in self._files() for sha in _pictures(_parse(path))}
        return sorted(path for path in self.blobs.glob("*.png") if path.stem not in used)

    def _files(self) -> list[Path]:
        """Current baselines, then the history."""
        return [*sorted(self.folder.glob("*/baseline.json")), *sorted(self.folder.glob("*/history/*.json"))]

    def _fault(self, sha256: str) -> str | None:
        path = self.blobs / f"{sha256}.png"
        if not path.is_file():
            return "is missing"
        try:
            with PngFile.open(path) as image:
                pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError):
            return "cannot be read"
        return None if pixel_digest(pixels) == sha256 else "was altered"

    def _history(self, name: str, number: int) -> Path:
        return self.folder / name / "history" / f"{number:04d}.json"

    def _write(self, baseline: Baseline) -> None:
        write_bytes(self._history(baseline.name, baseline.number), _text(baseline).encode())
        write_bytes(self.folder / baseline.name / "baseline.json", _text(baseline).encode())


def _pictures(baseline: Baseline) -> set[str]:
    return {sha256 for by_seed in baseline.pictures.values() for sha256 in by_seed.values()}


def _text(baseline: Baseline) -> str:
    """Sorted keys, fixed digits, newline at the end: small differences in review."""
    plain = json.loads(baseline.model_dump_json(), parse_float=lambda digits: round(float(digits), 6))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _parse(path: Path) -> Baseline:
    try:
        return Baseline.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        raise BaselineFileError(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except OSError as error:
        raise BaselineFileError(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BaselineFileError(path, f"not UTF-8 text ({error.reason})") from error


def _refuse_in_ci(environ: Mapping[str, str]) -> None:
    variable = next((name for name in CI_VARIABLES if environ.get(name, "").lower() not in ("", "0", "false")), None)
    if variable is not None:
        raise BaselineRefusedError(f"{variable} is set, so this is CI", "Accept on your own machine and commit.")


def _check_acceptable(results: Results, *, environ: Mapping[str, str], allow_failed: bool) -> None:
    _refuse_in_ci(environ)
    if results.candidate is None:
        raise BaselineRefusedError("this run has no candidate", "Run with an adapter.")
    if not results.verdict.complete:
        raise BaselineRefusedError("this run is partial", "Run the whole suite, without a limit.")
    if results.failed:
        raise BaselineRefusedError(f"{len(results.failed)} pictures could not be made", "Run again; it goes on there.")
    if not any(measurement.cell.arm is Arm.CANDIDATE for measurement in results.measurements):
        raise BaselineRefusedError("nothing was measured on the candidate", "Look at the unmeasured list of the run.")
    if results.verdict.outcome is Outcome.FAIL and not allow_failed:
        raise BaselineRefusedError("a gate of this run failed", "Say --allow-failed if the failure is accepted.")


def _from_results(results: Results, *, name: str, number: int, reason: str, accepted_by: str) -> Baseline:
    assert results.candidate is not None  # checked by _check_acceptable
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for measurement in results.measurements:
        cell = measurement.cell
        if cell.arm is Arm.CANDIDATE:
            scores.setdefault(cell.case, {}).setdefault(str(cell.seed), {})[measurement.metric] = measurement.value
    pictures: dict[str, dict[str, str]] = {}
    for image in results.images:
        if image.cell.arm is Arm.CANDIDATE:
            pictures.setdefault(image.cell.case, {})[str(image.cell.seed)] = image.sha256
    return Baseline(
        name=name,
        number=number,
        suite=results.suite.name,
        suite_digest=results.suite.content_digest(),
        base=results.base,
        candidate=results.candidate,
        scale=next(image.cell.scale for image in results.images if image.cell.arm is Arm.CANDIDATE),
        style=results.style,
        settings=results.settings,
        metrics={metric.name: metric.version for metric in results.metrics if metric.level == "cell"},
        scores=scores,
        pictures=pictures,
        run_id=results.run_id,
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        accepted_by=accepted_by,
        reason=reason,
    )
