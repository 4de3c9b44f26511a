"""What a page of a run costs a reviewer: `python -m benchmarks.report_browser [cases ...]`, else 60, 500 and 2,000.

Pictures are drawn by the mini world (128 px, two seeds, three arms), every one another; a card carries checks, twelve
metrics, palettes and the nearest training picture. Chromium opens the page from the disk, as one file and as a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from lorabench.records.comparison import CaseDifference, Comparison, Outcome, Verdict
from lorabench.records.images import Image
from lorabench.records.measurement import Measurement, Metric, Neighbour
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.results import (
    AdapterInfo,
    BaseInfo,
    CheckOutcome,
    Provenance,
    Results,
    RunVerdict,
    TrainingPicture,
)
from lorabench.records.suite import Case, ObjectCheck, Suite
from lorabench.report.forms import OneFile, write
from lorabench.report.html import RunPage
from lorabench.report.layout import Layout
from lorabench.world.captions import content
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

SEEDS = (1, 2)
ARMS = (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE)
STYLES = {Arm.BASE: "photo", Arm.CONTROL: "painting", Arm.CANDIDATE: "flat"}
FAMILIES = ("spatial", "multi_subject", "attribute_binding", "counting", "palette", "sparse_scene", "trigger")
METRICS = tuple(Metric(name=f"metric_{n:02d}_score", version=1, higher_is_better=True, unit="share") for n in range(12))
STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of")
N_SCENES, N_TRAINING = 120, 40
FILTERS = (
    ("text", "red"),
    ("text", "circle left"),
    ("family", "counting"),
    ("flag", "lost"),
    ("metric", "metric_03_score"),
)
FIRST_PAINT_GOAL, FILTER_GOAL, SIZE_GOAL = 1000.0, 100.0, 25.0


@cache
def drawn(number: int, style: str) -> NDArray[np.uint8]:
    """One of the scenes, uint8 (128, 128, 3)."""
    return draw(scene(number), style, seed=number)  # type: ignore[arg-type]


@cache
def scene(number: int) -> Any:
    rng = np.random.default_rng(number)
    return sample_scene("position", rng=rng)


def cell_pixels(cell: Cell, number: int) -> NDArray[np.uint8]:
    """A picture that no other cell has: a scene moved, and a little lighter or darker."""
    shift, light = number // N_SCENES, 1 + (number * 7 + cell.seed) % 11 - 5
    moved = np.roll(drawn(number % N_SCENES, STYLES[cell.arm]), (shift * 5 + cell.seed * 3) % 128, axis=1)
    return np.clip(moved.astype(np.int16) + light, 0, 255).astype(np.uint8)


class Run:
    """A run of many cases, and its pictures."""

    def __init__(self, n_cases: int) -> None:
        self.rng = np.random.default_rng(0)
        self.cells: dict[str, tuple[Cell, int]] = {}
        self.cases = tuple(self._case(number) for number in range(n_cases))
        self.parts: dict[str, list[Any]] = {name: [] for name in ("plan", "images", "measurements", "checks", "near")}
        for number, case in enumerate(self.cases):
            for seed in SEEDS:
                for arm in ARMS:
                    self._cell(Cell(arm=arm, case=case.id, seed=seed, scale=float(arm.uses_adapter)), case, number)

    def _case(self, number: int) -> Case:
        words = content(scene(number % N_SCENES))
        checks = (ObjectCheck(label="circle", color="red"), ObjectCheck(label="square"))
        return Case(
            id=f"case-{number:04d}", family=FAMILIES[number % len(FAMILIES)], prompt="{style} " + words, checks=checks
        )

    def _cell(self, cell: Cell, case: Case, number: int) -> None:
        sha256 = hashlib.sha256(f"{cell.key}".encode()).hexdigest()
        self.cells[sha256] = (cell, number)
        self.parts["plan"].append(PlannedCell(cell=cell, prompt=case.render(STYLE.of(cell.arm))))
        self.parts["images"].append(Image(cell=cell, sha256=sha256, cache_key=sha256, height=128, width=128))
        for index in range(len(case.checks)):
            passed = bool(self.rng.random() < (0.9 if cell.arm is not Arm.CANDIDATE else 0.8))
            self.parts["checks"].append(CheckOutcome(cell=cell, check_index=index, passed=passed, reason="as seen"))
        for metric in METRICS:
            value = float(self.rng.random())
            self.parts["measurements"].append(Measurement(cell=cell, metric=metric.name, metric_version=1, value=value))
        if cell.arm is Arm.CANDIDATE:
            index, distance = int(self.rng.integers(N_TRAINING)), float(self.rng.uniform(0.3, 0.6))
            self.parts["near"].append(
                Neighbour(cell=cell, training_index=index, mirrored=False, distance=distance, ratio=0.9, is_copy=False)
            )

    def picture(self, sha256: str) -> NDArray[np.uint8] | None:
        """Pixels of a cell or of a training picture."""
        if sha256 in self.cells:
            return cell_pixels(*self.cells[sha256])
        return drawn(int(sha256, 16), "flat") if int(sha256, 16) < N_TRAINING else None

    def results(self) -> Results:
        """The run as a record."""
        suite = Suite(name="size", licence="CC0-1.0", seeds=SEEDS, cases=self.cases)
        names = ("#c04030", "#30a060", "#3050c0", "#e0c030", "#808080", "#f0e0c0")
        keys = (cell.key for cell, _ in self.cells.values())
        return Results(
            run_id="size",
            suite=suite,
            style=STYLE,
            settings=GenerationSettings(height=128, width=128),
            base=BaseInfo(name="base", family="flux", digest="0" * 64, dtype="float32", device_class="cpu"),
            candidate=AdapterInfo(
                name="candidate",
                digest="0" * 64,
                layout="peft",
                n_modules=1,
                ranks=(4,),
                alphas=(4.0,),
                targets=("to_q",),
                text_encoder=False,
            ),
            plan=tuple(self.parts["plan"]),
            images=tuple(self.parts["images"]),
            training=tuple(
                TrainingPicture(index=n, name=f"{n}.png", sha256=f"{n:064x}", caption="a drawing")
                for n in range(N_TRAINING)
            ),
            metrics=METRICS,
            measurements=tuple(self.parts["measurements"]),
            neighbours=tuple(self.parts["near"]),
            checks=tuple(self.parts["checks"]),
            palettes=dict.fromkeys(keys, names),
            gates=(self._gate(),),
            verdict=RunVerdict(outcome=Outcome.INCONCLUSIVE, headline="size", reasons=(), exit_code=4, complete=True),
            provenance=Provenance(
                lorabench_version="0",
                created_at="",
                versions={},
                judges={},
                hardware_class="cpu",
                timings={},
                n_generated=len(self.cells),
                n_from_cache=0,
                command="",
            ),
        )

    def _gate(self) -> Verdict:
        differences = tuple(
            CaseDifference(case=case.id, difference=float(self.rng.normal(0, 0.2)), n_pairs=2) for case in self.cases
        )
        comparison = Comparison(
            metric=METRICS[0].name,
            metric_version=1,
            higher_is_better=True,
            unit="share",
            candidate_arm=Arm.CANDIDATE,
            reference="B1",
            family=None,
            estimate=0.0,
            low=-0.1,
            high=0.1,
            confidence_level=0.95,
            p_harm=0.5,
            n_cases=len(differences),
            n_pairs=2 * len(differences),
            method="t over case means",
            differences=differences,
        )
        return Verdict(
            gate="size",
            metric=METRICS[0].name,
            family=None,
            outcome=Outcome.INCONCLUSIVE,
            reason="-",
            margin=0.05,
            primary=True,
            comparison=comparison,
        )


def opened(browser: Browser, path: Path) -> tuple[Page, CDPSession]:
    """A page that answers, and a session that counts processor time of its main thread."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri())
    page.wait_for_selector("html.alive", state="attached")
    return page, session


