"""Settings of a run: `lorabench.toml`, `[tool.lorabench]`, `LORABENCH_*` and the command line end up here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.records.record import Record


class ModelConfig(Record):
    """The base model and where it runs."""

    base: str = ""
    """Folder of a diffusers pipeline, or a hub id."""
    training_base: str = ""
    """The base that the adapter was trained on, where it is another one: `lorabench run` then judges it on both."""
    family: Literal["auto", "flux", "flux2", "sdxl", "sd15"] = "auto"
    backend: str = "diffusers"
    revision: str | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_size: NonNegativeInt = 0
    """Largest number of pictures made jointly; 0 lets the backend choose."""


class CandidateConfig(Record):
    """The adapter under test."""

    lora: str = ""
    scale: FiniteFloat = 1.0
    alpha: PositiveFloat | None = None
    """States alpha for files that carry none."""


class TrainingSetConfig(Record):
    """The pictures the adapter was trained on; memorisation, texture and palette are read against them."""

    folder: Path | None = None
    captions: Path | None = None
    """Captions as JSON lines (`file`, `text`); None looks for `captions.jsonl` and `<picture>.txt` in the folder."""
    references: Path | None = None
    """Pictures of the same character or thing that were not trained on; identity is read against them."""
    brand_palette: bool = False
    """The training palette is wanted whatever colours a prompt asks for: gate `brand` replaces `palette-collapse`."""


class JudgesConfig(Record):
    """The networks that look at pictures. Empty turns a judge off; its metrics are then unmeasured and say so."""

    clip: str = ""
    """open_clip model name, or `local-dir:<folder>`."""
    clip_pretrained: str = ""
    """open_clip pretrained tag or a path to weights; unused with `local-dir:`."""
    detector: str = ""
    """`oracle` (mini world), or `owlv2:<folder or id>`, `grounding-dino:<folder or id>`."""
    vocabulary: str = "nouns"
    """Things nobody asked for that an open-vocabulary detector looks for: `nouns` (the shipped list), or a like file.
    Empty looks for none. The mini world's oracle knows all there is and needs no list."""
    ocr: Literal["", "off", "rapidocr"] = ""
    """Text reader; `rapidocr` needs the extra `ocr`."""
    ocr_languages: str = ""
    """Languages in which the program Tesseract reads what the text reader cannot, as in `rus+ara`; none if empty."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    lpips_weights: Path | None = None
    """File of trunk weights; None looks into the weights cache and then into torchvision's."""
    copy_descriptor: str = ""
    """SSCD model that finds edited copies: empty takes the installed package's where there is one, `distilled` its
    small one, `off` none; else a file, ONNX or the TorchScript file of its authors."""
    copy_descriptor_sha256: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{64})?$")] = ""
    """What a named file must hash to; empty records the digest and checks nothing."""
    device: str = "auto"


class GateConfig(Record):
    """Changes to one default gate."""

    margin: PositiveFloat | None = None
    """Largest harm tolerated, in the metric's unit."""
    enabled: bool = True
    required: bool | None = None


class StatisticsConfig(Record):
    """How a difference becomes a verdict."""

    confidence_level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    significance_level: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    n_resamples: Annotated[int, Field(ge=100)] = 2000
    """Of bootstraps; under 100 a percentile means nothing."""
    seed: NonNegativeInt = 20250101
    """Seeds the resampling, so that the same pictures give the same interval."""


