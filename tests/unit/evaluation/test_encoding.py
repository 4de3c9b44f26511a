import numpy as np
import pytest

from lorabench.evaluation import encoding
from lorabench.evaluation.encoding import Encoder, labels_of
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.evaluation.observer import Observer
from lorabench.judges.oracle_detector import OracleDetector
from lorabench.metrics.memorisation import training_set
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import Case, NoExtraCheck
from lorabench.storage.arrays import ArrayCache
from lorabench.storage.pictures import pixel_digest
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene


def picture(number: int) -> np.ndarray:
    return draw(sample_scene("pair", rng=np.random.default_rng(number)), "flat", seed=number)


def image_of(number: int, *, case: str = "spatial-1", seed: int = 0, arm: Arm = Arm.CONTROL) -> Image:
    digest = pixel_digest(picture(number))
    cell = Cell(arm=arm, case=case, seed=seed)
    return Image(cell=cell, sha256=digest, cache_key=digest, height=128, width=128)


class Reads:
    """From image record to pixels, by digest; counts."""

    def __init__(self, n: int) -> None:
        self.pictures = {pixel_digest(picture(number)): picture(number) for number in range(n)}
        self.n = 0

    def __call__(self, image: Image) -> np.ndarray:
        self.n += 1
        return self.pictures[image.sha256]


def encoder(lab, reads, judges, *, training=None, cases=(), base_neighbours=False) -> Encoder:
    return Encoder(
        suite=lab.suite(*cases),
        judges=judges,
        arrays=ArrayCache(lab.home / "features"),
        read_picture=reads,
        size=(128, 128),
        training=training,
        observer=Observer(),
        base_neighbours=base_neighbours,
    )


def test_each_distinct_picture_is_encoded_once(lab) -> None:
    clip, reads = lab.clip(), Reads(2)
    one = encoder(lab, reads, JudgeSet(clip=clip))
    images = [image_of(0, seed=1), image_of(0, seed=2), image_of(1, seed=3)]

    one.encode(images)
    one.encode(images)
    one.encode([image_of(1, seed=4)])

    assert (reads.n, clip.n_pictures) == (2, 2)
    assert len(one.features.digest_of) == 4
    assert len(one.features.clip) == 2


def test_chunks_give_what_one_chunk_gives(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image_of(number, seed=number) for number in range(3)]
    whole = encoder(lab, Reads(3), JudgeSet(detector=OracleDetector()))
    whole.encode(images)
    monkeypatch.setattr(encoding, "CHUNK", 2)
    chunked = encoder(lab, Reads(3), JudgeSet(detector=OracleDetector()))
    chunked.encode(images)

    assert chunked.features.detections == whole.features.detections
    assert chunked.features.texture == whole.features.texture
    assert chunked.features.broken == whole.features.broken
    assert chunked.features.colors == whole.features.colors


def test_array_cache_is_asked_before_a_judge(lab) -> None:
    encoder(lab, Reads(2), JudgeSet(clip=lab.clip())).encode([image_of(0), image_of(1, seed=1)])
    clip = lab.clip()
    again = encoder(lab, Reads(2), JudgeSet(clip=clip))

    again.encode([image_of(0), image_of(1, seed=1)])
    again.encode_texts(["a red circle"])

    assert clip.n_pictures == 0
    assert len(again.features.clip) == 2


def test_sentences_are_encoded_once_each(lab) -> None:
    clip = lab.clip()
    one = encoder(lab, Reads(0), JudgeSet(clip=clip))

    one.encode_texts(["a red circle", "a blue square", "a red circle"])
    one.encode_texts(["a red circle"])
    encoder(lab, Reads(0), JudgeSet(clip=clip)).encode_texts(["a blue square"])

    assert clip.n_texts == 2
    assert np.linalg.norm(one.features.texts["a red circle"]) == pytest.approx(1.0)


def test_other_judge_weights_are_other_features(lab) -> None:
    encoder(lab, Reads(1), JudgeSet(clip=lab.clip())).encode([image_of(0)])
    other = lab.clip()
    other.weights_digest = "other"

    encoder(lab, Reads(1), JudgeSet(clip=other)).encode([image_of(0)])

    assert other.n_pictures == 1


def test_absent_judges_leave_their_features_empty(lab) -> None:
    one = encoder(lab, Reads(1), JudgeSet())

    one.encode([image_of(0)])
    one.encode_texts(["a red circle"])

    features = one.features
    assert not features.clip
    assert not features.texts
    assert not features.detections
    assert not features.distances
    assert features.broken == {image_of(0).sha256: None}


def test_distances_go_to_every_training_picture_and_know_mirror_images(lab) -> None:
    lpips = lab.thumbnails()
    trained = [picture(0), picture(1), picture(2)]
    mirrored = [np.ascontiguousarray(one[:, ::-1]) for one in trained]
    training = training_set(lpips.embed(trained), lpips.embed(mirrored))
    one = encoder(lab, Reads(2), JudgeSet(lpips=lpips), training=training)

    one.encode([image_of(1)])

    rows = one.features.distances[image_of(1).sha256]
    assert rows.shape == (2, 3)
    assert rows[0].argmin() == 1
    assert rows[0][1] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("base_neighbours", [False, True])
def test_the_bases_pictures_are_compared_with_training_pictures_on_request_only(lab, base_neighbours) -> None:
    lpips = lab.thumbnails()
    training = training_set(lpips.embed([picture(0)]), lpips.embed([picture(0)]))
    one = encoder(lab, Reads(2), JudgeSet(lpips=lpips), training=training, base_neighbours=base_neighbours)

    one.encode([image_of(0, arm=Arm.BASE), image_of(1)])

    assert (image_of(0).sha256 in one.features.distances) is base_neighbours
    assert image_of(1).sha256 in one.features.distances


def test_a_picture_that_base_and_control_share_is_compared_for_the_control(lab) -> None:
    lpips = lab.thumbnails()
    training = training_set(lpips.embed([picture(0)]), lpips.embed([picture(0)]))
    one = encoder(lab, Reads(1), JudgeSet(lpips=lpips), training=training)

    one.encode([image_of(0, arm=Arm.BASE), image_of(0)])

    assert image_of(0).sha256 in one.features.distances


def test_palettes_are_kept_for_palette_cases_only(lab) -> None:
    palette = lab.palette_cases()[0]
    one = encoder(lab, Reads(1), JudgeSet(), cases=(lab.cases[0], palette))

    one.encode([image_of(0)])
    assert one.features.palette == {}
    one.encode([image_of(0, case=palette.id)])
    assert set(one.features.palette) == {image_of(0).sha256}


def test_labels_are_all_classes_that_checks_name(lab) -> None:
    case = Case(
        id="sparse-1", family="sparse_scene", prompt="a dog", checks=(NoExtraCheck(allowed=("dog", "blanket")),)
    )

    assert labels_of(lab.suite(*lab.cases[:1], case)) == ("blanket", "circle", "dog", "square")
