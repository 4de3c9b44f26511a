"""The way through, strung together: an open `Run`, and `evaluate()` from suite to results."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from lorabench import __version__
from lorabench.errors import MeasurementError, SpecError
from lorabench.evaluation.assembling import Evidence, assemble
from lorabench.evaluation.baseline_gates import check_comparable
from lorabench.evaluation.candidate_examination import examined
from lorabench.evaluation.encoding import STAGE as ENCODING
from lorabench.evaluation.encoding import Encoder, Features
from lorabench.evaluation.gates import configured_gates
from lorabench.evaluation.generating import generate
from lorabench.evaluation.judge_set import JudgeSet, load_judges
from lorabench.evaluation.measuring import Measured, Rulers, measure, prompt_texts
from lorabench.evaluation.observer import Observer
from lorabench.evaluation.planning import plan_cells
from lorabench.evaluation.training_look import Training, look_at_training, open_references, open_training
from lorabench.generation.adapter import AdapterFile, read_adapter
from lorabench.metrics.photo_look import TEXTS as PHOTO_LOOK_TEXTS
from lorabench.records.images import FailedCell, Image, Images
from lorabench.records.measurement import Measurement, Unmeasured
from lorabench.records.plan import Arm, Plan
from lorabench.records.record import digest_of
from lorabench.records.results import AdapterInfo, CheckOutcome, Provenance, Results
from lorabench.registry import BACKENDS
from lorabench.storage.arrays import ArrayCache
from lorabench.storage.atomic import write_bytes
from lorabench.storage.baselines import BaselineStore
from lorabench.storage.pictures import PictureCache, to_png
from lorabench.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.generation.protocol import Backend
    from lorabench.records.baseline import Baseline
    from lorabench.records.config import Config
    from lorabench.records.suite import Suite
    from lorabench.storage.training_set import TrainingSet

VERSIONS = ("torch", "diffusers", "transformers", "peft", "open_clip_torch", "lpips", "numpy", "scipy", "scikit-learn")


class NoBaseError(SpecError):
    """No base model is named."""

    def __init__(self) -> None:
        super().__init__(
            'a run needs a base model; none is named. Give --base, or `base = "..."` under [model] in lorabench.toml.'
        )


class NoPicturesError(MeasurementError):
    """Not one picture could be made."""

    def __init__(self, failed: Sequence[FailedCell]) -> None:
        super().__init__(
            f"a verdict needs pictures; none of {len(failed)} could be made. First reason: {failed[0].reason} "
            "Mend that and run again."
        )
        self.failed = tuple(failed)


class NothingPlannedError(SpecError):
    """No arm can be made."""

    def __init__(self, arms: Sequence[str]) -> None:
        super().__init__(
            f"a run needs an arm that it can make; found only {', '.join(arms) or 'none'}, and no adapter is named. "
            "Add B1 to the arms, or give --lora."
        )
        self.arms = tuple(arms)


class PictureGoneError(MeasurementError):
    """A picture went away while the run was at work."""

    def __init__(self, image: Image) -> None:
        super().__init__(f"a run's pictures must stay in the cache; that of {image.cell.key} is gone. Run again.")
        self.image = image


@dataclass(frozen=True, slots=True)
class CaseView:
    """What is known of one case.

    Attributes:
        images: Pictures of all arms, in the order of the plan.
        failed: Cells without a picture.
        measurements: Numbers on the pictures that need no other case.
        checks: Outcome of each check on each picture.
        unmeasured: What could not be measured, and why.
    """

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
    training = open_training(
        config.training_set,
        suite=suite,
        style=config.style,
        line_of=line_of,
        size=(config.generation.height, config.generation.width),
        observer=observer,
    )
    return Run(
        config,
        suite=suite,
        observer=observer,
        backend=backend,
        judges=judges or load_judges(config.judges, memorisation=training is not None),
        adapter=adapter,
        training=training,
        references=open_references(config, training=training),
        baseline=_baseline(config, suite=suite, backend=backend),
        pictures=PictureCache(cache_dir / "pictures"),
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


@dataclass(frozen=True, slots=True)
class Aside:
    """Pictures that are no part of a run's own plan, and what is known of them.

    Attributes:
        images: The pictures, and cells without one.
        features: What judges and pixel measures say of them.
        measured: Numbers that need nothing but the picture, its case and the judges.
    """

    images: Images
    features: Features
    measured: Measured


class Run:
    """One suite, one candidate. Cases are made and measured when asked for; `finish` judges them all.

    Made by `open_run`. Whoever finishes a run claims its folder first (`run.folder.claimed()`), as `evaluate` does.

    Attributes:
        config: Settings.
        suite: The held-out prompts.
        observer: Hears of progress.
        backend: Makes pictures; may be handed to the next run.
        judges: Look at pictures; may be handed to the next run.
        adapter: The candidate; None for the base alone.
        gates: What `finish` decides, but for gates against a baseline.
        plan: All cells of the run.
    """

    def __init__(
        self,
        config: Config,
        *,
        suite: Suite,
        observer: Observer,
        backend: Backend,
        judges: JudgeSet,
        adapter: AdapterFile | None,
        training: TrainingSet | None,
        references: TrainingSet | None,
        baseline: Baseline | None,
        pictures: PictureCache,
        arrays: ArrayCache,
        cache_only: bool,
        command: str,
    ) -> None:
        self.config, self.suite, self.observer = config, suite, observer
        self.backend, self.judges, self.adapter = backend, judges, adapter
        self.gates = configured_gates(
            config.gates, suite=suite, training=training is not None, brand=config.training_set.brand_palette
        )
        self._training_set, self._references, self._baseline = training, references, baseline
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
        if not self.plan.cells:
            raise NothingPlannedError(config.arms)
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
            "training": [] if self._training_set is None else list(self._training_set.digests),
            "references": [] if self._references is None else list(self._references.digests),
            "brand": self.config.training_set.brand_palette,
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
        """Make (or find in the cache) and measure all arms' pictures of these cases. Asking again costs nothing.

        Args:
            case_ids: Ids of cases; those that the plan leaves out have no pictures.

        Raises:
            MeasurementError: The candidate does not fit the base, or the disk is full. What was made before is cached.
        """
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
        """What is known of one case; makes and measures it if needed. Errors are those of `measure_cases`."""
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
            PictureGoneError: It has gone from the cache.
        """
        stored = self._pictures.get(image.cache_key)
        if stored is None:
            raise PictureGoneError(image)
        return stored.picture

    def close(self) -> None:
        """Let go of the pictures' features. Nothing new can be asked of a closed run; results that were given stay."""
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

    def look_aside(self, plan: Plan, *, observer: Observer | None = None) -> Aside:
        """Make (or find in the cache) and measure pictures beside the plan: other strengths, settings or prompts.

        They take no part in what `finish` judges.

        Args:
            plan: Cells of this run's suite.
            observer: Hears of progress instead of the run's own.

        Raises:
            MeasurementError: The candidate does not fit the base, or the disk is full. What was made before is cached.
        """
        images = generate(
            plan,
            backend=self.backend,
            cache=self._pictures,
            adapter=self.adapter,
            observer=observer or self.observer,
            cache_only=self._cache_only,
        )
        encoder = self._new_encoder(observer or self.observer, aside=True)
        encoder.encode(images.made)
        encoder.encode_texts(self._texts([planned.cell.case for planned in plan.cells]))
        return Aside(images, encoder.features, measure(images.made, encoder.features, rulers=self.rulers))

    @property
    def rulers(self) -> Rulers:
        """What pictures are measured with."""
        return self._rulers

    @property
    def arrays(self) -> ArrayCache:
        """The cache of features."""
        return self._arrays

    @property
    def training(self) -> Training | None:
        """The training pictures after the round trip through the base's autoencoder; None where none are configured."""
        return self._training

    def export_picture(self, image: Image, target: Path) -> None:
        """Put a picture's PNG where it outlives the cache.

        Raises:
            PictureGoneError: It has gone from the cache.
        """
        if not target.exists() and not self._pictures.export(image.cache_key, target):
            raise PictureGoneError(image)

    def provenance(self, *, n_generated: int, n_from_cache: int) -> Provenance:
        """What makes this run's numbers, for pictures that were counted elsewhere."""
        counts = {"n_generated": n_generated, "n_from_cache": n_from_cache}
        return self._provenance().model_copy(update=counts)

    @cached_property
    def _encoder(self) -> Encoder:
        return self._new_encoder(self.observer)

    def _new_encoder(self, observer: Observer, *, aside: bool = False) -> Encoder:
        return Encoder(
            suite=self.suite,
            judges=self.judges,
            arrays=self._arrays,
            read_picture=self.picture,
            size=(self.config.generation.height, self.config.generation.width),
            training=None if self._training is None else self._training.embedded,
            observer=observer,
            describes=not aside and self._training is not None,
            sketches=self._training is not None,
            base_neighbours=aside,
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
    def _training(self) -> Training | None:
        """The training pictures after the round trip; the base's autoencoder is not asked before a picture is."""
        if self._training_set is None:
            return None
        with self.observer.stage(ENCODING):
            return look_at_training(
                self._training_set,
                backend=self.backend,
                pictures=self._pictures,
                lpips=self.judges.lpips,
                arrays=self._arrays,
                descriptor=self.judges.descriptor,
                reader=self.judges.reader,
                clip=self.judges.clip,
                references=self._references,
            )

    def _texts(self, case_ids: Sequence[str]) -> list[str]:
        wanted = set(case_ids)
        looks = () if self._training_set is None else PHOTO_LOOK_TEXTS
        return [
            *looks,
            *(
                text
                for case in self.suite.cases
                if case.id in wanted
                for prompt, foils in [prompt_texts(case, self.config.style)]
                for text in (prompt, *foils)
            ),
        ]

    def _all_images(self) -> list[Image]:
        return [image for images in self._images.values() for image in images.made]

    def _all_failed(self) -> list[FailedCell]:
        return [cell for images in self._images.values() for cell in images.failed]

    def _judged(self) -> Results:
        evidence = Evidence(
            config=self.config,
            suite=self.suite,
            plan=self.plan,
            gates=self.gates,
            images=tuple(self._all_images()),
            failed=tuple(self._all_failed()),
            measured=tuple(self._measured.values()),
            features=self._encoder.features,
            rulers=self._rulers,
            training=self._training,
            adapter=None if self.adapter is None else self._examined(self.adapter),
            baseline=self._baseline,
        )
        base = self.backend.base_info()
        return assemble(evidence, run_id=self.folder.run_id, base=base, provenance=self._provenance())

    def _examined(self, adapter: AdapterFile) -> AdapterInfo:
        """The candidate's record, with what its file shows without a picture."""
        return examined(adapter, backend=self.backend, cache_dir=self.config.cache_dir or default_cache_dir())

    def _keep_pictures(self, results: Results) -> None:
        """Put every picture of the run into its folder, so that it can be moved and read anywhere."""
        for image in results.images:
            path = self.folder.picture_path(image.sha256)
            if not path.exists() and not self._pictures.export(image.cache_key, path):
                raise PictureGoneError(image)
        if self._training_set is not None:
            for sha256, picture in zip(self._training_set.digests, self._training_set.pictures, strict=True):
                path = self.folder.picture_path(sha256)
                if not path.exists():
                    write_bytes(path, to_png(picture))

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


def _baseline(config: Config, *, suite: Suite, backend: Backend) -> Baseline | None:
    if config.baseline is None:
        return None
    baseline = BaselineStore(config.baselines_dir).read(config.baseline)
    check_comparable(baseline, suite=suite, base=backend.base_info(), settings=config.generation)
    return baseline


def _installed(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