class CourseConfig(Record):
    """How a training is watched, and when it is stopped: the `[course]` table."""

    suite: str = "screen"
    """Name of a shipped suite, or a file."""
    every_n_steps: PositiveInt = 250
    """Optimiser steps between evaluations; grows where they would cost more than the budget."""
    budget: PositiveFloat = 0.10
    """Time of evaluations in shares of the time of training; a large number lifts the limit."""
    n_seeds: PositiveInt = 2
    """Seeds per prompt of a screen, by turns from the pool."""
    pool_size: PositiveInt = 16
    """Seeds whose control pictures are made once."""
    confirmation_factor: PositiveInt = 4
    """Fresh seeds of a confirmation, in multiples of `n_seeds`."""
    alarm_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Share of a margin from which a screen's mean harm alarms."""
    cusum_allowance: NonNegativeFloat = 0.5
    cusum_threshold: PositiveFloat = 2.0
    """In standard errors beyond the margin, cumulated over checkpoints."""
    confirmation_level: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    confirmations: PositiveInt = 2
    """Confirmed checkpoints among the last `window` that stop the training."""
    window: PositiveInt = 3
    catastrophe_margins: PositiveFloat = 4.0
    """A harm shown to be beyond that many margins stops at once. At 3 a single bad checkpoint of 3 margins stopped one
    healthy simulated training in nine."""
    catastrophe_copy_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.20
    """A lower bound of the copy rate's rise over this stops at once."""
    signals_every_n_steps: NonNegativeInt = 0
    """Optimiser steps between readings of loss and drift, which cost a few forwards; 0 reads them with each screen."""
    training_resolution: PositiveInt | None = None
    """Edge of the square of as many pixels as a training picture; only to compare the step time with known figures."""
    training_batch_size: PositiveInt | None = None
    """Pictures per optimiser step, accumulation included; for the same comparison."""
    held_out: Path | None = None
    """Pictures of the same kind that are never trained on, with captions like the training set's: their loss is read
    against that of training pictures."""
    loss_pictures: PositiveInt = 8
    """Most pictures, held out and of the training set each, whose loss is read."""
    finalists: Annotated[int, Field(ge=0, le=3)] = 3
    """Checkpoints judged again at the end, on prompts and seeds that had no part in choosing them; 0 judges none."""
    final_suites: tuple[str, ...] = ()
    """Shipped suites or files with the prompts for that. Empty: beside a shipped screen the other shipped suites, for
    any other the screen's own prompts."""
    final_seeds: PositiveInt = 2
    """Seeds per prompt for that."""
    free_judges: Literal["auto", "always", "never"] = "auto"
    """Whether the judges leave the GPU between evaluations; auto frees them where little memory is left."""
    stop: bool = True
    """False only advises: decisions are recorded, none asks the loop to stop."""
    on_error: Literal["continue", "stop"] = "continue"
    """What a failed evaluation does to the training."""
    folder: Path = Path(".lorabench/course")
    """History, events and kept checkpoints."""
    keep: Literal["best", "all"] = "best"
    trackers: tuple[str, ...] = ()
    """Where evaluations are logged beside the course's own log: `tensorboard`, `wandb`, `mlflow`, `trackio`, and what
    else accelerate has a tracker for."""
    tracker_project: Annotated[str, Field(min_length=1)] = "lorabench"
    """Under which they file the training."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.confirmations > self.window:
            msg = (
                f"confirmations must not exceed window, or nothing ever stops; got {self.confirmations} of "
                f"{self.window}. Raise window."
            )
            raise ValueError(msg)
        return self


class Config(Record):
    """The settings of one run."""

    model: ModelConfig = ModelConfig()
    candidate: CandidateConfig = CandidateConfig()
    style: StylePhrases = StylePhrases()
    generation: GenerationSettings = GenerationSettings()
    training_set: TrainingSetConfig = TrainingSetConfig()
    judges: JudgesConfig = JudgesConfig()
    gates: dict[str, GateConfig] = Field(default_factory=dict)
    statistics: StatisticsConfig = StatisticsConfig()
    course: CourseConfig = CourseConfig()
    suites: tuple[Path, ...] = ()
    arms: tuple[Literal["B0", "B1", "L1", "L0"], ...] = ("B0", "B1", "L1")
    seeds: tuple[NonNegativeInt, ...] | None = None
    """Instead of the suite's own seeds."""
    limit: PositiveInt | None = None
    """Only the first cases; marks the run partial."""
    cache_dir: Path | None = None
    runs_dir: Path = Path(".lorabench/runs")
    baselines_dir: Path = Path("lorabench-baselines")
    baseline: str | None = None
