import numpy as np
import pytest

from lorabench.evaluation.observer import Observer
from lorabench.evaluation.training_look import look_at_training, open_training
from lorabench.generation.synthetic import SyntheticBackend
from lorabench.records.config import TrainingSetConfig
from lorabench.storage.arrays import ArrayCache
from lorabench.storage.heldout import HeldOutError
from lorabench.storage.pictures import PictureCache


class CountingBackend(SyntheticBackend):
    n_decoded = 0

    def round_trip(self, pictures):
        self.n_decoded += len(pictures)
        return super().round_trip(pictures)


class Notes(Observer):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def note(self, message: str) -> None:
        self.heard.append(message)


def opened(lab, folder, *, observer=None, line_of=None):
    return open_training(
        TrainingSetConfig(folder=folder),
        suite=lab.suite(*lab.cases[:2]),
        style=lab.style,
        line_of=line_of,
        size=(128, 128),
        observer=observer or Observer(),
    )


def seen(lab, pictures, *, backend=None, lpips=None):
    return look_at_training(
        pictures,
        backend=backend or CountingBackend(),
        pictures=PictureCache(lab.home / "cache"),
        lpips=lpips,
        arrays=ArrayCache(lab.home / "features"),
    )


def test_no_folder_means_no_training_set(lab) -> None:
    assert opened(lab, None) is None


def test_prompt_that_was_trained_on_is_refused_with_its_line(lab) -> None:
    folder = lab.training(4, captions={1: "a zvq drawing of a red circle left of a blue square"})

    with pytest.raises(HeldOutError, match=r"spatial-1 \(line 12\) and the caption of 01.png") as caught:
        opened(lab, folder, line_of={"spatial-1": 12})

    assert caught.value.exit_code == 2


def test_near_duplicate_captions_are_noted(lab) -> None:
    folder = lab.training(4, captions={1: "a blue square left of a red circle", 2: "a green cat"})
    notes = Notes()

    assert opened(lab, folder, observer=notes) is not None

    assert len(notes.heard) == 1
    assert notes.heard[0].startswith("1 prompts share nine tenths of their words with a caption, first: spatial-1")


def test_round_trip_and_embeddings_are_made_once_per_base(lab) -> None:
    pictures = opened(lab, lab.training(4))
    first, second = (CountingBackend(), lab.thumbnails()), (CountingBackend(), lab.thumbnails())

    one = seen(lab, pictures, backend=first[0], lpips=first[1])
    other = seen(lab, pictures, backend=second[0], lpips=second[1])

    assert (first[0].n_decoded, first[1].n_embedded) == (4, 8)
    assert (second[0].n_decoded, second[1].n_embedded) == (0, 0)
    assert np.array_equal(one.embedded.vectors, other.embedded.vectors)
    assert all(np.array_equal(a, b) for a, b in zip(one.decoded, pictures.pictures, strict=True))


def test_duplicates_are_left_out_of_embeddings_and_compositions_alike(lab) -> None:
    training = seen(lab, opened(lab, lab.training(4, repeat=2)), lpips=lab.thumbnails())

    assert training.embedded.kept == (0, 1, 2, 3)
    assert training.embedded.n_duplicates == 2
    assert len(training.compositions) == 4
    assert len(training.look.structures) == 6


def test_without_lpips_there_are_no_embeddings_but_a_look(lab) -> None:
    training = seen(lab, opened(lab, lab.training(4)))

    assert training.embedded is None
    assert training.look.sigmas.shape == training.look.fractions.shape == (4,)
    assert len(training.compositions) == 4


def test_records_name_the_pictures_in_order(lab) -> None:
    folder = lab.training(4, captions={1: "a green cat"})

    records = seen(lab, opened(lab, folder)).records()

    assert [(one.index, one.name, one.caption) for one in records] == [
        (0, "00.png", None),
        (1, "01.png", "a green cat"),
        (2, "02.png", None),
        (3, "03.png", None),
    ]
