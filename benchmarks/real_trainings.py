"""Early stop on real trainings of the embedded model: healthy ones, and such as go bad in a known way.

    python -m benchmarks.real_trainings run FOLDER      # trains, one JSON file per training; goes on where it ended
    python -m benchmarks.real_trainings settle FOLDER   # trains on where only the last evaluation is harmful
    python -m benchmarks.real_trainings table FOLDER    # writes the results file and the page's tables

Every training carries a `Monitor` with the default `[course]` settings apart from cadence, budget and folder. At each
evaluation the adapter is also measured by the oracle on other prompts (`world_truth.py`); the monitor never sees that.
A stopped training goes on without its monitor until the truth has an onset or the planned end is reached, so that it is
known of every stop whether it was right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import course_counts
from benchmarks.training_sets import KINDS_OF_SETS, Recipe, recipe_of, write_set
from benchmarks.world_truth import MARGINS, SAMPLING_STEPS, Truth
from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import SUITE, world_config
from lorabench.generation.live_backend import save_live_adapter
from lorabench.records.config import GateConfig
from lorabench.records.course import Evaluation
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.demonstration import WorldTraining
from lorabench.training.guard import undisturbed

EVERY: Final = 20
LAST_STEP: Final = 80
EACH: Final = 3
"""Every third case of the screen, as in `demo --train`: all of them take three times as long."""
IDLE_GATES: Final = ("composition", "palette-collapse", "photo-bleed", "foils")
N_HEALTHY: Final = 24
N_PER_FAULT: Final = 4
FIRST_SEED: Final = 1000
"""Lower seeds were for settling the recipes. Healthy trainings have seeds from twice this on: with those from this on
and rates of 5e-5 to 2e-4 they hardly learned anything, and leaving such a training alone is no achievement."""
ROOT: Final = Path(__file__).resolve().parents[1]
RESULT: Final = ROOT / "fixtures" / "measured" / "real_trainings.json"
PAGE: Final = ROOT / "docs" / "real-trainings.md"


def recipes() -> list[Recipe]:
    """All trainings, kinds by turns so that a part of them is a fair sample."""
    faults = [kind for kind in KINDS_OF_SETS if kind != "varied"]
    bad = [recipe_of(kind, FIRST_SEED + 100 * k + n) for n in range(N_PER_FAULT) for k, kind in enumerate(faults, 1)]
    healthy = [recipe_of("varied", 2 * FIRST_SEED + n) for n in range(N_HEALTHY)]
    return [one for pair in zip(healthy, bad, strict=False) for one in pair] + bad[len(healthy) :]


def run(recipe: Recipe, *, folder: Path, cache_dir: Path, truth: Truth, each: int) -> dict[str, Any]:
    """Train once, watched until stopped, measured by the oracle to the planned end.

    Args:
        recipe: What is trained.
        folder: For the training set, the course and the adapters.
        cache_dir: Holds control pictures; shared by all trainings.
        truth: Shared by all trainings.
        each: 1 for all cases of the screen, 3 for every third one.

    Returns:
        Recipe, evaluations with what the truth was and what the monitor said, and times in seconds.
    """
    scenes = write_set(recipe, folder / "set")
    training = WorldTraining(folder / "set", lr=recipe.lr, rank=recipe.rank, seed=recipe.seed)
    monitor = monitor_of(training, folder=folder, cache_dir=cache_dir, each=each)
    seconds = {"training": 0.0, "evaluating": 0.0}
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    monitor.on_train_begin()
    seconds["opening"] = time.perf_counter() - started
    for training_step in range(1, LAST_STEP + 1):
        watched = not monitor.should_stop
        if not watched and course_counts.onset_of([row["truth"] for row in rows], MARGINS) is not None:
            break
        started = time.perf_counter()
        loss = training.step()
        between = time.perf_counter()
        if watched:
            monitor.on_step_end(training_step, loss=loss)
            seconds["training"] += between - started
            seconds["evaluating"] += time.perf_counter() - between
        if training_step % EVERY == 0:
            row = {"training_step": training_step, "loss": loss, "truth": truth.harms_of(training.pipeline, scenes)}
            rows.append(row | ({"monitor": said(monitor.course.evaluations[-1])} if watched else {}))
            if not watched:
                keep(training, folder / "unwatched" / f"checkpoint-{training_step}")
    choice = monitor.finish()
    return {"recipe": asdict(recipe), "evaluations": rows, "seconds": seconds, "best": choice.training_step}


def monitor_of(training: WorldTraining, *, folder: Path, cache_dir: Path, each: int) -> Monitor:
    """A monitor with the default rule; nothing of the rule is set here.

    Gates that cannot stop a training are off, and with them the judge that only they need: they cost time alone.
    """
    suite = read_suite(shipped_suite_path(SUITE)).suite
    suite = suite.model_copy(update={"cases": suite.cases[::each]})
    config = world_config(None, training=folder / "set", runs_dir=folder / "runs", cache_dir=cache_dir)
    settings = {"every_n_steps": EVERY, "budget": 1e6, "folder": folder / "course", "keep": "all"}
    changes = {
        "course": config.course.model_copy(update=settings),
        "generation": config.generation.model_copy(update={"num_inference_steps": SAMPLING_STEPS}),
        "gates": {name: GateConfig(enabled=False) for name in IDLE_GATES},
        "judges": config.judges.model_copy(update={"clip": ""}),
    }
    return Monitor(
        config.model_copy(update=changes),
        suite=suite,
        pipeline=training.pipeline,
        optimizer=training.optimizer,
    )


def said(evaluation: Evaluation) -> dict[str, Any]:
    """What of an evaluation the result keeps."""
    facts = {"harm", "standard_error", "margin", "n_cases", "low", "high", "p_beyond_margin"}
    return {
        "training_step": evaluation.training_step,
        "action": str(evaluation.decision.action),
        "reason": str(evaluation.decision.reason),
        "gates": list(evaluation.decision.gates),
        "sentence": evaluation.decision.sentence,
        "alarmed": list(evaluation.alarmed),
        "screen": {one.gate: one.model_dump(include=facts) for one in evaluation.screen},
        "confirmation": {one.gate: one.model_dump(include=facts) for one in evaluation.confirmation},
        "unmeasured": evaluation.unmeasured,
        "signals": {name: evaluation.signals[name] for name in ("style", "drift") if name in evaluation.signals},
        "seconds": evaluation.seconds,
    }


def keep(training: WorldTraining, folder: Path) -> None:
    """Save the adapter of a training that nobody watches any more."""
    with undisturbed(training.pipeline, optimizer=training.optimizer):
        save_live_adapter(training.pipeline, folder / "pytorch_lora_weights.safetensors")


def run_all(folder: Path, wanted: list[Recipe], *, each: int = EACH) -> None:
    """Run what has no result yet; an unfinished training is begun again."""
    import torch

    torch.set_num_threads(1)
    truth = Truth(folder)
    for recipe in wanted:
        result = folder / "results" / f"{recipe.name}.json"
        if result.exists():
            continue
        work = folder / "trainings" / recipe.name
        shutil.rmtree(work, ignore_errors=True)
        started = time.perf_counter()
        found = run(recipe, folder=work, cache_dir=folder / "cache", truth=truth, each=each)
        shutil.rmtree(work / "course" / "runs", ignore_errors=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        fresh = result.with_suffix(".tmp")
        fresh.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        fresh.replace(result)
        print(
            f"{recipe.name} {time.perf_counter() - started:.0f} s: {course_counts.line_of(found, MARGINS)}", flush=True
        )


def write_result(found: dict[str, Any], file: Path) -> None:
    """Write one training's result, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".tmp")
    fresh.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    fresh.replace(file)


