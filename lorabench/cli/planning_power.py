"""`power`: what a course would detect, how late, and how often it would stop a healthy training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import Assignments, ConfigFile, load_settings
from lorabench.errors import SpecError

if TYPE_CHECKING:
    from lorabench.records.config import Config, CourseConfig
    from lorabench.statistics.intervals import Interval
    from lorabench.training.simulation import Design, ScenarioOutcome

DEFAULT_GATE = "prompt"
SPREADS = {"sd": 3.0, "case_sd": 1.0, "wobble": 0.3}
"""In margins, where none is stated. Not measured on anyone's base: a place to start from."""
HEADER = ("What happens", "Wrong stops, %", "Right stops, %", "Delay", "Rejected, %", "Extra, %")
LEGEND = (
    "Wrong: within the margin, or for a dip. Right: once lasting harm has begun. In brackets: 95 % intervals.",
    "Delay: checkpoints from the first harmful one until half / nine in ten of these trainings were stopped.",
    "Rejected: the one bad checkpoint. Extra: pictures of confirmations, on top of those of the screens.",
)
OTHER_RULES = "Other rules on the same screens, by any guard at any checkpoint; % stopped wrongly / rightly:"
NONE = "–"


class TableFormat(StrEnum):
    """How the answer is printed."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


class NoiseShape(StrEnum):
    """How differences are spread."""

    NORMAL = "normal"
    RARE_LOSSES = "rare-losses"
    RARE_GAINS = "rare-gains"


class MarginsError(SpecError):
    """Harms in margins that cannot be simulated."""

    def __init__(self, option: str, text: str, *, at_least: str) -> None:
        super().__init__(
            f"{option} must be harms in margins, {at_least}, separated by commas; found {text!r}. "
            "Write for example 1.5,2,3."
        )
        self.option, self.text = option, text


class OnsetError(SpecError):
    """A harm that begins after the end."""

    def __init__(self, onset: int, n_checkpoints: int) -> None:
        super().__init__(
            f"--onset must be one of the {n_checkpoints} checkpoints; found {onset}. Raise --checkpoints or lower it."
        )
        self.onset, self.n_checkpoints = onset, n_checkpoints


class OnePromptError(SpecError):
    """A screening suite without any spread between prompts."""

    def __init__(self, suite: str, n_cases: int) -> None:
        super().__init__(
            f"the screening suite must hold at least 2 prompts; found {n_cases} in {suite}. "
            "Add prompts, or state --cases."
        )
        self.suite, self.n_cases = suite, n_cases


class NotPilotedError(SpecError):
    """A pilot that measured no spread for a gate."""

    def __init__(self, path: Path, gate: str, known: Sequence[str]) -> None:
        super().__init__(
            f"a pilot must have measured the spread of the gate's differences; {path} has none above 0 for {gate!r}. "
            f"It has some for: {', '.join(known) or 'no gate'}. Name one of them, or state --sd."
        )
        self.path, self.gate = path, gate


Cases = Annotated[int | None, typer.Option(min=2, help="Prompts of a screen; else those of course.suite.")]
SeedsPerCase = Annotated[int | None, typer.Option(min=1, help="Seeds per prompt of a screen; else course.n_seeds.")]
Margin = Annotated[float | None, typer.Option(min=1e-9, help="Largest harm tolerated; else that of the gate.")]
Sd = Annotated[
    float | None,
    typer.Option(min=1e-9, help="Spread of a paired difference between seeds of one prompt; else 3 margins."),
]
CaseSd = Annotated[
    float | None, typer.Option(min=0, help="Spread of the true difference between prompts; else 1 margin.")
]
Wobble = Annotated[
    float | None, typer.Option(min=0, help="Spread of the true harm between healthy checkpoints; else 0.3 margins.")
]
Shape = Annotated[
    NoiseShape, typer.Option(help="Shape of both spreads; skewed ones test what t-intervals take for granted.")
]
PilotFile = Annotated[
    Path | None, typer.Option("--pilot", metavar="FILE", help="Spreads and prompts of a pilot, where none are stated.")
]
GateName = Annotated[str, typer.Option("--gate", help="Whose margin, and whose spreads in the pilot.")]
Gates = Annotated[int, typer.Option(min=1, max=8, help="Guards; harm lies in one of them.")]
Checkpoints = Annotated[int, typer.Option(min=1, max=1000, help="Checkpoints of a training.")]
Onset = Annotated[int, typer.Option(min=1, help="Checkpoint at which harm begins.")]
Drops = Annotated[str, typer.Option(metavar="N,...", help="Lasting harms, in margins.")]
Dips = Annotated[str, typer.Option(metavar="N,...", help="Harms of one checkpoint only, in margins.")]
Runs = Annotated[int, typer.Option(min=10, max=1_000_000, help="Trainings simulated per line.")]
Seed = Annotated[int, typer.Option(min=0, help="Equal seeds give equal numbers.")]
Printed = Annotated[TableFormat, typer.Option("--format", help="How it is printed.")]


def power(
    *,
    cases: Cases = None,
    seeds: SeedsPerCase = None,
    margin: Margin = None,
    sd: Sd = None,
    case_sd: CaseSd = None,
    wobble: Wobble = None,
    pilot: PilotFile = None,
    gate: GateName = DEFAULT_GATE,
    noise: Shape = NoiseShape.NORMAL,
    gates: Gates = 4,
    checkpoints: Checkpoints = 20,
    onset: Onset = 9,
    drops: Drops = "1.5,2,3",
    dips: Dips = "2,3",
    runs: Runs = 1000,
    seed: Seed = 1,
    style: Printed = TableFormat.HUMAN,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Simulate trainings under the stopping rule: what it detects, how late, and its false stops.

    No picture is made. The rule is that of your settings: try --set course.window=4.
    """
    if onset > checkpoints:
        raise OnsetError(onset, checkpoints)
    lasting = in_margins("--drops", drops, least=1.0)
    single = in_margins("--dips", dips, least=0.0)
    config, _ = load_settings({}, config_file=config_file, assignments=assignments, quiet=True)

    from lorabench.training.simulation import Design, Noise, simulate_all

    piloted = _piloted(pilot, gate)
    tolerated = _margin(config, gate) if margin is None else margin
    stated = {"sd": sd, "case_sd": case_sd, "wobble": wobble}
    given = piloted | {name: value for name, value in stated.items() if value is not None}
    spreads = {name: given.get(name, SPREADS[name] * tolerated) for name in SPREADS}
    design = Design(
        n_cases=cases or int(piloted.get("cases", 0)) or _cases(config),
        n_seeds=config.course.n_seeds if seeds is None else seeds,
        seed_sd=spreads["sd"],
        case_sd=spreads["case_sd"],
        wobble=spreads["wobble"],
        margin=tolerated,
        n_checkpoints=checkpoints,
        n_gates=gates,
        onset=onset,
        noise=Noise(noise.value),
    )
    found = simulate_all(design, settings=config.course, n_runs=runs, seed=seed, drops=lasting, dips=single)
    answer = Answer(design, config.course, lasting, list(_followed(found)), n_runs=runs, seed=seed)
    _show(answer, style)


