"""The way through, strung together: an open `Run`, and `evaluate()` from suite to results."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from lorabench import __version__
from lorabench.errors import MeasurementError, SpecError
from lorabench.evaluation.baseline_gates import check_comparable, compare_with_baseline
from lorabench.evaluation.comparing import compare, values_of
from lorabench.evaluation.encoding import Encoder
from lorabench.evaluation.gates import Gate, configured_gates
from lorabench.evaluation.generating import generate
from lorabench.evaluation.indices import (
    Resampling,
    palette_collapse_of,
    palette_pull_of,
    photo_bleed_of,
    set_measurement,
)
from lorabench.evaluation.judge_set import JudgeSet, load_judges
from lorabench.evaluation.judging import conclude, judge
from lorabench.evaluation.measuring import (
    CELL_METRICS,
    Measured,
    Rulers,
    detector_self_test,
    figures_found,
    measure,
    measure_copies,
    measure_foils,
    prompt_texts,
    self_test,
)
from lorabench.evaluation.observer import Observer
from lorabench.evaluation.planning import plan_cells
from lorabench.evaluation.training_look import Training, open_training
from lorabench.generation.adapter import AdapterFile, read_adapter
from lorabench.metrics.anatomy import detector_problem
from lorabench.registry import BACKENDS, METRICS
from lorabench.records.baseline import Baseline
from lorabench.records.comparison import Comparison, Verdict
from lorabench.records.config import Config
from lorabench.records.images import FailedCell, Image, Images
from lorabench.records.measurement import Measurement, Metric, SelfTest, SetMeasurement, Unmeasured
from lorabench.records.plan import Arm, Plan
from lorabench.records.record import digest_of
from lorabench.records.results import CellDetections, CheckOutcome, Provenance, Results
from lorabench.records.suite import Suite
from lorabench.storage.arrays import ArrayCache
from lorabench.storage.atomic import write_bytes
from lorabench.storage.baselines import BaselineStore
from lorabench.storage.pictures import PictureCache
from lorabench.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorabench.generation.protocol import Backend

VERSIONS = ("torch", "diffusers", "transformers", "peft", "open_clip_torch", "lpips", "numpy", "scipy", "scikit-learn")
SHOWN_BY_FAMILY = ("prompt_following_score", "anatomy_score", "palette_compliance_score", "clip_text_similarity")
"""Cell metrics that are also compared family by family, for the reader."""


class NoBaseError(SpecError):
    """No base model is named."""

    def __init__(self) -> None:
        super().__init__(
            "a run needs a base model; none is named. Give --base, or `base = \"...\"` under [model] in lorabench.toml."
        )


class NoPicturesError(MeasurementError):
    """Not one picture could be made."""

    def __init__(self, failed: Sequence[FailedCell]) -> None:
        super().__init__(
            f"a verdict needs pictures; none of {len(failed)} could be made. First reason: {failed[0].reason} "
            "Mend that and run again."
        )
        self.failed = tuple(failed)


@dataclass(frozen=True, slots=True)
class CaseView:
    """What is known of one case."""

    images: tuple[Image, ...]
    failed: tuple[FailedCell, ...]
    measurements: tuple[Measurement, ...]
    checks: tuple[CheckOutcome, ...]
    unmeasured: tuple[Unmeasured, ...]


def default_cache_dir() -> Path:
    """The user's cache of pictures and features."""
    return Path(platformdirs.user_cache_dir("lorabench", appauthor=False))