def settle_all(folder: Path) -> None:
    """Give every training whose last evaluation alone is harmful one evaluation more."""
    import torch

    torch.set_num_threads(1)
    truth = Truth(folder)
    for found in read_results(folder):
        truths = [row["truth"] for row in found["evaluations"]]
        if not course_counts.is_open(truths, MARGINS) or len(truths) > LAST_STEP // EVERY:
            continue
        recipe = Recipe(**found["recipe"])
        found["evaluations"].append(settled(found, recipe, folder=folder / "settled" / recipe.name, truth=truth))
        write_result(found, folder / "results" / f"{recipe.name}.json")
        print(f"{recipe.name}: {course_counts.line_of(found, MARGINS)}", flush=True)


def settled(found: dict[str, Any], recipe: Recipe, *, folder: Path, truth: Truth) -> dict[str, Any]:
    """Train again without a monitor, one evaluation past the end: the same seed gives the same adapter.

    Returns:
        The evaluation past the end.

    Raises:
        RuntimeError: The last known evaluation does not come out again: something else was trained.
    """
    scenes = write_set(recipe, folder)
    training = WorldTraining(folder, lr=recipe.lr, rank=recipe.rank, seed=recipe.seed)
    measured = {}
    for training_step in range(1, LAST_STEP + EVERY + 1):
        loss = training.step()
        if training_step in (LAST_STEP, LAST_STEP + EVERY):
            measured[training_step] = truth.harms_of(training.pipeline, scenes)
    if measured[LAST_STEP] != found["evaluations"][-1]["truth"]:
        msg = f"{recipe.name} must come out as before; step {LAST_STEP} does not. Run it anew with its monitor."
        raise RuntimeError(msg)
    return {"training_step": LAST_STEP + EVERY, "loss": loss, "truth": measured[LAST_STEP + EVERY]}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All finished trainings, by name."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "results").glob("*.json"))]


def write_results(results: list[dict[str, Any]]) -> None:
    """The results file, one training a line, and the tables of the page."""
    facts = {"margins": MARGINS, "every": EVERY, "trainings": results}
    text = json.dumps(rounded(facts), separators=(",", ":"), ensure_ascii=False)
    RESULT.write_text(text.replace('{"recipe"', '\n{"recipe"') + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(course_counts.with_tables(page, course_counts.tables(results, MARGINS)), encoding="utf-8")


def rounded(value: Any) -> Any:
    """The same with numbers of six digits after the point at most."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "settle", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=list(KINDS_OF_SETS), help="trainings of one kind")
    parser.add_argument("--each", type=int, default=EACH, help="1 for all cases of the screen; use another folder")
    args = parser.parse_args()
    if args.what == "run":
        wanted = [recipe for recipe in recipes() if args.only in (None, recipe.kind)]
        run_all(args.folder, wanted, each=args.each)
        return
    if args.what == "settle":
        settle_all(args.folder)
        return
    results = read_results(args.folder)
    write_results(results)
    print(course_counts.tables(results, MARGINS))


if __name__ == "__main__":
    main()
