"""Which judges a run has, and why others are absent. An absent judge makes its metrics unmeasured, with that reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorabench.errors import MeasurementError, SpecError
from lorabench.judges.protocols import WorldDetector
from lorabench.judges.vocabulary import read_vocabulary
from lorabench.registry import JUDGES

if TYPE_CHECKING:
    from lorabench.judges.protocols import CopyEncoder, Detector, ImageTextEncoder, PerceptualEncoder, TextReader
    from lorabench.judges.vocabulary import Vocabulary
    from lorabench.records.config import JudgesConfig


@dataclass(frozen=True, slots=True)
class JudgeSet:
    """The judges of a run."""

    clip: ImageTextEncoder | None = None
    lpips: PerceptualEncoder | None = None
    detector: Detector | None = None
    descriptor: CopyEncoder | None = None
    reader: TextReader | None = None
    vocabulary: Vocabulary | None = None
    """Things nobody asked for that an open-vocabulary detector looks for."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Judge (`clip`, `lpips`, `detector`, `descriptor`, `reader`) to why it is absent."""

    def digests(self) -> dict[str, str]:
        """Judge name to the digest of its weights."""
        judges = (self.clip, self.lpips, self.detector, self.descriptor, self.reader)
        digests = {judge.name: judge.weights_digest for judge in judges if judge is not None}
        return digests if self.vocabulary is None else {**digests, "vocabulary": self.vocabulary.digest}

    @property
    def world_classes(self) -> frozenset[str] | None:
        """All classes of a closed world, if the detector is one of such a world; None if it finds what it is asked."""
        found: object = self.detector
        return found.classes if isinstance(found, WorldDetector) else None

    def why_absent(self, judge: str) -> str:
        """The reason a judge is absent, in words."""
        return self.absent.get(judge, f"no {judge} judge is configured")


class UnknownDetectorError(SpecError):
    """`[judges] detector` is not understood."""

    def __init__(self, value: str) -> None:
        super().__init__(
            f"[judges] detector must be 'oracle', 'owlv2:<folder or id>' or 'grounding-dino:<folder or id>'; "
            f"found {value!r}."
        )
        self.value = value


def load_judges(config: JudgesConfig, *, memorisation: bool) -> JudgeSet:
    """Load the configured judges.

    Args:
        config: Which judges, from where.
        memorisation: Whether there are training pictures, which LPIPS and copy descriptors compare with.

    Returns:
        The judges. LPIPS and the copy descriptor, which nobody has to name, are absent with the reason where their
        weights are missing; nothing is replaced in silence.

    Raises:
        SpecError: The configuration is not understood.
        MeasurementError: The CLIP model, the detector or the copy descriptor that is named cannot be loaded.
    """
    absent: dict[str, str] = {}
    clip = None
    if config.clip:
        clip = JUDGES.load("clip")(config.clip, pretrained=config.clip_pretrained, device=config.device)
    else:
        absent["clip"] = "no CLIP model is configured ([judges] clip)"
    lpips = None
    if not memorisation:
        absent["lpips"] = "no training pictures are configured ([training_set] folder)"
    else:
        try:
            lpips = JUDGES.load("lpips")(config.lpips_net, weights=config.lpips_weights, device=config.device)
        except MeasurementError as error:
            absent["lpips"] = str(error)
    detector = _detector(config, clip)
    if detector is None:
        absent["detector"] = "no detector is configured ([judges] detector)"
    descriptor = _descriptor(config, absent, memorisation=memorisation)
    return JudgeSet(
        clip=clip,
        lpips=lpips,
        detector=detector,
        descriptor=descriptor,
        reader=_reader(config, absent),
        vocabulary=_vocabulary(config, detector),
        absent=absent,
    )


def _vocabulary(config: JudgesConfig, detector: Detector | None) -> Vocabulary | None:
    """What a detector looks for that nobody asked for; a closed world's has no use for it."""
    if detector is None or isinstance(detector, WorldDetector) or not config.vocabulary:
        return None
    return read_vocabulary(config.vocabulary)


def _reader(config: JudgesConfig, absent: dict[str, str]) -> TextReader | None:
    """The text reader, which must be there if it is named."""
    if config.ocr in ("", "off"):
        absent["reader"] = "no text reader is configured ([judges] ocr)"
        return None
    reader: TextReader = JUDGES.load(config.ocr)(languages=config.ocr_languages)
    return reader


def _descriptor(config: JudgesConfig, absent: dict[str, str], *, memorisation: bool) -> CopyEncoder | None:
    """The copy descriptor; one that is named must be there, the installed one need not."""
    named = config.copy_descriptor
    if not memorisation:
        absent["descriptor"] = "no training pictures are configured ([training_set] folder)"
    elif named == "off":
        absent["descriptor"] = 'copy descriptors are turned off ([judges] copy_descriptor = "off")'
    else:
        try:
            found: CopyEncoder = JUDGES.load("sscd")(named, sha256=config.copy_descriptor_sha256, device=config.device)
        except MeasurementError as error:
            if named:
                raise
            absent["descriptor"] = str(error)
        else:
            return found
    return None


def _detector(config: JudgesConfig, clip: ImageTextEncoder | None) -> Detector | None:
    if not config.detector:
        return None
    name, _, source = config.detector.partition(":")
    if name == "oracle" and not source:
        oracle: Detector = JUDGES.load("oracle")()
        return oracle
    if name in ("owlv2", "grounding-dino") and source:
        colors = None if clip is None else _color_reader(clip)
        network: Detector = JUDGES.load(name)(source, device=config.device, color_reader=colors)
        return network
    raise UnknownDetectorError(config.detector)


def _color_reader(clip: ImageTextEncoder) -> object:
    """Detectors see no colours; CLIP names them on the boxes' crops."""
    from lorabench.judges.color_reader import ColorReader

    return ColorReader(clip)