def open_run(
    config: Config,
    *,
    suite: Suite,
    observer: Observer | None = None,
    backend: Backend | None = None,
    judges: JudgeSet | None = None,
    line_of: Mapping[str, int] | None = None,
    cache_only: bool = False,
    command: str = "",
) -> Run:
    """Open a run: read the adapter and the training set, check that prompts are held out, plan the pictures.

    Makes no picture yet.

    Args:
        config: Settings.
        suite: The held-out prompts.
        observer: Hears of progress.
        backend: Instead of the configured one.
        judges: Instead of the configured ones.
        line_of: Case id to line of the suite's file, for messages.
        cache_only: Never make a picture; those that are not in the cache count as failed.
        command: What a person would type to repeat the run.

    Raises:
        SpecError: Suite, settings or adapter file are wrong; a prompt equals a training caption.
        MeasurementError: Adapter, training pictures or baseline cannot be used.
    """
    observer = observer or Observer()
    if backend is None and not config.model.base and config.model.backend == "diffusers":
        raise NoBaseError
    cache_dir = config.cache_dir or default_cache_dir()
    adapter = read_adapter(Path(config.candidate.lora), alpha=config.candidate.alpha) if config.candidate.lora else None
    backend = backend or BACKENDS.load(config.model.backend)(config.model, cache_dir=cache_dir)
    pictures = PictureCache(cache_dir / "pictures")
    training = open_training(
        config.training_set,
        suite=suite,
        style=config.style,
        line_of=line_of,
        size=(config.generation.height, config.generation.width),
        observer=observer,
    )
    baseline = None
    if config.baseline is not None:
        baseline = BaselineStore(config.baselines_dir).read(config.baseline)
    return Run(
        config,
        suite=suite,
        observer=observer,
        backend=backend,
        judges=judges or load_judges(config.judges, memorisation=training is not None),
        adapter=adapter,
        training=training,
        baseline=baseline,
        pictures=pictures,
        arrays=ArrayCache(cache_dir / "features"),
        cache_only=cache_only,
        command=command,
    )


def evaluate(
    config: Config,
    *,
    suite: Suite,
    observer: Observer | None = None,
    backend: Backend | None = None,
    judges: JudgeSet | None = None,
    line_of: Mapping[str, int] | None = None,
    cache_only: bool = False,
    command: str = "",
) -> Results:
    """Suite → Plan → Images → Features → Measurements → Comparisons → Verdicts, written to the run's folder.

    Arguments and errors are those of `open_run`; `Run.finish` has the rest.
    """
    run = open_run(
        config,
        suite=suite,
        observer=observer,
        backend=backend,
        judges=judges,
        line_of=line_of,
        cache_only=cache_only,
        command=command,
    )
    with run.folder.claimed():
        return run.finish()