def metrics_of(session: CDPSession) -> dict[str, float]:
    """Chromium's counters; times in seconds."""
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


def paint_times(browser: Browser, path: Path) -> tuple[float, float]:
    """Milliseconds to the first paint of content, and of the main thread's processor until the page answers."""
    page, session = opened(browser, path)
    spent = metrics_of(session)["TaskDuration"] * 1000
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.close()
    return float(first), spent


FILTER_SCRIPT = """([name, value]) => new Promise(done => {
    const field = document.querySelector('form.filters').elements.namedItem(name);
    const start = performance.now();
    field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
    field.dispatchEvent(new Event('change', {bubbles: true}));
    requestAnimationFrame(() => {
        const port = new MessageChannel();
        port.port1.onmessage = () => done(performance.now() - start);
        port.port2.postMessage(0);
    });
})"""


def filter_times(page: Page, session: CDPSession) -> list[tuple[float, float]]:
    """Milliseconds from an input to the frame that shows its effect, and of processor, for each filter and back."""
    times = []
    for name, value in FILTERS:
        for chosen in (value, ""):
            before = metrics_of(session)["TaskDuration"]
            wall = page.evaluate(FILTER_SCRIPT, [name, chosen])
            times.append((float(wall), (metrics_of(session)["TaskDuration"] - before) * 1000))
    return times


