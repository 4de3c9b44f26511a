"""Suite → panel: which cases and seeds a sweep makes, and the pictures of one side at one setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.comparing import values_of
from lorabench.evaluation.observer import Observer
from lorabench.metrics.strength import mean_distances
from lorabench.records.plan import Arm, Cell, GenerationSettings, Plan, PlannedCell
from lorabench.records.record import digest_of
from lorabench.records.suite import AnatomyCheck
from lorabench.records.sweep import Dial, PanelConfig, Shot, Side
from lorabench.storage.arrays import array_key

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Aside, Run
    from lorabench.records.config import Config
    from lorabench.records.images import Image
    from lorabench.records.suite import Case, Suite

Floats = NDArray[np.float64]
Key = tuple[str, int]
"""(case, seed)."""
STAGE: Final = "sweeping"
KEPT: Final = 8
"""Pictures whose embeddings are kept while distances of pairs are read."""
ARMS: Final[Mapping[Side, Arm]] = {
    Side.BASE: Arm.BASE,
    Side.CONTROL: Arm.CONTROL,
    Side.UNTOUCHED: Arm.BASE,
    Side.CANDIDATE: Arm.CANDIDATE,
    Side.NEUTRAL: Arm.NEUTRAL,
    Side.PLACEBO: Arm.NEUTRAL,
}
"""Which arm's model makes a side's pictures."""


def choose_cases(suite: Suite, n: int) -> tuple[Case, ...]:
    """Cases by turns from the families, in the suite's order: the same suite gives the same panel.

    Args:
        suite: The held-out prompts.
        n: How many; fewer where the suite holds fewer.
    """
    rows: dict[str, list[Case]] = {}
    for case in suite.cases:
        rows.setdefault(case.family, []).append(case)
    turns = [(turn, case) for cases in rows.values() for turn, case in enumerate(cases)]
    return tuple(case for _, case in sorted(turns, key=lambda item: item[0])[:n])


def choose_figures(suite: Suite, n: int) -> tuple[Case, ...]:
    """The suite's first cases with figures."""
    return tuple(case for case in suite.cases if any(isinstance(check, AnatomyCheck) for check in case.checks))[:n]


def strengths_of(panel: PanelConfig, working: float) -> tuple[float, ...]:
    """The grid, ascending, with 0 and the working strength."""
    return tuple(sorted({0.0, working, *panel.strengths}))


def dial_of(panel: PanelConfig, settings: GenerationSettings) -> Dial:
    """Which of the sampler's parameters is the guidance."""
    if panel.dial != "auto":
        return panel.dial
    return "guidance_scale" if settings.true_cfg_scale is None else "true_cfg_scale"


@dataclass(frozen=True, slots=True)
class Look:
    """The pictures of one side at one setting, and what is known of them."""

    side: Side
    strength: float
    guidance: float | None
    aside: Aside

    def image_of(self) -> dict[Key, Image]:
        """(case, seed) to picture."""
        return {(image.cell.case, image.cell.seed): image for image in self.aside.images.made}

    def values(self, metric: str) -> dict[Key, float]:
        """(case, seed) to a cell metric's value, where there is one."""
        return values_of(self.aside.measured.measurements, metric=metric, arm=ARMS[self.side])

    def reason(self, metric: str) -> str | None:
        """The first reason why the metric has no value here."""
        return next((one.reason for one in self.aside.measured.unmeasured if one.metric == metric), None)

    def shots(self) -> tuple[Shot, ...]:
        """The pictures as a sweep records them."""
        return tuple(
            Shot(
                side=self.side,
                case=image.cell.case,
                seed=image.cell.seed,
                strength=self.strength,
                guidance=self.guidance,
                sha256=image.sha256,
            )
            for image in self.aside.images.made
        )


class _Relay(Observer):
    """Hands the pictures' progress on to one stage over all looks; the parts' own stages are not shown."""

    def __init__(self, outer: Observer) -> None:
        super().__init__()
        self._outer = outer

    def advanced(self, stage: str, n: int = 1) -> None:
        """A picture is made, or read."""
        if stage == "generating":
            self._outer.advanced(STAGE, n)

    def note(self, message: str) -> None:
        """Handed on."""
        self._outer.note(message)


@dataclass(slots=True)
class Looker:
    """Makes looks of one panel, each once."""

    run: Run
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    dial: Dial
    phrases: Mapping[Side, str]
    looks: dict[tuple[Side, float, float | None, str], Look] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """Settings of the run."""
        return self.run.config

    @property
    def usual(self) -> float | None:
        """The guidance of the settings."""
        value = getattr(self.config.generation, self.dial)
        return None if value is None else float(value)

    def look(
        self, side: Side, *, strength: float = 0.0, guidance: float | None = None, cases: Sequence[Case] | None = None
    ) -> Look:
        """Pictures of one side; asked for twice, made once.

        Args:
            side: Who makes them, from which prompt.
            strength: Adapter scale; 0 for sides without adapter.
            guidance: None for the settings'.
            cases: Instead of the panel's.
        """
        chosen = self.cases if cases is None else tuple(cases)
        value = self.usual if guidance is None else guidance
        key = side, strength, value, digest_of([case.id for case in chosen])
        if key not in self.looks:
            plan = self._plan(side, strength=strength, guidance=value, cases=chosen)
            aside = self.run.look_aside(plan, observer=_Relay(self.run.observer))
            self.looks[key] = Look(side, strength, value, aside)
        return self.looks[key]

    def _plan(self, side: Side, *, strength: float, guidance: float | None, cases: Sequence[Case]) -> Plan:
        arm = ARMS[side]
        scale = strength if arm.uses_adapter else 0.0
        cells = tuple(
            PlannedCell(
                cell=Cell(arm=arm, case=case.id, seed=seed, scale=scale), prompt=case.render(self.phrases[side])
            )
            for case in cases
            for seed in self.seeds
        )
        settings = self.config.generation
        if guidance is not None:
            settings = settings.model_copy(update={self.dial: guidance})
        return Plan(suite_digest=self.run.suite.content_digest(), settings=settings, cells=cells)