class Run:
    """One suite, one candidate. Cases are made and measured when asked for; `finish` judges them all."""

    def __init__(
        self,
        config: Config,
        *,
        suite: Suite,
        observer: Observer,
        backend: Backend,
        judges: JudgeSet,
        adapter: AdapterFile | None,
        training: Training | None,
        baseline: Baseline | None,
        pictures: PictureCache,
        arrays: ArrayCache,
        cache_only: bool,
        command: str,
    ) -> None:
        self.config, self.suite, self.observer = config, suite, observer
        self.backend, self.judges, self.adapter = backend, judges, adapter
        self.gates = configured_gates(config.gates)
        self._training, self._baseline = training, baseline
        self._pictures, self._arrays = pictures, arrays
        self._cache_only, self._command = cache_only, command
        arms = [Arm(name) for name in config.arms]
        self.plan: Plan = plan_cells(
            suite,
            style=config.style,
            settings=config.generation,
            arms=[arm for arm in arms if adapter is not None or not arm.uses_adapter],
            scale=config.candidate.scale,
            seeds=config.seeds,
            limit=config.limit,
        )
        self._images: dict[str, Images] = {}
        self._measured: dict[str, Measured] = {}
        self._results: Results | None = None

    @cached_property
    def folder(self) -> RunFolder:
        """Named by everything that decides the run's numbers: the same command finds the same folder."""
        adapter = None if self.adapter is None else self.adapter.info.digest
        decides = {
            "plan": self.plan.content_digest(),
            "adapter": adapter,
            "backend": dict(sorted(self.backend.fingerprint().items())),
            "judges": self.judges.digests(),
            "training": [] if self._training is None else list(self._training.pictures.digests),
            "statistics": self.config.statistics.model_dump(mode="json"),
            "gates": {name: gate.model_dump(mode="json") for name, gate in self.config.gates.items()},
            "baseline": None if self._baseline is None else self._baseline.run_id,
            "version": __version__,
        }
        name = "base" if self.adapter is None else self.adapter.info.name
        return RunFolder.of(self.config.runs_dir, suite=self.suite.name, candidate=name, digest=digest_of(decides))

    @property
    def n_generated(self) -> int:
        """Pictures made by this process."""
        return len({image.cache_key for image in self._all_images() if not image.from_cache})

    @property
    def n_from_cache(self) -> int:
        """Pictures found in the cache."""
        return len({image.cache_key for image in self._all_images() if image.from_cache})

    def measure_cases(self, case_ids: Iterable[str]) -> None:
        """Make (or find in the cache) and measure all arms' pictures of these cases. Asking again costs nothing."""
        wanted = [case for case in dict.fromkeys(case_ids) if case not in self._measured]
        if not wanted:
            return
        planned = [cell for cell in self.plan.cells if cell.cell.case in set(wanted)]
        part = self.plan.model_copy(update={"cells": tuple(planned)})
        images = generate(
            part,
            backend=self.backend,
            cache=self._pictures,
            adapter=self.adapter,
            observer=self.observer,
            cache_only=self._cache_only,
        )
        self._encoder.encode(images.made)
        self._encoder.encode_texts(self._texts(wanted))
        for case in wanted:
            of_case = Images(
                made=tuple(image for image in images.made if image.cell.case == case),
                failed=tuple(cell for cell in images.failed if cell.cell.case == case),
            )
            self._images[case] = of_case
            self._measured[case] = measure(of_case.made, self._encoder.features, rulers=self._rulers)

    def case(self, case_id: str) -> CaseView:
        """What is known of one case; makes and measures it if needed."""
        self.measure_cases([case_id])
        measured = self._measured[case_id]
        return CaseView(
            images=self._images[case_id].made,
            failed=self._images[case_id].failed,
            measurements=tuple(measured.measurements),
            checks=tuple(measured.checks),
            unmeasured=tuple(measured.unmeasured),
        )

    def picture(self, image: Image) -> NDArray[np.uint8]:
        """The pixels of an image of this run.

        Raises:
            MeasurementError: It has gone from the cache.
        """
        stored = self._pictures.get(image.cache_key)
        if stored is None:
            msg = f"a run's pictures must stay in the cache; that of {image.cell.key} is gone. Run again."
            raise MeasurementError(msg)
        return stored.picture

    def close(self) -> None:
        """Let go of the models."""
        self.__dict__.pop("_encoder", None)

    def finish(self) -> Results:
        """Pull every case, compare, judge, and write plan, pictures and results into the run's folder.

        Raises:
            NoPicturesError: Not one picture could be made.
            MeasurementError: The baseline does not fit, or the disk is full.
        """
        if self._results is not None:
            return self._results
        self.folder.write_plan(self.plan)
        self.measure_cases(dict.fromkeys(cell.cell.case for cell in self.plan.cells))
        if not self._all_images():
            raise NoPicturesError(self._all_failed())
        with self.observer.stage("judging"):
            self._results = self._judged()
        self._keep_pictures(self._results)
        self.folder.write_results(self._results)
        return self._results

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(
            suite=self.suite,
            judges=self.judges,
            arrays=self._arrays,
            read_picture=self.picture,
            size=(self.config.generation.height, self.config.generation.width),
            training=self._embedded_training,
            observer=self.observer,
        )

    @cached_property
    def _rulers(self) -> Rulers:
        return Rulers.of(
            self.suite,
            style=self.config.style,
            judges=self.judges,
            labels=self._encoder.labels,
            read_picture=self.picture,
        )

    @cached_property
    def _embedded_training(self):  # type: ignore[no-untyped-def]
        if self._training is None:
            return None
        self._training.pass_through(self.backend, pictures=self._pictures)
        return self._training.embedded(self.judges.lpips, arrays=self._arrays)

    def _texts(self, case_ids: Sequence[str]) -> list[str]:
        wanted = set(case_ids)
        return [
            text
            for case in self.suite.cases
            if case.id in wanted
            for prompt, foils in [prompt_texts(case, self.config.style)]
            for text in (prompt, *foils)
        ]

    def _all_images(self) -> list[Image]:
        return [image for images in self._images.values() for image in images.made]

    def _all_failed(self) -> list[FailedCell]:
        return [cell for images in self._images.values() for cell in images.failed]

    def _judged(self) -> Results:
        images, features = self._all_images(), self._encoder.features
        tests = self_test(images, features, rulers=self._rulers)
        detector_tests = detector_self_test(images, features, rulers=self._rulers)
        copied, neighbours = measure_copies(
            images,
            features,
            training=self._embedded_training,
            why_not=self.judges.why_absent("lpips"),
        )
        parts = [*self._measured.values(), copied, measure_foils(images, features, rulers=self._rulers, tests=tests)]
        measurements = [item for part in parts for item in part.measurements]
        unmeasured = [item for part in parts for item in part.unmeasured]
        indices = self._indices()
        found, shown = self._comparisons(
            measurements, indices, unmeasured=unmeasured, self_tests=(*tests, *detector_tests)
        )
        verdicts = judge(self.gates, found, significance_level=self.config.statistics.significance_level)
        gates: tuple[Gate, ...] = self.gates
        if self._baseline is not None:
            base_gates, base_found = compare_with_baseline(
                self._baseline,
                measurements,
                gates=self.gates,
                confidence_level=self.config.statistics.confidence_level,
            )
            gates = (*gates, *base_gates)
            verdicts = (
                *verdicts,
                *judge(base_gates, base_found, significance_level=self.config.statistics.significance_level),
            )
        unmeasured += [item for item in indices if isinstance(item, Unmeasured)]
        unmeasured += [item for item in shown if isinstance(item, Unmeasured)]
        missing = self._missing()
        gated = [verdict.comparison for verdict in verdicts if verdict.comparison is not None]
        return Results(
            run_id=self.folder.run_id,
            suite=self.suite,
            style=self.config.style,
            settings=self.config.generation,
            base=self.backend.base_info(),
            candidate=None if self.adapter is None else self.adapter.info,
            plan=self.plan.cells,
            images=tuple(images),
            failed=tuple(self._all_failed()),
            training=() if self._training is None else self._training.records(),
            metrics=self._metrics(measurements, verdicts),
            measurements=tuple(measurements),
            set_measurements=self._set_measurements(indices),
            unmeasured=tuple(unmeasured),
            neighbours=tuple(neighbours),
            detections=tuple(
                CellDetections(cell=image.cell, detections=features.detections[image.sha256])
                for image in images
                if image.sha256 in features.detections
            ),
            checks=tuple(item for part in self._measured.values() for item in part.checks),
            palettes={image.cell.key: features.colors[image.sha256] for image in images},
            self_tests=(*tests, *detector_tests),
            comparisons=(*gated, *[item for item in shown if isinstance(item, Comparison)]),
            gates=verdicts,
            verdict=conclude(
                verdicts, gates, complete=missing is None, missing=missing, identical=self._identical(images)
            ),
            provenance=self._provenance(),
        )

    def _indices(self) -> list[Comparison | Unmeasured]:
        if self.adapter is None:
            return []
        statistics = self.config.statistics
        resampling = Resampling(statistics.seed, statistics.n_resamples, statistics.confidence_level)
        features, scale = self._encoder.features, self.config.candidate.scale
        look = None if self._training is None else self._training.look()
        return [
            palette_collapse_of(features, scale=scale, resampling=resampling),
            palette_pull_of(features, look, scale=scale, resampling=resampling),
            photo_bleed_of(features, look, scale=scale, resampling=resampling),
        ]

    def _set_measurements(self, indices: Sequence[Comparison | Unmeasured]) -> tuple[SetMeasurement, ...]:
        return tuple(
            set_measurement(
                item, arm=Arm.CANDIDATE, scale=self.config.candidate.scale, n_pictures=item.n_pairs
            )
            for item in indices
            if isinstance(item, Comparison)
        )

    def _comparisons(
        self,
        measurements: Sequence[Measurement],
        indices: Sequence[Comparison | Unmeasured],
        *,
        unmeasured: Sequence[Unmeasured],
        self_tests: Sequence[SelfTest],
    ) -> tuple[dict[str, Comparison | Unmeasured], list[Comparison | Unmeasured]]:
        """Gate name to what was found, and the comparisons that are only shown."""
        by_metric = {item.metric: item for item in indices}
        found: dict[str, Comparison | Unmeasured] = {}
        identical = self._identical(self._all_images())
        why = {item.metric: item.reason for item in reversed(unmeasured)}
        for gate in self.gates:
            if gate.metric in by_metric:
                found[gate.name] = by_metric[gate.metric]
            elif problem := self._sensor_problem(gate, self_tests):
                found[gate.name] = Unmeasured(metric=gate.metric, reason=problem)
            else:
                comparison = self._compared(
                    gate.metric, measurements, "B1", support=gate.support, same_pictures=identical
                )
                if isinstance(comparison, Unmeasured) and gate.metric in why:
                    comparison = comparison.model_copy(update={"reason": why[gate.metric]})
                found[gate.name] = comparison
        shown: list[Comparison | Unmeasured] = []
        for metric in CELL_METRICS:
            shown.append(self._compared(metric.name, measurements, "B0"))
        for name in SHOWN_BY_FAMILY:
            for family in self.suite.families:
                shown.append(self._compared(name, measurements, "B1", family=family, support=(-1.0, 1.0)))
        kept = [item for item in shown if isinstance(item, Comparison)]
        return found, [*kept]

    def _compared(
        self,
        name: str,
        measurements: Sequence[Measurement],
        reference: str,
        *,
        family: str | None = None,
        support: tuple[float, float] | None = None,
        same_pictures: bool = False,
    ) -> Comparison | Unmeasured:
        metric: Metric = METRICS.load(name)
        cases = {case.id for case in self.suite.cases if family is None or case.family == family}
        chosen = [item for item in measurements if item.cell.case in cases]
        return compare(
            metric,
            values_of(chosen, metric=name, arm=Arm.CANDIDATE),
            values_of(chosen, metric=name, arm=Arm(reference)),
            candidate_arm=Arm.CANDIDATE,
            reference_name=reference,  # type: ignore[arg-type]
            family=family,
            confidence_level=self.config.statistics.confidence_level,
            support=support,
            same_pictures=same_pictures,
        )

    def _sensor_problem(self, gate: Gate, self_tests: Sequence[SelfTest]) -> str | None:
        """Why the gate's sensor does not work on the control's pictures; None if it does, or has no self-test."""
        detector = self.judges.detector
        if gate.kind == "prompt" and detector is not None:
            tests = [test for test in self_tests if test.judge == detector.name]
            if tests and not tests[0].usable:
                return (
                    f"judge at chance: on the control's pictures {detector.name} prefers a picture's own checks in "
                    f"{tests[0].win_rate:.0%} of {tests[0].n_cases} cases (chance {tests[0].chance:.0%})."
                )
        if gate.kind == "anatomy" and detector is not None:
            found = figures_found(self._all_images(), self._encoder.features, rulers=self._rulers)
            return detector_problem(found, where="the control's pictures")
        return None

    def _identical(self, images: Sequence[Image]) -> bool:
        """Whether every candidate picture is bit-equal to its control."""
        control = {(i.cell.case, i.cell.seed): i.sha256 for i in images if i.cell.arm is Arm.CONTROL}
        candidate = {(i.cell.case, i.cell.seed): i.sha256 for i in images if i.cell.arm is Arm.CANDIDATE}
        return bool(candidate) and candidate == control

    def _missing(self) -> str | None:
        """What is missing from a complete run, in words."""
        n_cases = len({cell.cell.case for cell in self.plan.cells})
        if n_cases < len(self.suite.cases):
            return f"{n_cases} of {len(self.suite.cases)} cases"
        if failed := self._all_failed():
            return f"{len(failed)} of {len(self.plan.cells)} pictures could not be made"
        return None

    def _metrics(self, measurements: Sequence[Measurement], verdicts: Sequence[Verdict]) -> tuple[Metric, ...]:
        used = {item.metric for item in measurements} | {verdict.metric for verdict in verdicts}
        names = [metric.name for metric in CELL_METRICS] + ["palette_collapse", "palette_pull", "photo_bleed"]
        return tuple(METRICS.load(name) for name in names if name in used or name == "palette_pull")

    def _keep_pictures(self, results: Results) -> None:
        """Put every picture of the run into its folder, so that it can be moved and read anywhere."""
        for image in results.images:
            self._keep(image.sha256, lambda image=image: self.picture(image))  # type: ignore[misc]
        if self._training is not None:
            for sha, picture in zip(self._training.pictures.digests, self._training.pictures.pictures, strict=True):
                self._keep(sha, lambda picture=picture: picture)  # type: ignore[misc]

    def _keep(self, sha256: str, pixels: Callable[[], NDArray[np.uint8]]) -> None:
        from lorabench.storage.pictures import to_png

        path = self.folder.pictures / f"{sha256}.png"
        if not path.exists():
            write_bytes(path, to_png(pixels()))

    def _provenance(self) -> Provenance:
        return Provenance(
            lorabench_version=__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={"python": platform.python_version(), **_installed(VERSIONS)},
            judges=self.judges.digests(),
            hardware_class=f"{self.backend.base_info().device_class}, {platform.machine()}, {sys.platform}",
            timings=dict(self.observer.seconds),
            n_generated=self.n_generated,
            n_from_cache=self.n_from_cache,
            command=self._command,
        )


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["CaseView", "NoBaseError", "NoPicturesError", "Run", "check_comparable", "evaluate", "open_run"]
