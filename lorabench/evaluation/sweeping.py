"""A candidate along strength, guidance and trigger: what is made, read and decided."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lorabench.errors import ExitCode, SpecError
from lorabench.evaluation.engine import NoPicturesError, open_run
from lorabench.evaluation.indices import Resampling
from lorabench.evaluation.judging import conclude, judge
from lorabench.evaluation.sweep_gates import configured_sweep_gates
from lorabench.evaluation.sweep_guards import StrengthLooks
from lorabench.evaluation.sweep_guidance import GuidanceLooks, GuidanceRead, read_guidance
from lorabench.evaluation.sweep_panel import (
    STAGE,
    Looker,
    choose_cases,
    choose_figures,
    dial_of,
    strengths_of,
    style_ruler,
)
from lorabench.evaluation.sweep_strength import StrengthRead, read_strengths
from lorabench.evaluation.sweep_style import StyleAxis
from lorabench.evaluation.sweep_trigger import TriggerLooks, TriggerRead, no_trigger, read_triggers
from lorabench.evaluation.tractability import tractability
from lorabench.metrics.guidance import usual_guidance
from lorabench.metrics.reading import Missing
from lorabench.metrics.trigger import placebo_phrase, rare_words
from lorabench.records.comparison import Outcome
from lorabench.records.measurement import Unmeasured
from lorabench.records.record import digest_of
from lorabench.records.sweep import PanelCase, PanelConfig, Side, Sweep
from lorabench.storage.sweep_files import SweepFolder

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Run
    from lorabench.evaluation.gates import Gate
    from lorabench.evaluation.judge_set import JudgeSet
    from lorabench.evaluation.observer import Observer
    from lorabench.generation.protocol import Backend
    from lorabench.records.comparison import Comparison, Verdict
    from lorabench.records.config import Config
    from lorabench.records.images import FailedCell
    from lorabench.records.results import RunVerdict
    from lorabench.records.suite import Suite


LEAST_RESAMPLES: Final = 10_000
"""With 8 cases, 2,000 resamples know no p-value below 0.009; the four gates of an axis ask for less."""


class NoCandidateError(SpecError):
    """There is nothing to sweep."""

    def __init__(self) -> None:
        super().__init__("a sweep needs an adapter; none is named. Give --lora, or `lora` under [candidate].")


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep, its folder, and what the next one may use again."""

    sweep: Sweep
    folder: SweepFolder
    backend: Backend
    judges: JudgeSet


@dataclass(frozen=True, slots=True)
class _Reads:
    strength: StrengthRead | None
    guidance: GuidanceRead | None
    trigger: TriggerRead | None

    def found(self) -> dict[str, Comparison | Unmeasured]:
        """Gate to what it decides on."""
        parts = [one for one in (self.strength, self.guidance, self.trigger) if one is not None]
        return {name: one for part in parts for name, one in part.found.items()}


def sweep(
    config: Config,
    *,
    suite: Suite,
    panel: PanelConfig | None = None,
    observer: Observer | None = None,
    backend: Backend | None = None,
    judges: JudgeSet | None = None,
    line_of: Mapping[str, int] | None = None,
    cache_only: bool = False,
    command: str = "",
) -> Sweep:
    """Judge a candidate along strength, guidance and trigger, and write `sweep.json` and its pictures.

    Arguments and errors are those of `sweep_in_folder`, which also hands back backend and judges for the next one.
    """
    return sweep_in_folder(
        config,
        suite=suite,
        panel=panel,
        observer=observer,
        backend=backend,
        judges=judges,
        line_of=line_of,
        cache_only=cache_only,
        command=command,
    ).sweep


def sweep_in_folder(
    config: Config,
    *,
    suite: Suite,
    panel: PanelConfig | None = None,
    observer: Observer | None = None,
    backend: Backend | None = None,
    judges: JudgeSet | None = None,
    line_of: Mapping[str, int] | None = None,
    cache_only: bool = False,
    command: str = "",
) -> Swept:
    """Judge a candidate along strength, guidance and trigger.

    Pictures come from the ordinary cache and go into it; an interrupted sweep goes on where it stopped.

    Args:
        config: Settings; the candidate's scale is the working strength.
        suite: The held-out prompts, of which a panel is taken.
        panel: Grids and size of the panel.
        observer: Hears of progress.
        backend: Instead of the configured one.
        judges: Instead of the configured ones.
        line_of: Case id to line of the suite's file, for messages.
        cache_only: Never make a picture; those that are not in the cache count as failed.
        command: What a person would type to repeat it.

    Returns:
        The sweep, and the folder it was written to.

    Raises:
        SpecError: Suite, settings or adapter file are wrong; there is no adapter; a prompt equals a training caption.
        MeasurementError: It cannot be measured here; no picture could be made.
    """
    started = time.perf_counter()
    if not config.candidate.lora:
        raise NoCandidateError
    chosen = panel or PanelConfig()
    run = open_run(
        config.model_copy(update={"baseline": None, "limit": None}),
        suite=suite,
        observer=observer,
        backend=backend,
        judges=judges,
        line_of=line_of,
        cache_only=cache_only,
        command=command,
    )
    looker = _looker(run, chosen)
    folder = _folder(run, chosen)
    with folder.claimed(), run.observer.stage(STAGE, n_pictures(chosen, suite=suite, config=config)):
        done = _assembled(run, looker, chosen, sweep_id=folder.sweep_id)
        done = done.model_copy(update={"seconds": time.perf_counter() - started})
        for look in looker.looks.values():
            for image in look.aside.images.made:
                run.export_picture(image, folder.picture_path(image.sha256))
        folder.write(done)
    return Swept(done, folder, run.backend, run.judges)