@dataclass(frozen=True, slots=True)
class StyleRuler:
    """How far pictures are from the training pictures, and how far those are from one another."""

    name: str
    """The judge's."""
    unit: str
    distances: Callable[[Look], dict[Key, float]]
    training: Floats
    """Mean distance of each training picture to the others, (m,)."""


def style_ruler(run: Run) -> StyleRuler | str:
    """What style is read with: LPIPS, else CLIP; or why there is neither.

    Training pictures must not meet themselves, so their own level is read with each left out.
    """
    training, judges = run.training, run.judges
    if training is None:
        return "style needs training pictures to compare with; none are configured ([training_set] folder)."
    if judges.lpips is not None and training.embedded is not None and len(training.embedded.kept) > 1:
        from lorabench.metrics.memorisation import leave_one_out

        return StyleRuler(
            judges.lpips.name, "LPIPS", _lpips_distances, training=mean_distances(leave_one_out(training.embedded))
        )
    if judges.clip is None:
        return f"style needs LPIPS or CLIP; {judges.why_absent('lpips')}; {judges.why_absent('clip')}."
    if len(training.decoded) < 2:
        return "style needs two training pictures at least; found one."
    return _clip_ruler(run)


def _lpips_distances(look: Look) -> dict[Key, float]:
    features = look.aside.features
    return {
        key: float(features.distances[image.sha256][0].mean())
        for key, image in look.image_of().items()
        if image.sha256 in features.distances
    }


def _clip_ruler(run: Run) -> StyleRuler:
    clip, training = run.judges.clip, run.training
    assert clip is not None
    assert training is not None
    from lorabench.storage.pictures import pixel_digest

    keys = [
        array_key(
            pixel_digest(one), encoder=clip.name, weights_digest=clip.weights_digest, parameters={"of": "picture"}
        )
        for one in training.decoded
    ]
    vectors = run.arrays.rows(keys, lambda missing: clip.encode_images([training.decoded[index] for index in missing]))
    among = 1.0 - (vectors @ vectors.T).astype(np.float64)
    own = among[~np.eye(len(among), dtype=bool)].reshape(len(among), -1)

    def distances(look: Look) -> dict[Key, float]:
        seen = look.aside.features.clip
        return {
            key: float(1.0 - (vectors @ seen[image.sha256]).mean(dtype=np.float64))
            for key, image in look.image_of().items()
            if image.sha256 in seen
        }

    return StyleRuler(clip.name, "1 - cosine", distances, training=mean_distances(own))


def pair_distances(run: Run, pairs: Sequence[tuple[Image, Image]]) -> tuple[Floats, str]:
    """Distances of pairs of pictures: LPIPS, or without it how much palette and structure differ.

    Args:
        run: Whose pictures they are.
        pairs: n pairs.

    Returns:
        (n,), and the name of the distance.
    """
    lpips = run.judges.lpips
    name = "palette and structure" if lpips is None else "lpips"
    encoder = "pair-palette-structure-1" if lpips is None else f"pair-{lpips.name}"
    weights = "" if lpips is None else lpips.weights_digest
    keys = [
        array_key(digest_of([one.sha256, other.sha256]), encoder=encoder, weights_digest=weights)
        for one, other in pairs
    ]

    reader = _PairReader(run)

    def compute(missing: list[int]) -> NDArray[np.float32]:
        return np.array([[reader.distance(*pairs[index])] for index in missing], dtype=np.float32)

    if not pairs:
        return np.empty(0), name
    return run.arrays.rows(keys, compute)[:, 0].astype(np.float64), name


@dataclass(slots=True)
class _PairReader:
    """Distances of pairs; pairs that share a picture follow one another, so the last few are kept."""

    run: Run
    kept: dict[str, tuple[Floats, ...]] = field(default_factory=dict)

    def distance(self, one: Image, other: Image) -> float:
        """Squared LPIPS distance, or without LPIPS the sum of palette's and structure's distances."""
        if one.sha256 == other.sha256:
            return 0.0
        parts = zip(self._read(one), self._read(other), strict=True)
        if self.run.judges.lpips is not None:
            return float(sum(np.square(a - b).sum() for a, b in parts))
        return float(sum(np.linalg.norm(a - b) for a, b in parts))

    def _read(self, image: Image) -> tuple[Floats, ...]:
        if image.sha256 not in self.kept:
            self.kept[image.sha256] = self._vectors(image)
            while len(self.kept) > KEPT:
                del self.kept[next(iter(self.kept))]
        return self.kept[image.sha256]

    def _vectors(self, image: Image) -> tuple[Floats, ...]:
        from lorabench.metrics.palette import palette_embedding
        from lorabench.metrics.structure import structure_descriptor

        picture, lpips = self.run.picture(image), self.run.judges.lpips
        if lpips is not None:
            return (lpips.embed([picture])[0].astype(np.float64),)
        return palette_embedding(picture).astype(np.float64), structure_descriptor(picture).astype(np.float64)
