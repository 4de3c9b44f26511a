"""A realistic run to render: eight families, two seeds, three arms, every outcome, one copied training picture."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lorabench.records.comparison import CaseDifference, Comparison, Outcome, Verdict
from lorabench.records.detection import Detection
from lorabench.records.images import FailedCell, Image
from lorabench.records.measurement import Measurement, Metric, Neighbour, SelfTest, SetMeasurement, Unmeasured
from lorabench.records.plan import Arm, Cell, GenerationSettings, PlannedCell, StylePhrases
from lorabench.records.results import (
    AdapterInfo,
    BaseInfo,
    CellDetections,
    CheckOutcome,
    Provenance,
    Results,
    RunVerdict,
    TrainingPicture,
)
from lorabench.records.suite import Case, CountCheck, ObjectCheck, PaletteCheck, RelationCheck, Suite

SIZE = 128
SEEDS = (7, 11)
ARMS = (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE)
COLORS = {
    "red": (214, 48, 44),
    "yellow": (240, 205, 40),
    "green": (40, 150, 62),
    "cyan": (44, 190, 208),
    "blue": (38, 66, 204),
    "purple": (172, 52, 192),
}
SHAPES = ("circle", "square", "triangle", "cross")
GROUNDS = ((143, 143, 143), (204, 189, 161), (92, 107, 128), (140, 140, 107))
STYLE = StylePhrases(trigger="ohwx papercut", plain="a flat paper cut-out", neutral="")

METRICS = (
    Metric(name="prompt_following_score", version=2, higher_is_better=True, unit="share", summary="Checks that hold."),
    Metric(name="clip_text_similarity", version=1, higher_is_better=True, unit="cosine", summary="CLIP, prompt."),
    Metric(name="nearest_training_distance", version=1, higher_is_better=True, unit="LPIPS", summary="To training."),
    Metric(name="part_count_error", version=1, higher_is_better=False, unit="parts", summary="Fingers and limbs."),
    Metric(name="palette_compliance_score", version=1, higher_is_better=True, unit="share", summary="Asked colours."),
    Metric(name="smooth_zone_sigma", version=3, higher_is_better=False, unit="levels", summary="Grain in flat zones."),
    Metric(name="palette_collapse", version=1, higher_is_better=False, unit="index", level="set"),
    Metric(name="photo_bleed", version=1, higher_is_better=False, unit="index", level="set"),
)


@dataclass(frozen=True)
class Example:
    """A run and its pictures."""

    results: Results
    pictures: dict[str, NDArray[np.uint8]]

    def picture(self, sha256: str) -> NDArray[np.uint8] | None:
        return self.pictures.get(sha256)


@dataclass(frozen=True)
class Thing:
    shape: str
    color: str
    x: float
    y: float
    radius: float


def mask(thing: Thing, size: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[0:size, 0:size] * (SIZE / size)
    dx, dy, r = x - thing.x, y - thing.y, thing.radius
    match thing.shape:
        case "circle":
            return dx**2 + dy**2 < r**2
        case "square":
            return np.maximum(abs(dx), abs(dy)) < r * 0.88
        case "triangle":
            return (dy < r * 0.8) & (dy > 2.2 * abs(dx) - r)
        case _:
            return np.minimum(abs(dx), abs(dy)) < (r * 0.3) * (np.maximum(abs(dx), abs(dy)) < r)


def paint(things: tuple[Thing, ...], arm: Arm, *, ground: int, seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """A photo-like picture in the base arms, a cut-out with a paper edge in the candidate's."""
    rng = np.random.default_rng(seed)
    canvas = np.ones((size, size, 3)) * np.array(GROUNDS[ground % len(GROUNDS)])
    flat = arm is Arm.CANDIDATE
    if flat:
        canvas = np.ones((size, size, 3)) * (236, 226, 205)
    for thing in things:
        color = np.array(COLORS[thing.color], dtype=float)
        color = color * 0.72 + np.array((214, 120, 60)) * 0.28 if flat else color
        shadow = mask(Thing(thing.shape, thing.color, thing.x + 3, thing.y + 4, thing.radius), size)
        canvas[shadow] *= 0.82 if flat else 0.7
        canvas[mask(thing, size)] = color
    if not flat:
        canvas *= 1.12 - 0.3 * (np.mgrid[0:size, 0:size].sum(axis=0) / (2 * size))[..., None]
    grain = {Arm.BASE: 7.0, Arm.CONTROL: 2.5}.get(arm, 1.2)
    return np.clip(canvas + rng.normal(0, grain, canvas.shape), 0, 255).astype(np.uint8)


def digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def things_of(case: Case, rng: np.random.Generator, *, drop: bool, swap: bool) -> tuple[Thing, ...]:
    found: list[Thing] = []
    for check in case.checks:
        if isinstance(check, ObjectCheck):
            left = bool(found) != swap
            found.append(Thing(check.label, check.color or "red", 92 if left else 36, 64, rng.uniform(17, 24)))
        if isinstance(check, CountCheck):
            spots = [(34, 36), (94, 36), (34, 92), (94, 92), (64, 64)]
            spots = spots[: check.count + (1 if swap else 0)]
            found += [Thing(check.label, check.color or "red", x, y, 16) for x, y in spots]
        if isinstance(check, PaletteCheck):
            found += [Thing("circle", "blue", 50, 50, 24), Thing("square", "red" if swap else "cyan", 82, 84, 20)]
    jittered = tuple(Thing(t.shape, t.color, t.x + rng.normal(0, 4), t.y + rng.normal(0, 4), t.radius) for t in found)
    return jittered[:-1] if drop and len(jittered) > 1 else jittered


def make_cases(per_family: int) -> tuple[Case, ...]:
    rng = np.random.default_rng(3)
    cases = []
    for number in range(per_family):
        first, second = (str(s) for s in rng.choice(SHAPES, 2, replace=False))
        one, two = (str(c) for c in rng.choice(list(COLORS), 2, replace=False))
        pair = (ObjectCheck(label=first, color=one), ObjectCheck(label=second, color=two))
        relation = RelationCheck(subject=first, relation="left of", object=second)
        count = int(rng.integers(2, 5))
        golden = number == 0
        texts: list[tuple[Any, str, tuple[Any, ...]]] = [
            ("spatial", f"a {one} {first} left of a {two} {second}", (*pair, relation)),
            ("attribute_binding", f"a {one} {first} and a {two} {second}", pair),
            ("multi_subject", f"a {first} beside a {second}, both {one}", (pair[0], ObjectCheck(label=second))),
            ("counting", f"{count} {one} {first}s on a table", (CountCheck(label=first, color=one, count=count),)),
            ("palette", "shapes in cold colours, blue and cyan only", (PaletteCheck(hues=((180.0, 280.0),)),)),
            ("sparse_scene", f"a lone {first}, wide empty ground", (ObjectCheck(label=first),)),
            ("trigger", f"a {two} {second}", (ObjectCheck(label=second, color=two),)),
            ("memorisation", f"a {one} {second} in the middle", (ObjectCheck(label=second, color=one),)),
        ]
        for family, text, checks in texts:
            name = f"{family.replace('_', '-')}-{number + 1:03d}"
            prompt = text + ", {style}"
            golden_here = golden and family == "spatial"
            cases.append(Case(id=name, family=family, prompt=prompt, checks=checks, golden=golden_here))
    order = ("spatial", "attribute_binding", "multi_subject", "counting", "palette", "sparse_scene", "trigger")
    return tuple(sorted(cases, key=lambda c: (*order, c.family).index(c.family)))


def seen(things: tuple[Thing, ...], *, size: int) -> tuple[Detection, ...]:
    """What a detector would say of these things."""
    unit = size / SIZE
    return tuple(
        Detection(
            label=thing.shape,
            color=thing.color,
            box=tuple(unit * (at + side * thing.radius) for side in (-1, 1) for at in (thing.x, thing.y)),  # type: ignore[arg-type]
            score=round(0.9 - 0.07 * place, 2),
        )
        for place, thing in enumerate(things)
    )