class Answer:
    """All that is printed, in either form."""

    def __init__(
        self,
        design: Design,
        settings: CourseConfig,
        drops: Sequence[float],
        outcomes: Sequence[ScenarioOutcome],
        *,
        n_runs: int,
        seed: int,
    ) -> None:
        """Keep what was asked and what came out."""
        self.design, self.settings, self.drops, self.outcomes = design, settings, drops, outcomes
        self.n_runs, self.seed = n_runs, seed

    @property
    def confirmation_seeds(self) -> int:
        """Fresh seeds per prompt of a confirmation."""
        return self.design.n_seeds * self.settings.confirmation_factor

    @property
    def first_level(self) -> float:
        """What the smallest p-value of a confirmation has to meet."""
        return self.settings.confirmation_level / self.design.n_gates

    def detectable(self) -> dict[str, float]:
        """Smallest harm that a look shows to be beyond the margin in 9 of 10 cases, in the metric's unit."""
        from lorabench.training.simulation import shown_harm

        looks = (("screen", self.design.n_seeds), ("confirmation", self.confirmation_seeds))
        return {
            name: shown_harm(self.design, n_seeds=n_seeds, significance_level=self.first_level)
            for name, n_seeds in looks
        }

    def cases_needed(self) -> dict[float, int]:
        """Drop in margins to the prompts with which one confirmation shows it in 9 of 10 cases."""
        from lorabench.training.simulation import cases_to_show

        return {
            drop: cases_to_show(drop, self.design, n_seeds=self.confirmation_seeds, significance_level=self.first_level)
            for drop in self.drops
            if drop > 1
        }

    def head(self) -> list[str]:
        """What was simulated, and what one look can show, in sentences."""
        design, rule = self.design, self.settings
        screen = design.n_cases * design.n_seeds
        reach = self.detectable()
        needed = "; ".join(f"{drop:g} margins: {n}" for drop, n in self.cases_needed().items())
        lines = [
            f"A screen: {design.n_cases} prompts x {design.n_seeds} seeds = {screen} pictures; a confirmation: "
            f"{screen * rule.confirmation_factor}. Guards: {design.n_gates}.",
            f"Margin {design.margin:g}. Spread of a difference: {design.seed_sd:g} between seeds, {design.case_sd:g} "
            f"between prompts ({design.noise.value}), {design.wobble:g} between checkpoints.",
            f"Rule: stop at {rule.confirmations} confirmed of the last {rule.window} checkpoints, each at "
            f"{rule.confirmation_level:g} over all guards; at once beyond {rule.catastrophe_margins:g} margins.",
            f"One confirmation shows a harm of {reach['confirmation']:.3g} "
            f"({reach['confirmation'] / design.margin:.2g} times the margin) in 9 of 10 cases; a screen would show "
            f"{reach['screen']:.3g} ({reach['screen'] / design.margin:.2g}).",
        ]
        if needed:
            lines.append(f"Prompts with which one confirmation shows a harm in 9 of 10 cases: {needed}.")
        lines.append(f"{self.n_runs} trainings of {design.n_checkpoints} checkpoints per line, seed {self.seed}.")
        return lines

    def rows(self) -> list[list[str]]:
        """The rule, one row per scenario."""
        return [
            [
                one.scenario.name,
                _share(one.course.false_stops),
                _share(one.course.right_stops),
                self._delays(one),
                _percent(one.rejected),
                f"{100 * one.extra_pictures:.0f}",
            ]
            for one in self.outcomes
        ]

    def rule_rows(self) -> list[list[str]]:
        """All rules on the same screens, one row per scenario."""
        return [
            [one.scenario.name, *(f"{_percent(rule.false_stops)} / {_percent(rule.right_stops)}" for rule in one.rules)]
            for one in self.outcomes
        ]

    def rule_header(self) -> tuple[str, ...]:
        """Heads of `rule_rows`."""
        return ("What happens", *(rule.rule for rule in self.outcomes[0].rules))

    def _delays(self, outcome: ScenarioOutcome) -> str:
        rule = outcome.course
        if rule.right_stops is None:
            return NONE
        beyond = f">{len(rule.stops_by_delay) - 1}"
        delays = [rule.delay(share) for share in (0.5, 0.9)]
        return " / ".join(beyond if delay is None else str(delay) for delay in delays)

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON types."""
        return {
            "design": asdict(self.design),
            "rule": self.settings.model_dump(mode="json", include=set(RULE_SETTINGS)),
            "n_runs": self.n_runs,
            "seed": self.seed,
            "detectable_harm": self.detectable(),
            "cases_needed": {f"{drop:g}": n for drop, n in self.cases_needed().items()},
            "scenarios": [_scenario_json(one) for one in self.outcomes],
        }


RULE_SETTINGS = (
    "confirmation_factor",
    "alarm_share",
    "cusum_allowance",
    "cusum_threshold",
    "confirmation_level",
    "confirmations",
    "window",
    "catastrophe_margins",
)


def in_margins(option: str, text: str, *, least: float) -> tuple[float, ...]:
    """Harms of a comma-separated option.

    Args:
        option: Its name, for the message.
        text: As typed.
        least: The smallest one that can be simulated; 0 itself is no harm.

    Raises:
        MarginsError: A part is no number, not finite, or too small.
    """
    at_least = f"at least {least:g}" if least else "above 0"
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MarginsError(option, text, at_least=at_least) from None
    if not all(math.isfinite(one) and one >= least and one > 0 for one in found):
        raise MarginsError(option, text, at_least=at_least)
    return tuple(dict.fromkeys(found))


def _margin(config: Config, gate: str) -> float:
    from lorabench.evaluation.gates import DEFAULT_GATES, UnknownGateError

    changed = config.gates.get(gate)
    default = next((one.margin for one in DEFAULT_GATES if one.name == gate), None)
    if default is None:
        raise UnknownGateError(gate)
    return default if changed is None or changed.margin is None else changed.margin


def _piloted(path: Path | None, gate: str) -> dict[str, float]:
    """What a pilot found for a gate, by the name of the option that states it.

    Raises:
        PilotFileError: The file cannot be read.
        NotPilotedError: It has no paired differences for the gate.
    """
    if path is None:
        return {}
    from lorabench.storage.pilot_files import read_pilot

    pilot = read_pilot(path)
    advised = {one.advice.gate: one.difference for one in pilot.metrics if one.advice is not None}
    known = [name for name, difference in advised.items() if difference is not None and difference.seed_sd is not None]
    difference = advised.get(gate)
    if difference is None or difference.seed_sd is None or not difference.seed_sd.value > 0:
        raise NotPilotedError(path, gate, known)
    found = {"sd": difference.seed_sd.value, "cases": float(difference.n_cases)}
    return found if difference.case_sd is None else found | {"case_sd": difference.case_sd.value}


def _cases(config: Config) -> int:
    from lorabench.storage.suite_files import find_suites, read_suite

    suite = config.course.suite
    n_cases = sum(len(read_suite(path).suite.cases) for path in find_suites([suite]))
    if n_cases < 2:
        raise OnePromptError(suite, n_cases)
    return n_cases


def _followed(outcomes: Iterator[ScenarioOutcome]) -> Iterator[ScenarioOutcome]:
    """Say on a terminal which line is being made."""
    console = output.terminal()
    if not console.is_terminal:
        yield from outcomes
        return
    with console.status("simulating trainings ...") as status:
        for n, one in enumerate(outcomes, start=1):
            status.update(f"simulating trainings ... {n} done, last: {one.scenario.name}")
            yield one


def _show(answer: Answer, style: TableFormat) -> None:
    if style is TableFormat.JSON:
        output.json_data(answer.as_json())
    elif style is TableFormat.MARKDOWN:
        from lorabench.report import markdown

        head = "".join(f"- {line}\n" for line in (*answer.head(), *LEGEND))
        rule = markdown.table(HEADER, answer.rows(), right=range(1, len(HEADER)))
        others = markdown.table(answer.rule_header(), answer.rule_rows(), right=range(1, len(answer.rule_header())))
        output.data(f"{head}\n{rule}\n{OTHER_RULES}\n\n{others}")
    else:
        output.data("\n".join((*answer.head(), "")))
        output.table(HEADER, answer.rows())
        output.data("\n".join(("", *LEGEND, "", OTHER_RULES, "")))
        output.table(answer.rule_header(), answer.rule_rows())


def _share(interval: Interval | None) -> str:
    """A share with its interval, in per cent."""
    if interval is None:
        return NONE
    return f"{_percent(interval)} ({_in_percent(interval.low)}{NONE}{_in_percent(interval.high)})"


def _percent(interval: Interval | None) -> str:
    return NONE if interval is None else _in_percent(interval.estimate)


def _in_percent(share: float) -> str:
    """One decimal, two below 1 %: that nothing was seen is not yet nothing."""
    return f"{100 * share:.{1 if share >= 0.01 else 2}f}"


def _scenario_json(outcome: ScenarioOutcome) -> dict[str, Any]:
    return {
        "name": outcome.scenario.name,
        "harm_in_margins": list(outcome.scenario.harm),
        "extra_pictures": outcome.extra_pictures,
        "rejected": _interval_json(outcome.rejected),
        "rules": [
            {
                "rule": rule.rule,
                "false_stops": _interval_json(rule.false_stops),
                "right_stops": _interval_json(rule.right_stops),
                "stops_by_delay": list(rule.stops_by_delay),
                "delay_half": rule.delay(0.5),
                "delay_nine_in_ten": rule.delay(0.9),
            }
            for rule in outcome.rules
        ],
    }


def _interval_json(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"share": interval.estimate, "low": interval.low, "high": interval.high}