def n_pictures(panel: PanelConfig, *, suite: Suite, config: Config) -> int:
    """Pictures that a sweep plans, before any is found in the cache."""
    seeds = len(_seeds(panel, suite, config))
    cases = len(choose_cases(suite, panel.n_cases))
    settings = config.generation
    per_case = 1  # the control
    if "strength" in panel.axes:
        per_case += len(strengths_of(panel, config.candidate.scale)) + 1
    elif set(panel.axes) & {"guidance", "trigger"}:
        per_case += 1
    n = per_case * cases * seeds
    if "guidance" in panel.axes:
        usual = getattr(settings, dial_of(panel, settings))
        others = [one for one in set(panel.guidances) if one != usual]
        n += 2 * len(others) * cases * seeds
        figures = len(choose_figures(suite, panel.n_anatomy_cases))
        n += 4 * figures * seeds if figures >= 2 else 0
    if "trigger" in panel.axes:
        n += 2 * cases * seeds
    return n


def _seeds(panel: PanelConfig, suite: Suite, config: Config) -> tuple[int, ...]:
    return tuple(suite.seeds if config.seeds is None else config.seeds)[: panel.n_seeds]


def _looker(run: Run, panel: PanelConfig) -> Looker:
    style = run.config.style
    words = (
        (panel.trigger_word,) if panel.trigger_word else rare_words(style.trigger, known=(style.plain, style.neutral))
    )
    placebo = placebo_phrase(style.trigger, words=words)
    return Looker(
        run=run,
        cases=choose_cases(run.suite, panel.n_cases),
        seeds=_seeds(panel, run.suite, run.config),
        dial=dial_of(panel, run.config.generation),
        phrases={
            Side.BASE: style.neutral,
            Side.CONTROL: style.plain,
            Side.UNTOUCHED: style.trigger,
            Side.CANDIDATE: style.trigger,
            Side.NEUTRAL: style.neutral,
            Side.PLACEBO: "" if isinstance(placebo, Missing) else placebo,
        },
    )


def _folder(run: Run, panel: PanelConfig) -> SweepFolder:
    adapter = run.adapter
    assert adapter is not None
    decides = {"run": run.folder.run_id, "panel": panel.model_dump(mode="json")}
    return SweepFolder.of(
        run.config.runs_dir, suite=run.suite.name, candidate=adapter.info.name, digest=digest_of(decides)
    )


def _assembled(run: Run, looker: Looker, panel: PanelConfig, *, sweep_id: str) -> Sweep:
    statistics = run.config.statistics
    n_resamples = max(statistics.n_resamples, LEAST_RESAMPLES)
    resampling = Resampling(statistics.seed, n_resamples, statistics.confidence_level)
    control = looker.look(Side.CONTROL)
    if not control.aside.images.made:
        raise NoPicturesError(control.aside.images.failed)
    ruler = style_ruler(run)
    axis = StyleAxis.of(ruler, control)
    reads = _Reads(
        strength=_strength(looker, panel, axis=axis, resampling=resampling) if "strength" in panel.axes else None,
        guidance=_guidance(looker, panel, resampling=resampling) if "guidance" in panel.axes else None,
        trigger=_trigger(looker, axis=axis, resampling=resampling) if "trigger" in panel.axes else None,
    )
    gates, verdicts = _decided(run, reads)
    failed = [cell for look in looker.looks.values() for cell in look.aside.images.failed]
    made = [image for look in looker.looks.values() for image in look.aside.images.made]
    found = {image.cache_key for image in made if image.from_cache}
    fresh = {image.cache_key for image in made if not image.from_cache}
    adapter = run.adapter
    assert adapter is not None
    done = Sweep(
        sweep_id=sweep_id,
        suite=run.suite.name,
        suite_digest=run.suite.content_digest(),
        base=run.backend.base_info(),
        candidate=adapter.info,
        style=run.config.style,
        settings=run.config.generation,
        panel=panel,
        cases=tuple(
            PanelCase(id=case.id, family=case.family, prompt=case.render(run.config.style.trigger))
            for case in looker.cases
        ),
        seeds=looker.seeds,
        style_source=None if isinstance(ruler, str) else ruler.name,
        shots=tuple(shot for look in looker.looks.values() for shot in look.shots()),
        n_failed=len(failed),
        curves=tuple(curve for part in (reads.strength, reads.guidance) if part is not None for curve in part.curves),
        strength=None if reads.strength is None else reads.strength.findings,
        guidance=None if reads.guidance is None else reads.guidance.findings,
        trigger=None if reads.trigger is None else reads.trigger.findings,
        unmeasured=tuple(one for one in reads.found().values() if isinstance(one, Unmeasured)),
        gates=verdicts,
        verdict=_verdict(verdicts, gates, failed=failed),
        provenance=run.provenance(n_generated=len(fresh), n_from_cache=len(found - fresh)),
    )
    return done if done.strength is None else done.model_copy(update={"tractability": tractability(sweeps=[done])})