class Builder:
    """Collects a run picture by picture."""

    def __init__(self, *, per_family: int, size: int) -> None:
        self.rng = np.random.default_rng(20)
        self.size = size
        self.cases = make_cases(per_family)
        self.pictures: dict[str, NDArray[np.uint8]] = {}
        self.plan: list[PlannedCell] = []
        self.images: list[Image] = []
        self.failed: list[FailedCell] = []
        self.measurements: list[Measurement] = []
        self.checks: list[CheckOutcome] = []
        self.neighbours: list[Neighbour] = []
        self.detections: list[CellDetections] = []
        self.unmeasured: list[Unmeasured] = []
        self.palettes: dict[str, tuple[str, ...]] = {"training": ("#ece2cd", "#c95a3c", "#e8b04a", "#7a4a30")}
        self.training = self._training()

    def _keep(self, pixels: NDArray[np.uint8]) -> str:
        sha256 = digest(pixels)
        self.pictures[sha256] = pixels
        return sha256

    def _training(self) -> tuple[TrainingPicture, ...]:
        found = []
        for index in range(16):
            shape, color = SHAPES[index % 4], list(COLORS)[index % 6]
            thing = Thing(shape, color, 64 + 3 * (index % 5), 62, 26)
            pixels = paint((thing,), Arm.CANDIDATE, ground=index, seed=900 + index, size=self.size)
            caption = f"{STYLE.trigger}, a {color} {shape}"
            found.append(
                TrainingPicture(index=index, name=f"paper_{index:02d}.png", sha256=self._keep(pixels), caption=caption)
            )
        return tuple(found)

    def run(self) -> None:
        for number, case in enumerate(self.cases):
            for seed in SEEDS:
                for arm in ARMS:
                    self._cell(case, number, seed=seed, arm=arm)

    def _cell(self, case: Case, number: int, *, seed: int, arm: Arm) -> None:
        cell = Cell(arm=arm, case=case.id, seed=seed, scale=1.0 if arm.uses_adapter else 0.0)
        self.plan.append(PlannedCell(cell=cell, prompt=case.render(STYLE.of(arm))))
        if number == 9 and seed == 11 and arm is Arm.CANDIDATE:
            self.failed.append(FailedCell(cell=cell, reason="out of memory after 2 retries at batch size 1"))
            return
        hurt = arm is Arm.CANDIDATE and (number * 7 + seed) % 5 < 2 and case.family != "trigger"
        things = things_of(case, np.random.default_rng(number * 100 + seed), drop=False, swap=hurt)
        pixels = paint(things, arm, ground=number, seed=number * 31 + seed, size=self.size)
        copied = case.id == "memorisation-001" and arm is Arm.CANDIDATE
        if copied:
            pixels = self.pictures[self.training[4].sha256]
        self.detections.append(CellDetections(cell=cell, detections=seen(() if copied else things, size=self.size)))
        self._image(cell, pixels, cached=not arm.uses_adapter)
        for index, check in enumerate(case.checks):
            last = index == len(case.checks) - 1
            unscored = isinstance(check, PaletteCheck) and seed == 11 and arm is Arm.BASE
            passed = None if unscored else not (hurt and last)
            reason = {None: "too few coloured pixels", True: "held", False: "the last object is elsewhere"}[passed]
            self.checks.append(CheckOutcome(cell=cell, check_index=index, passed=passed, reason=reason))
        self._measure(cell, case, hurt=hurt, copied=copied)

    def _image(self, cell: Cell, pixels: NDArray[np.uint8], *, cached: bool) -> None:
        sha256 = self._keep(pixels)
        key = hashlib.sha256(cell.key.encode()).hexdigest()
        height, width = pixels.shape[:2]
        seconds = 0.0 if cached else 1.7
        self.images.append(
            Image(
                cell=cell,
                sha256=sha256,
                cache_key=key,
                height=height,
                width=width,
                from_cache=cached,
                generation_seconds=seconds,
            )
        )
        codes, counts = np.unique((pixels // 48) @ np.array([36, 6, 1]), return_counts=True)
        top = [int(code) for code in codes[np.argsort(-counts)][:6]]
        rows = [(code // 36, code // 6 % 6, code % 6) for code in top]
        self.palettes[cell.key] = tuple("#" + "".join(f"{v * 48 + 20:02x}" for v in row) for row in rows)

    def _measure(self, cell: Cell, case: Case, *, hurt: bool, copied: bool) -> None:
        styled = cell.arm is Arm.CANDIDATE
        values = {
            "prompt_following_score": 1.0 - hurt / max(1, len(case.checks)),
            "clip_text_similarity": 0.31 - 0.015 * styled - 0.02 * hurt + self.rng.normal(0, 0.01),
            "nearest_training_distance": 0.02 if copied else 0.52 - 0.12 * styled + self.rng.normal(0, 0.04),
            "smooth_zone_sigma": {Arm.BASE: 7.0, Arm.CONTROL: 2.6}.get(cell.arm, 1.2) + self.rng.normal(0, 0.2),
        }
        if case.family == "palette":
            values["palette_compliance_score"] = 0.9 - 0.35 * hurt + self.rng.normal(0, 0.03)
        if case.family == "sparse_scene" and cell.seed == 7:
            del values["smooth_zone_sigma"]
            reason = "no smooth zone of at least 256 pixels was found"
            self.unmeasured.append(Unmeasured(metric="smooth_zone_sigma", reason=reason, cell=cell))
        versions = {metric.name: metric.version for metric in METRICS}
        self.measurements += [
            Measurement(cell=cell, metric=name, metric_version=versions[name], value=float(value))
            for name, value in values.items()
        ]
        if styled:
            self.neighbours.append(
                Neighbour(
                    cell=cell,
                    training_index=4 if copied else int(self.rng.integers(0, 16)),
                    mirrored=not copied and cell.seed == 7 and bool(self.rng.random() < 0.3),
                    distance=float(values["nearest_training_distance"]),
                    ratio=0.04 if copied else float(self.rng.uniform(0.7, 0.95)),
                    is_copy=copied,
                )
            )

    def compare(self, metric: str, *, family: str | None = None, reference: str = "B1") -> Comparison | None:
        """Plain t-like interval over case means; enough for a rendering."""
        facts = next(m for m in METRICS if m.name == metric)
        other = Arm.CONTROL if reference == "B1" else Arm.BASE
        value = {(m.cell.arm, m.cell.case, m.cell.seed): m.value for m in self.measurements if m.metric == metric}
        differences, n_pairs = [], 0
        for case in self.cases:
            if family not in (None, case.family):
                continue
            pairs = [
                value[Arm.CANDIDATE, case.id, s] - value[other, case.id, s]
                for s in SEEDS
                if (Arm.CANDIDATE, case.id, s) in value and (other, case.id, s) in value
            ]
            if pairs:
                n_pairs += len(pairs)
                mean = float(np.mean(pairs))
                differences.append(CaseDifference(case=case.id, difference=mean, n_pairs=len(pairs)))
        if len(differences) < 2:
            return None
        means = np.array([d.difference for d in differences])
        half = float(2.0 * means.std(ddof=1) / np.sqrt(len(means)))
        estimate = float(means.mean())
        harmful = estimate < 0 if facts.higher_is_better else estimate > 0
        return Comparison(
            metric=metric,
            metric_version=facts.version,
            higher_is_better=facts.higher_is_better,
            unit=facts.unit,
            candidate_arm=Arm.CANDIDATE,
            reference=reference,  # type: ignore[arg-type]
            family=family,
            estimate=estimate,
            low=estimate - half,
            high=estimate + half,
            confidence_level=0.95,
            p_harm=0.0004 if harmful and half < abs(estimate) else 0.6,
            n_cases=len(differences),
            n_pairs=n_pairs,
            method="t over case means",
            differences=tuple(differences),
        )


def pooled(comparison: Comparison | None) -> Comparison:
    assert comparison is not None
    return comparison


def bleed(metric: str, value: float, half: float) -> Comparison:
    return Comparison(
        metric=metric,
        metric_version=1,
        higher_is_better=False,
        unit="index",
        candidate_arm=Arm.CANDIDATE,
        reference="none",
        family=None,
        estimate=value,
        low=value - half,
        high=value + half,
        confidence_level=0.95,
        p_harm=0.08,
        n_cases=40,
        n_pairs=79,
        method="two-stage bootstrap over cases",
    )


def make_gates(builder: Builder) -> tuple[Verdict, ...]:
    prompt = pooled(builder.compare("prompt_following_score"))
    clip = pooled(builder.compare("clip_text_similarity"))
    grain = pooled(builder.compare("smooth_zone_sigma"))
    return (
        Verdict(
            gate="copy",
            metric="nearest_training_distance",
            family=None,
            outcome=Outcome.FAIL,
            reason="2 of 79 pictures lie below the calibrated copy threshold of 0.11 LPIPS; the limit is none.",
            margin=0.05,
            primary=True,
            comparison=pooled(builder.compare("nearest_training_distance")),
            p_adjusted=0.0016,
        ),
        Verdict(
            gate="prompt",
            metric="prompt_following_score",
            family=None,
            outcome=Outcome.FAIL,
            reason="The candidate follows prompts worse than the control, by more than the margin of 0.050.",
            margin=0.05,
            primary=True,
            comparison=prompt,
            p_adjusted=0.0012,
        ),
        Verdict(
            gate="clip-text",
            metric="clip_text_similarity",
            family=None,
            outcome=Outcome.INCONCLUSIVE,
            reason="clip-text: not decided; about 22 more cases would decide.",
            margin=0.02,
            primary=False,
            comparison=clip,
            cases_needed=22,
        ),
        Verdict(
            gate="anatomy",
            metric="part_count_error",
            family="anatomy",
            outcome=Outcome.UNMEASURED,
            reason="The suite has no case with an anatomy check.",
            margin=0.5,
            primary=True,
            required=False,
        ),
        Verdict(
            gate="palette-collapse",
            metric="palette_collapse",
            family=None,
            outcome=Outcome.INCONCLUSIVE,
            reason="The interval holds both no collapse and more collapse than the margin of 0.200.",
            margin=0.2,
            primary=False,
            comparison=bleed("palette_collapse", 0.18, 0.11),
            cases_needed=31,
        ),
        Verdict(
            gate="photo-bleed",
            metric="photo_bleed",
            family=None,
            outcome=Outcome.PASS,
            reason="Photo grain is within the margin of 0.150.",
            margin=0.15,
            primary=False,
            comparison=bleed("photo_bleed", 0.03, 0.06),
        ),
        Verdict(
            gate="grain",
            metric="smooth_zone_sigma",
            family=None,
            outcome=Outcome.PASS,
            reason="Flat zones are shown to be no rougher than the control's.",
            margin=0.5,
            primary=True,
            comparison=grain,
            p_adjusted=1.0,
        ),
    )


def make_sets() -> tuple[SetMeasurement, ...]:
    rows = [
        ("palette_collapse", Arm.BASE, 0.02, 0.05),
        ("palette_collapse", Arm.CONTROL, 0.04, 0.06),
        ("palette_collapse", Arm.CANDIDATE, 0.22, 0.1),
        ("photo_bleed", Arm.BASE, 0.95, 0.04),
        ("photo_bleed", Arm.CONTROL, 0.21, 0.05),
        ("photo_bleed", Arm.CANDIDATE, 0.03, 0.06),
    ]
    return tuple(
        SetMeasurement(
            metric=metric,
            metric_version=1,
            arm=arm,
            scale=1.0 if arm.uses_adapter else 0.0,
            value=value,
            low=value - half,
            high=value + half,
            confidence_level=0.95,
            n_cases=40,
            n_pictures=79,
            method="two-stage bootstrap over cases",
        )
        for metric, arm, value, half in rows
    )


def make_self_tests() -> tuple[SelfTest, ...]:
    rows = [
        ("clip", "spatial", "swap", 0.56, 0.24, False),
        ("clip", "attribute_binding", "color", 0.97, 0.0001, True),
        ("clip", "counting", "count", 0.71, 0.012, True),
        ("oracle", "spatial", None, 0.99, 0.0001, True),
    ]
    return tuple(
        SelfTest(
            judge=judge,
            family=family,
            foil_kind=kind,
            win_rate=rate,
            chance=0.5,
            p_value=p,
            n_cases=10,
            usable=usable,
        )
        for judge, family, kind, rate, p, usable in rows
    )


def make_example(*, per_family: int = 5, size: int = SIZE) -> Example:
    """A finished run with 8 x `per_family` cases; equal arguments, equal content."""
    builder = Builder(per_family=per_family, size=size)
    builder.run()
    suite = Suite(
        name="papercut",
        version=3,
        description="Held-out prompts for a paper cut-out style.",
        licence="CC0-1.0",
        seeds=SEEDS,
        cases=builder.cases,
    )
    measured = {m.metric for m in builder.measurements}
    families: tuple[str | None, ...] = (None, *suite.families)
    tried = [builder.compare(m.name, family=f) for m in METRICS if m.name in measured for f in families]
    learned = builder.compare("clip_text_similarity", reference="B0")
    gates = make_gates(builder)
    unmeasured = (
        *builder.unmeasured,
        Unmeasured(metric="part_count_error", reason="the suite has no case with an anatomy check"),
        Unmeasured(metric="clip_text_similarity", reason="the judge is at chance on swaps", family="spatial"),
    )
    results = Results(
        run_id="2026-01-05-papercut-002000",
        suite=suite,
        style=STYLE,
        settings=GenerationSettings(height=size, width=size, num_inference_steps=20, guidance_scale=3.5),
        base=BaseInfo(name="mini-world", family="flux", digest="5b1c" * 16, dtype="float32", device_class="cpu"),
        candidate=AdapterInfo(
            name="papercut-002000.safetensors",
            digest="9f3a" * 16,
            layout="diffusers",
            n_modules=38,
            ranks=(16,),
            alphas=(16.0,),
            targets=("to_k", "to_out.0", "to_q", "to_v"),
            text_encoder=False,
            training_step=2000,
            metadata={"software": "example-trainer 0.4", "ss_network_dim": "16"},
        ),
        plan=tuple(builder.plan),
        images=tuple(builder.images),
        failed=tuple(builder.failed),
        training=builder.training,
        metrics=METRICS,
        measurements=tuple(builder.measurements),
        set_measurements=make_sets(),
        unmeasured=unmeasured,
        neighbours=tuple(builder.neighbours),
        detections=tuple(builder.detections),
        checks=tuple(builder.checks),
        palettes=builder.palettes,
        self_tests=make_self_tests(),
        comparisons=(
            *(c for c in tried if c is not None),
            *([learned] if learned else []),
            *(g.comparison for g in gates if g.comparison and g.comparison.reference == "none"),
        ),
        gates=gates,
        verdict=RunVerdict(
            outcome=Outcome.FAIL,
            headline="papercut-002000 got worse: it copies training pictures and loses prompts.",
            reasons=(
                "copy: 2 of 79 pictures lie below the calibrated copy threshold.",
                "prompt: 0.171 of the checks are lost against the control, more than the margin of 0.050.",
                "1 of 240 pictures could not be made.",
            ),
            exit_code=1,
            complete=False,
        ),
        provenance=Provenance(
            lorabench_version="0.1.0",
            created_at="2026-01-05T10:42:00Z",
            versions={"torch": "2.13.0", "diffusers": "0.42.1", "peft": "0.21.0"},
            judges={"lpips": "c0ffee" * 10 + "abcd", "oracle": "1"},
            hardware_class="cpu",
            timings={"generating": 148.2, "encoding": 12.4, "measuring": 3.1, "comparing": 1.9},
            n_generated=79,
            n_from_cache=160,
            command="lorabench run suites/papercut.lora.yaml --lora papercut-002000.safetensors",
        ),
    )
    return Example(results, builder.pictures)


@pytest.fixture(scope="session")
def example() -> Example:
    """The run, made once; smaller pictures than a person would look at."""
    return make_example(size=48)


@pytest.fixture(scope="session")
def small_example() -> Example:
    """Eight cases at 24 px: quick to render."""
    return make_example(per_family=1, size=24)


@pytest.fixture(scope="session")
def build() -> Callable[..., Example]:
    """The builder itself."""
    return make_example