def measure(browser: Browser, path: Path) -> str:
    """One line of figures on a page."""
    paints = [paint_times(browser, path) for _ in range(3)]
    page, session = opened(browser, path)
    page.evaluate("document.getElementById('cases').scrollIntoView()")
    times = filter_times(page, session)
    session.send("HeapProfiler.collectGarbage")
    found = metrics_of(session)
    page.close()
    wall, processor = ([one[index] for one in times] for index in (0, 1))
    return (
        f"first paint {min(one[0] for one in paints):.0f} ms, processor until it answers "
        f"{statistics.median(one[1] for one in paints):.0f} ms; filter median {statistics.median(wall):.0f} ms, "
        f"longest {max(wall):.0f} ms (processor {statistics.median(processor):.0f} and {max(processor):.0f} ms); heap "
        f"{found['JSHeapUsedSize'] / 2**20:.1f} MiB, {int(found['Nodes']):,} nodes"
    )


def size_of(page: Path) -> float:
    """MiB of a page with all its files."""
    files = [page] if page.name != "index.html" else [file for file in page.parent.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**20


def one_size(browser: Browser, n_cases: int, folder: Path) -> None:
    """Render and open pages of so many cases."""
    run = Run(n_cases)
    results = run.results()
    start = time.process_time()
    page = RunPage(results, picture=run.picture)
    encoded = time.process_time() - start
    start = time.process_time()
    n_bytes = len(page.render(OneFile()).encode())
    spent = time.process_time() - start
    print(
        f"{n_cases} cases, {len(run.cells):,} pictures: {page.n_picture_bytes / 2**20:.1f} MiB of pictures, one file "
        f"{n_bytes / 2**20:.1f} MiB; reading and encoding {encoded:.1f} s, rendering {spent:.1f} s of processor",
        flush=True,
    )
    for layout in (Layout.SINGLE, Layout.FOLDER):
        path = write(page, folder / f"{layout}-{n_cases}.html", layout=layout)
        print(f"  {layout:7} {size_of(path):6.1f} MiB, {measure(browser, path)}", flush=True)


def main() -> None:
    """Print a line for each size and form; the goals are those for 500 cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", type=int, default=[60, 500, 2000], help="cards of each page")
    sizes = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        found = next((path for one in ("chromium", "google-chrome") if (path := shutil.which(one))), None)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for n_cases in sizes:
            one_size(browser, n_cases, Path(name))
        browser.close()
    print(f"goals at 500: {SIZE_GOAL:.0f} MiB, first paint {FIRST_PAINT_GOAL:.0f} ms, filter {FILTER_GOAL:.0f} ms")


if __name__ == "__main__":
    main()
