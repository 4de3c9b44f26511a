"""Suite files as collectors, their prompts and gates as items. Imported when the first suite is collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabench.errors import LorabenchError
from lorabench.evaluation.gates import configured_gates
from lorabench.pytest_plugin import failures
from lorabench.pytest_plugin.options import LorabenchWarning
from lorabench.pytest_plugin.runner import Runner, Subject
from lorabench.pytest_plugin.settings import read_captions, resolve_settings, tolerate_missing_baseline
from lorabench.pytest_plugin.stash import GATE, PROMPT, SESSION
from lorabench.records.comparison import Outcome
from lorabench.storage.heldout import HeldOutError, check_held_out
from lorabench.storage.suite_files import LoadedSuite, read_suite

if TYPE_CHECKING:
    import os

    from lorabench.generation.protocol import Backend
    from lorabench.pytest_plugin.options import Candidate, Options
    from lorabench.records.comparison import Verdict
    from lorabench.records.config import Config
    from lorabench.records.results import Results
    from lorabench.records.suite import Case

OFF_REASON = "lorabench is off: give --lorabench (or set lorabench = true) to make pictures and judge gates"
COMPLETE = "complete"
GOLDEN_GATE = "golden"
"""Of suites with golden prompts: all of them hold, whichever were selected."""
BASELINE_GATE = "baseline"
"""Of runs with a baseline: every comparison with it."""


@dataclass(frozen=True, slots=True)
class PromptReference:
    """A prompt that an item is about."""

    subject: Subject
    case: Case


@dataclass(slots=True)
class Declared:
    """What a suite file holds, to be compared with what was selected."""

    node: pytest.File
    names: list[str] = field(default_factory=list)


class SuiteSession:
    """What a pytest session knows about its suites."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self.config, self.options = config, options
        self.runner = Runner(options)
        self.declared: dict[Path, Declared] = {}
        self._loaded: dict[Path, LoadedSuite] = {}
        self._settings: dict[Candidate, Config] = {}

    def settings_of(self, candidate: Candidate) -> Config:
        """The settings of a candidate; notes about them are told once.

        Raises:
            SpecError: A setting is wrong.
        """
        if candidate not in self._settings:
            found = resolve_settings(self.config, self.options, candidate)
            for note in found.notes:
                self.config.issue_config_time_warning(LorabenchWarning(note), stacklevel=2)
            config = tolerate_missing_baseline(found.config, self.options) if self.options.enabled else found.config
            self._settings[candidate] = config
        return self._settings[candidate]

    def load(self, path: Path) -> LoadedSuite:
        """A suite; its prompts are checked against the training captions.

        Raises:
            SpecError: The suite is wrong, or holds a training caption.
            MeasurementError: The training captions cannot be read.
        """
        if path not in self._loaded:
            loaded = read_suite(path)
            if self.options.enabled:
                self._check_held_out(loaded)
            self._loaded[path] = loaded
        return self._loaded[path]

    def subjects(self, path: Path) -> list[Subject]:
        """The suite under each candidate.

        Raises:
            LorabenchError: The suite or the settings are wrong.
        """
        loaded = self.load(path)
        found = [
            Subject(path, loaded.suite, one, self.settings_of(one), loaded.line_of) for one in self.options.candidates
        ]
        for subject in found:
            self.runner.declare(subject)
        return found

    def _check_held_out(self, loaded: LoadedSuite) -> None:
        config = self.settings_of(self.options.candidates[0])
        training = config.training_set
        if training.folder is None:
            return
        captions = read_captions(training.folder, training.captions)
        try:
            check_held_out(loaded.suite, captions, style=config.style, line_of=loaded.line_of)
        except HeldOutError as error:
            places = "\n".join(
                f"  {loaded.path}:{overlap.line}: {overlap.case}: prompt equals the caption of {overlap.training_file}"
                for overlap in error.overlaps
            )
            msg = f"{error}\n{places}"
            raise pytest.Collector.CollectError(msg) from None


def session_of(config: pytest.Config, options: Options) -> SuiteSession:
    """The session's state, made on first use."""
    if SESSION not in config.stash:
        config.stash[SESSION] = SuiteSession(config, options)
    return config.stash[SESSION]


class SuiteFile(pytest.File):
    """A suite file: one item per prompt and candidate, then one per gate."""

    options: Options

    def collect(self) -> Iterator[pytest.Item]:
        """Read the suite and list its items.

        Raises:
            CollectError: The suite or the settings are wrong; the message names file, line and key.
        """
        session = session_of(self.config, self.options)
        declared = session.declared[self.path] = Declared(self)
        try:
            subjects = session.subjects(self.path)
        except LorabenchError as error:
            raise self.CollectError(str(error)) from None
        for subject in subjects:
            declared.names += [_item_name(case.id, subject) for case in subject.suite.cases]
            for case in subject.suite.cases[: subject.config.limit]:
                yield _prompt_item(self, subject, case, session)
        for subject in subjects:
            for gate, metric in _gates(subject):
                name = _item_name(f"gate:{gate}", subject)
                declared.names.append(name)
                yield _gate_item(self, subject, name=name, gate=gate, metric=metric)


