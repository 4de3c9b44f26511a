"""How large a page gets and how long it takes: `python benchmarks/report_size.py [cases] [seeds] [edge]`.

Pictures are the worst case for the encoder that still looks like a picture: smooth shapes under photo grain.
"""

import hashlib
import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from lorabench.records.comparison import Outcome
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.results import AdapterInfo, BaseInfo, Provenance, Results, RunVerdict
from lorabench.records.suite import Case, Suite
from lorabench.report.html import render_html


def grainy(rng: np.random.Generator, edge: int) -> NDArray[np.uint8]:
    """A few soft blobs of colour under grain of 4 levels; uint8 (edge, edge, 3)."""
    y, x = np.mgrid[0:edge, 0:edge] / edge
    picture = np.full((edge, edge, 3), rng.uniform(60, 200, 3))
    for _ in range(6):
        cx, cy, r = [*rng.uniform(0, 1, 2).tolist(), rng.uniform(0.05, 0.3)]
        inside = 1 / (1 + np.exp(((x - cx) ** 2 + (y - cy) ** 2 - r**2) * 200))
        picture += inside[..., None] * (rng.uniform(0, 255, 3) - picture)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def make_run(n_cases: int, n_seeds: int, edge: int) -> tuple[Results, dict[str, NDArray[np.uint8]]]:
    """A run of three arms with pictures and no measurements."""
    rng = np.random.default_rng(0)
    cases = tuple(Case(id=f"case-{i:04d}", family="spatial", prompt=f"scene {i}, {{style}}") for i in range(n_cases))
    suite = Suite(name="size", licence="CC0-1.0", seeds=tuple(range(n_seeds)), cases=cases)
    style = StylePhrases(trigger="ohwx", plain="a drawing")
    pictures, plan, images = {}, [], []
    for case in cases:
        for seed in suite.seeds:
            for arm in (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE):
                cell = Cell(arm=arm, case=case.id, seed=seed, scale=float(arm.uses_adapter))
                pixels = grainy(rng, edge)
                sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
                pictures[sha256] = pixels
                plan.append(PlannedCell(cell=cell, prompt=case.render(style.of(arm))))
                images.append(Image(cell=cell, sha256=sha256, cache_key=sha256, height=edge, width=edge))
    results = Results(
        run_id="size",
        suite=suite,
        style=style,
        settings=GenerationSettings(height=edge, width=edge),
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
        plan=tuple(plan),
        images=tuple(images),
        metrics=(),
        measurements=(),
        verdict=RunVerdict(outcome=Outcome.UNMEASURED, headline="size", reasons=(), exit_code=3, complete=True),
        provenance=Provenance(
            lorabench_version="0",
            created_at="",
            versions={},
            judges={},
            hardware_class="cpu",
            timings={},
            n_generated=len(images),
            n_from_cache=0,
            command="",
        ),
    )
    return results, pictures


def main() -> None:
    """Print one line of figures."""
    n_cases, n_seeds, edge = (int(v) for v in (*sys.argv[1:], *("120", "2", "512")[len(sys.argv) - 1 :]))
    results, pictures = make_run(n_cases, n_seeds, edge)
    start = time.perf_counter()
    page = render_html(results, picture=pictures.get)
    spent = time.perf_counter() - start
    size = len(page.encode()) / 2**20
    per_picture = size * 1024 / len(results.images)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n_cases} cases x {n_seeds} seeds x 3 arms at {edge} px: {size:.2f} MiB, {per_picture:.1f} KiB a picture, "
        f"{spent:.1f} s, peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
