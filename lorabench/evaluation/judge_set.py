"""Which judges a run has, and why others are absent. An absent judge makes its metrics unmeasured, with that reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorabench.errors import MeasurementError, SpecError
from lorabench.registry import JUDGES

if TYPE_CHECKING:
    from lorabench.judges.protocols import Detector, ImageTextEncoder, PerceptualEncoder
    from lorabench.records.config import JudgesConfig


@dataclass(frozen=True, slots=True)
class JudgeSet:
    """The judges of a run."""

    clip: ImageTextEncoder | None = None
    lpips: PerceptualEncoder | None = None
    detector: Detector | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    """Judge (`clip`, `lpips`, `detector`) to why it is absent."""

    def digests(self) -> dict[str, str]:
        """Judge name to the digest of its weights."""
        judges = [judge for judge in (self.clip, self.lpips, self.detector) if judge is not None]
        return {judge.name: judge.weights_digest for judge in judges}

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
        memorisation: Whether there are training pictures, which LPIPS compares with.

    Returns:
        The judges. LPIPS, which nobody has to name, is absent with the reason where its weights are missing; nothing
        is replaced in silence.

    Raises:
        SpecError: The configuration is not understood.
        MeasurementError: The CLIP model or the detector that is named cannot be loaded.
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
    return JudgeSet(clip=clip, lpips=lpips, detector=detector, absent=absent)


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