class SuiteItem(pytest.Function):
    """A prompt or a gate. Its body runs as a test function does, with fixtures."""

    line: int = 1
    """1-based line in the suite file."""
    label: str = ""
    """Heads a failure. Not the name: pytest would show its dots as colons."""

    def reportinfo(self) -> tuple[os.PathLike[str], int, str]:
        """The prompt's place in the suite file."""
        return self.path, self.line - 1, self.label


class CompletenessItem(pytest.Item):
    """Fails, because items of a suite were not selected."""

    missing: Sequence[str] = ()

    def runtest(self) -> None:
        """Name what is missing."""
        shown = ", ".join(self.missing[:10]) + (f" and {len(self.missing) - 10} more" if len(self.missing) > 10 else "")
        pytest.fail(
            f"every item of a required suite must be selected; {len(self.missing)} of {self.path.name} are not: "
            f"{shown}. Select them, or say --lorabench-allow-partial.",
            pytrace=False,
        )

    def reportinfo(self) -> tuple[os.PathLike[str], int, str]:
        """The suite file."""
        return self.path, 0, self.name


def completeness_items(
    session: SuiteSession, items: Sequence[pytest.Item], *, root: pytest.Session
) -> list[pytest.Item]:
    """A failing item for each suite of which something is missing from the selection."""
    selected = {(item.path, item.name) for item in items}
    found: list[pytest.Item] = []
    for path, declared in session.declared.items():
        missing = [name for name in declared.names if (path, name) not in selected]
        if missing:
            found.append(_completeness_item(declared.node, missing))
    for path in session.options.required_suites:
        if path not in session.declared:
            node = SuiteFile.from_parent(root, path=path)
            found.append(_completeness_item(node, ["the whole file, which was not collected"]))
    return found


def mark_prompt(item: pytest.Item, reference: PromptReference) -> None:
    """Give an item its prompt and the keywords it is selected by."""
    case, suite = reference.case, reference.subject.suite.name
    item.stash[PROMPT] = reference
    item.extra_keyword_matches.update({f"cat-{case.family}", f"suite-{suite}", *(["golden"] if case.golden else [])})


def prompt_marker(reference: PromptReference) -> pytest.MarkDecorator:
    """The marker by which `-m` selects a prompt."""
    case, suite = reference.case, reference.subject.suite.name
    return pytest.mark.lora_prompt(suite=suite, category=case.family, id=case.id, golden=case.golden)


def scheduled(items: Iterable[pytest.Item]) -> list[tuple[Any, str]]:
    """Run and case of the selected prompts that will not be skipped for a reason known beforehand."""
    references = [(item, item.stash.get(PROMPT, None)) for item in items]
    return [(ref.subject.key, ref.case.id) for item, ref in references if ref is not None and not _is_skipped(item)]


@contextmanager
def told_without_trace() -> Iterator[None]:
    """Turn errors that a person must act on into a failure with their message; a crash keeps its trace."""
    try:
        yield
    except LorabenchError as error:
        pytest.fail(str(error), pytrace=False)


def hold_prompt(request: pytest.FixtureRequest, lora_runner: Runner, lora_backend: Backend | None) -> None:
    """Body of a prompt item."""
    item = request.node
    reference = item.stash[PROMPT]
    with told_without_trace():
        view = lora_runner.view(reference.subject, reference.case.id, backend=lora_backend)
    faults = failures.prompt_faults(reference.case, view)
    record = item.user_properties.append
    record(("lorabench.prompt_id", reference.case.id))
    record(("lorabench.verdict", "FAIL" if faults else "PASS"))
    seconds = lora_runner.seconds_of(reference.subject, reference.case.id)
    if seconds is not None:
        record(("lorabench.seconds", round(seconds, 3)))
    for metric, mean, _ in failures.metric_means(view):
        if mean is not None:
            record((f"lorabench.metric.{metric}", float(mean)))
    if faults:
        text = failures.prompt_text(reference.case, view, faults)
        pytest.fail(text + _repeat(item, reference.subject.config), pytrace=False)


def hold_gate(request: pytest.FixtureRequest, lora_runner: Runner, lora_backend: Backend | None) -> None:
    """Body of a gate item: pull the whole suite, whatever was selected, then look at the verdict."""
    item = request.node
    subject, gate = item.stash[GATE]
    with told_without_trace():
        results = lora_runner.results(subject, backend=lora_backend)
    require_complete = request.config.stash[SESSION].options.require_complete
    if results.failed:
        pytest.fail(failures.incomplete_text(results), pytrace=False)
    if require_complete and not results.verdict.complete:
        pytest.fail(f"a gate needs the whole suite; {results.verdict.headline}", pytrace=False)
    if gate == GOLDEN_GATE:
        _hold_golden(item, results)
    elif gate == BASELINE_GATE:
        _hold_verdicts(item, results, [found for found in results.gates if found.gate.endswith(f"-{BASELINE_GATE}")])
    else:
        _hold_verdicts(item, results, [found for found in results.gates if found.gate == gate])