def _strength(looker: Looker, panel: PanelConfig, *, axis: StyleAxis | Missing, resampling: Resampling) -> StrengthRead:
    working = looker.config.candidate.scale
    looks = StrengthLooks(
        run=looker.run,
        working=working,
        control=looker.look(Side.CONTROL),
        candidates={
            strength: looker.look(Side.CANDIDATE, strength=strength) for strength in strengths_of(panel, working)
        },
        untouched=looker.look(Side.UNTOUCHED),
        axis=axis,
        resampling=resampling,
    )
    return read_strengths(looks)


def _guidance(looker: Looker, panel: PanelConfig, *, resampling: Resampling) -> GuidanceRead:
    working, grid = looker.config.candidate.scale, sorted(set(panel.guidances))
    usual = usual_guidance(grid, looker.usual)
    cases = choose_figures(looker.run.suite, panel.n_anatomy_cases)
    figures = None
    if len(cases) >= 2 and grid[0] < usual:
        figures = (
            looker.look(Side.CANDIDATE, strength=working, guidance=grid[0], cases=cases),
            looker.look(Side.CONTROL, guidance=grid[0], cases=cases),
            looker.look(Side.CANDIDATE, strength=working, guidance=usual, cases=cases),
            looker.look(Side.CONTROL, guidance=usual, cases=cases),
        )
    looks = GuidanceLooks(
        run=looker.run,
        dial=looker.dial,
        usual=looker.usual,
        candidate={value: looker.look(Side.CANDIDATE, strength=working, guidance=value) for value in grid},
        control={value: looker.look(Side.CONTROL, guidance=value) for value in grid},
        figures=figures,
        resampling=resampling,
    )
    return read_guidance(looks)


def _trigger(looker: Looker, *, axis: StyleAxis | Missing, resampling: Resampling) -> TriggerRead:
    style, working = looker.config.style, looker.config.candidate.scale
    if style.trigger.strip() == style.neutral.strip():
        return no_trigger("a trigger must differ from the neutral phrase; both are the same. State [style] trigger.")
    phrase = looker.phrases[Side.PLACEBO]
    looks = TriggerLooks(
        run=looker.run,
        candidate=looker.look(Side.CANDIDATE, strength=working),
        neutral=looker.look(Side.NEUTRAL, strength=working),
        placebo=looker.look(Side.PLACEBO, strength=working) if phrase else None,
        placebo_phrase=phrase,
        axis=axis,
        resampling=resampling,
    )
    return read_triggers(looks)


def _decided(run: Run, reads: _Reads) -> tuple[tuple[Gate, ...], tuple[Verdict, ...]]:
    found = reads.found()
    gates = tuple(gate for gate in configured_sweep_gates(run.config.gates) if gate.name in found)
    return gates, judge(gates, found, significance_level=run.config.statistics.significance_level)


def _verdict(verdicts: tuple[Verdict, ...], gates: tuple[Gate, ...], *, failed: list[FailedCell]) -> RunVerdict:
    """As a run's; but most gates of a sweep are not required, so the headline says how many are decided at all."""
    missing = f"{len(failed)} pictures could not be made" if failed else None
    found = conclude(verdicts, gates, complete=not failed, missing=missing, identical=False)
    if found.outcome is not Outcome.PASS:
        return found
    passed = [one for one in verdicts if one.outcome is Outcome.PASS]
    headline = f"{len(passed)} of {len(verdicts)} gates passed"
    for outcome, words in ((Outcome.INCONCLUSIVE, "not decided"), (Outcome.UNMEASURED, "not measured")):
        names = ", ".join(one.gate for one in verdicts if one.outcome is outcome)
        headline += f"; {words}: {names}" if names else ""
    headline = f"{'' if found.complete else f'Incomplete ({missing}). '}{headline}."
    if passed:
        return found.model_copy(update={"headline": headline})
    code = ExitCode.INCONCLUSIVE if found.complete else ExitCode.INCOMPLETE
    return found.model_copy(update={"headline": headline, "outcome": Outcome.INCONCLUSIVE, "exit_code": int(code)})