def _hold_golden(item: pytest.Item, results: Results) -> None:
    cases = [case for case in results.suite.cases if case.golden]
    faults = {
        case.id: found
        for case in cases
        if (found := failures.golden_faults(case, results.images, checks=results.checks, unmeasured=results.unmeasured))
    }
    item.user_properties.append(("lorabench.verdict", "FAIL" if faults else "PASS"))
    if faults:
        lines = [f"  {case}: {fault}" for case, found in faults.items() for fault in found]
        head = f"{len(faults)} of {len(cases)} golden prompts of {results.suite.name} do not hold:"
        pytest.fail("\n".join([head, *lines]), pytrace=False)


def _hold_verdicts(item: pytest.Item, results: Results, verdicts: Sequence[Verdict]) -> None:
    subject, gate = item.stash[GATE]
    if not verdicts:
        pytest.fail(f"gate {gate} of {results.suite.name}: the run holds no verdict of it", pytrace=False)
    options = item.config.stash[SESSION].options
    item.user_properties.append(("lorabench.verdict", failures.gravest(verdicts).value))
    for verdict in verdicts:
        if verdict.comparison is not None:
            name = f"lorabench.metric.{verdict.metric}"
            item.user_properties.append((name, float(verdict.comparison.estimate)))
    texts = [
        failures.gate_text(verdict, fault=fault, suite=results.suite.name)
        for verdict in verdicts
        if (fault := failures.gate_fault(verdict, inconclusive_fails=options.inconclusive_fails)) is not None
    ]
    if texts:
        pytest.fail("\n".join(texts) + _repeat(item, subject.config), pytrace=False)
    if all(verdict.outcome is Outcome.UNMEASURED for verdict in verdicts):
        pytest.skip(f"not measured and not required: {verdicts[0].reason}")


def fail_switched_off(request: pytest.FixtureRequest) -> None:
    """Body of a gate item where completeness is required and lorabench is off."""
    subject, _ = request.node.stash[GATE]
    pytest.fail(
        f"a required suite must be evaluated; 0 of {len(subject.suite.cases)} prompts of {subject.suite.name} were. "
        "Give --lorabench.",
        pytrace=False,
    )


def _gates(subject: Subject) -> list[tuple[str, str]]:
    """Gate and metric names of a suite."""
    brand = subject.config.training_set.brand_palette
    found = [(gate.name, gate.metric) for gate in configured_gates(subject.config.gates, brand=brand)]
    golden = any(case.golden for case in subject.suite.cases)
    if subject.config.baseline is not None:
        found.append((BASELINE_GATE, BASELINE_GATE))
    return [*found, *([(GOLDEN_GATE, "checks")] if golden else [])]


def _item_name(name: str, subject: Subject) -> str:
    """Colons, not brackets: pytest reads brackets in a remembered node id as parameters, and loses the item."""
    return f"{name}:{subject.candidate.label}" if subject.candidate.label else name


def _prompt_item(parent: SuiteFile, subject: Subject, case: Case, session: SuiteSession) -> SuiteItem:
    item = _item(parent, _item_name(case.id, subject), body=hold_prompt, enabled=session.options.enabled)
    item.line = session.load(parent.path).line_of.get(case.id, 1)
    reference = PromptReference(subject, case)
    item.add_marker(prompt_marker(reference))
    mark_prompt(item, reference)
    return item


def _gate_item(parent: SuiteFile, subject: Subject, *, name: str, gate: str, metric: str) -> SuiteItem:
    options = parent.options
    switched_off = options.require_complete and not options.enabled
    body = fail_switched_off if switched_off else hold_gate
    item = _item(parent, name, body=body, enabled=options.enabled or switched_off)
    item.stash[GATE] = (subject, gate)
    item.add_marker(pytest.mark.lora_gate(suite=subject.suite.name, metric=metric))
    item.extra_keyword_matches.add(f"suite-{subject.suite.name}")
    return item


def _item(parent: SuiteFile, name: str, *, body: Callable[..., None], enabled: bool) -> SuiteItem:
    item = SuiteItem.from_parent(parent, name=name, callobj=body)
    item.label = f"{parent.path.name}: {name}"
    if not enabled:
        item.add_marker(pytest.mark.skip(reason=OFF_REASON))
    return item


def _completeness_item(node: pytest.File, missing: Sequence[str]) -> CompletenessItem:
    item = CompletenessItem.from_parent(node, name=COMPLETE)
    item.missing = tuple(missing)
    return item


def _is_skipped(item: pytest.Item) -> bool:
    if any(True for _ in item.iter_markers("skip")):
        return True
    return any(mark.args and mark.args[0] is True for mark in item.iter_markers("skipif"))


def _repeat(item: pytest.Item, config: Config) -> str:
    """With -vv: the settings, and the command that runs this item alone."""
    if item.config.get_verbosity() < 2:
        return ""
    settings = config.generation.model_dump_json(exclude_none=True)
    base, adapter = config.model.base or "-", config.candidate.lora or "-"
    return (
        f"\n  base {base}, adapter {adapter} at scale {config.candidate.scale:g}, {settings}"
        f"\n  alone: pytest --lorabench '{item.nodeid}'"
    )
