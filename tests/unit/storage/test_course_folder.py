"""A course on disk: whole or not at all, never mixed, never lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lorabench.records.course import Course, Decision, Evaluation, PolicyState
from lorabench.storage.atomic import DiskFullError, NotWritableError
from lorabench.storage.course_folder import (
    CheckpointGoneError,
    CourseBusyError,
    CourseFileError,
    CourseFolder,
    OtherCourseError,
    read_course,
)
from lorabench.storage.schemas import schemas

IDENTITY = "a" * 64
OTHER = "b" * 64


def evaluation(training_step: int) -> Evaluation:
    return Evaluation(
        training_step=training_step,
        adapter_digest=f"{training_step:064d}",
        decision=Decision(sentence="Nothing speaks against it.", training_step=training_step),
    )


def course(*training_steps: int, identity: str = IDENTITY) -> Course:
    evaluations = tuple(evaluation(training_step) for training_step in training_steps)
    return Course(identity=identity, evaluations=evaluations, policy=PolicyState(confirmed=(False, True)), best=200)


@pytest.fixture
def folder(tmp_path: Path) -> CourseFolder:
    return CourseFolder(tmp_path / "course", clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def adapter(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------------------------------------------- course


def test_new_folder_gives_an_empty_course_and_writes_nothing(folder: CourseFolder) -> None:
    assert folder.load(IDENTITY) == Course(identity=IDENTITY)
    assert not folder.folder.exists()


def test_course_comes_back_as_it_was_saved(folder: CourseFolder) -> None:
    folder.save(course(100, 200))

    assert folder.load(IDENTITY) == course(100, 200)
    assert read_course(folder.folder) == read_course(folder.course_path) == course(100, 200)


def test_course_of_another_identity_is_refused_with_both(folder: CourseFolder) -> None:
    folder.save(course(100))

    with pytest.raises(OtherCourseError) as caught:
        folder.load(OTHER)

    message = str(caught.value)
    assert message.startswith(f"all checkpoints of a course must be judged alike; the course in {folder.folder} has ")
    assert "identity aaaaaaaaaaaa, suite, metrics, margins and base now make bbbbbbbbbbbb" in message
    assert message.endswith("or restart: the old course is then moved aside.")
    assert caught.value.exit_code == 2
    assert folder.load(IDENTITY) == course(100)


def test_restart_moves_everything_aside_and_deletes_nothing(folder: CourseFolder, tmp_path: Path) -> None:
    folder.save(course(100))
    folder.event("evaluated", training_step=100)
    folder.keep(100, adapter(tmp_path / "a.safetensors"))

    assert folder.load(OTHER, restart=True) == Course(identity=OTHER)

    aside = folder.folder / "earlier" / "1"
    assert read_course(aside) == course(100)
    assert (aside / "events.jsonl").is_file()
    assert (aside / "kept/100/a.safetensors").read_bytes() == b"weights"
    assert folder.events() == []
    assert folder.kept_folders() == []


def test_restart_leaves_a_course_of_the_same_identity_alone(folder: CourseFolder) -> None:
    folder.save(course(100))

    assert folder.load(IDENTITY, restart=True) == course(100)


def test_each_restart_has_a_place_of_its_own(folder: CourseFolder) -> None:
    for number, identity in enumerate((IDENTITY, OTHER, IDENTITY), start=1):
        assert folder.load(identity, restart=True).evaluations == ()
        folder.save(course(number, identity=identity))

    assert [read_course(folder.folder / "earlier" / n).evaluations[0].training_step for n in ("1", "2")] == [1, 2]


def test_restart_that_was_cut_short_is_finished_by_the_next_one(folder: CourseFolder, tmp_path: Path) -> None:
    folder.save(course(100))
    folder.keep(100, adapter(tmp_path / "a.safetensors"))
    aside = folder.folder / "earlier" / "1"
    aside.mkdir(parents=True)
    folder.kept.rename(aside / "kept")  # killed here, before course.json went

    folder.load(OTHER, restart=True)

    assert read_course(aside) == course(100)
    assert (aside / "kept/100").is_dir()
    assert not (folder.folder / "earlier" / "2").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (course(100).model_dump_json().encode()[:-40], "not a JSON object ("),
        (b"[]", "not a JSON object ("),
        (b"\xff\xfe\x00", "not UTF-8 text (invalid start byte)"),
        (b'{"schema_version": 9}', "schema version 9"),
        (b'{"schema_version": 1}', "identity: Field required"),
        (b'{"schema_version": 1, "identity": "a", "mood": 1}', "mood: Extra inputs are not permitted"),
    ],
    ids=["missing", "cut-short", "list", "binary", "other-version", "incomplete", "unknown-field"],
)
def test_unreadable_course_names_the_file_and_what_was_found(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "course.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CourseFileError) as caught:
        read_course(tmp_path)

    message = str(caught.value)
    assert message.startswith(f"a course must be a course.json of schema version 1; {path}: {found}")
    assert message.endswith("Name a course folder, or move the damaged one aside to begin again.")
    assert caught.value.exit_code == 2


def test_damaged_course_is_never_taken_for_an_empty_one(folder: CourseFolder) -> None:
    folder.save(course(100))
    folder.course_path.write_bytes(folder.course_path.read_bytes()[:50])

    with pytest.raises(CourseFileError):
        folder.load(IDENTITY)


def test_process_killed_while_saving_leaves_the_old_course_or_the_new_one(folder: CourseFolder) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from lorabench.storage.course_folder import CourseFolder, read_course\n"
        "folder = CourseFolder(Path(sys.argv[1])); course = read_course(folder.folder)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    course = course.model_copy(update={'best': (course.best or 0) + 1}); folder.save(course)\n"
    )
    folder.save(course(*range(100, 3000, 100)))
    seen = set()
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder.folder)], stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            before = folder.load(IDENTITY).best
            while folder.load(IDENTITY).best == before:
                pass
            other.send_signal(signal.SIGKILL)
        found = folder.load(IDENTITY)
        seen.add(found.best)
        assert len(found.evaluations) == 29

    assert len(seen) == 2


# ---------------------------------------------------------------------------------------------------------- events


def test_events_come_back_in_order_with_their_time(folder: CourseFolder) -> None:
    folder.event("opened", identity=IDENTITY)
    folder.event("evaluated", training_step=100, sentence="ähm\nzwei", best=None)

    at = "2026-01-02T03:04:05.000+00:00"
    assert folder.events() == [
        {"at": at, "kind": "opened", "identity": IDENTITY},
        {"at": at, "kind": "evaluated", "training_step": 100, "sentence": "ähm\nzwei", "best": None},
    ]
    assert len(folder.events_path.read_text(encoding="utf-8").splitlines()) == 2


def test_line_that_a_crash_cut_short_is_kept_apart_from_the_next_event(folder: CourseFolder) -> None:
    folder.event("first")
    whole = folder.events_path.read_bytes()
    for length in range(1, len(whole)):
        folder.events_path.write_bytes(whole + whole[:length])
        if length < len(whole) - 1:  # all but the line's end is a whole event
            assert [event["kind"] for event in folder.events()] == ["first", "torn"]
        folder.event("next")

        kinds = [event["kind"] for event in folder.events()]
        assert kinds == ["first", "torn" if length < len(whole) - 1 else "first", "next"]


def test_torn_line_shows_what_is_left_of_it(folder: CourseFolder) -> None:
    folder.event("first")
    with folder.events_path.open("ab") as log:
        log.write('{"at": "2026", "kind": "evä'.encode()[:-1])

    assert folder.events()[1] == {"kind": "torn", "text": '{"at": "2026", "kind": "ev\ufffd'}


def test_event_refuses_what_json_cannot_hold(folder: CourseFolder) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.event("evaluated", harm=float("nan"))

    assert folder.events() == []


def test_event_that_cannot_be_written_says_so(folder: CourseFolder) -> None:
    folder.events_path.mkdir(parents=True)

    with pytest.raises(NotWritableError, match="must be writable; writing it into"):
        folder.event("opened")


# ------------------------------------------------------------------------------------------------------------ lock


def test_second_claim_is_refused_with_the_folder(folder: CourseFolder) -> None:
    with folder.claimed(), pytest.raises(CourseBusyError) as caught, CourseFolder(folder.folder).claimed():
        pass

    assert str(caught.value) == (
        f"one course folder must have one process; another one is at work in {folder.folder}. "
        "Wait for it, stop it, or name another folder."
    )
    with folder.claimed():
        pass


# ------------------------------------------------------------------------------------------------------------ kept


def test_kept_file_outlives_the_trainers_pruning_and_takes_no_room(folder: CourseFolder, tmp_path: Path) -> None:
    source = adapter(tmp_path / "run" / "a-step00000500.safetensors")

    place = folder.keep(500, source)

    assert place == folder.folder / "kept" / "500"
    assert (place / source.name).samefile(source)
    source.unlink()
    assert (place / source.name).read_bytes() == b"weights"
    assert folder.kept_folders() == [(500, place)]


def test_of_a_checkpoint_folder_the_adapter_and_its_configuration_are_kept(
    folder: CourseFolder, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint-500"
    for name in ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "rng_state.pth"):
        adapter(checkpoint / name)

    place = folder.keep(500, checkpoint)

    assert sorted(path.name for path in place.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_files_are_copied_where_they_cannot_be_linked(
    folder: CourseFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source = adapter(tmp_path / "a.safetensors")

    place = folder.keep(500, [source])

    assert not (place / source.name).samefile(source)
    assert (place / source.name).read_bytes() == b"weights"


def test_copy_on_request_is_safe_from_being_written_over(folder: CourseFolder, tmp_path: Path) -> None:
    source = adapter(tmp_path / "last.safetensors")
    place = folder.keep(500, source, copy=True)

    source.write_bytes(b"later")

    assert (place / source.name).read_bytes() == b"weights"


def test_owned_folder_is_safe_from_being_written_over(folder: CourseFolder, tmp_path: Path) -> None:
    source = adapter(tmp_path / "a.safetensors")
    place = folder.keep(500, source)

    folder.own(place)
    source.write_bytes(b"later")

    assert (place / source.name).read_bytes() == b"weights"
    assert [path.name for path in place.iterdir()] == [source.name]


def test_same_weights_are_kept_once_and_others_of_the_same_step_beside_them(
    folder: CourseFolder, tmp_path: Path
) -> None:
    source = adapter(tmp_path / "a.safetensors")
    first = folder.keep(500, source, copy=True)
    again = folder.keep(500, source)
    source.write_bytes(b"others")
    second = folder.keep(500, source)

    assert first == again
    assert second.name == "500-2"
    assert folder.kept_folders() == [(500, first), (500, second)]


@pytest.mark.parametrize("is_folder", [False, True])
def test_checkpoint_that_went_away_is_told(folder: CourseFolder, tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "checkpoint-500"
    if is_folder:
        adapter(path / "optimizer.bin")

    with pytest.raises(CheckpointGoneError) as caught:
        folder.keep(500, path)

    assert str(caught.value) == (
        f"a checkpoint must stay until it is kept; {path} is gone. Raise the trainer's limit of checkpoints, or look "
        "more often."
    )
    assert folder.kept_folders() == []


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, DiskFullError), (errno.EIO, NotWritableError)])
def test_nothing_half_kept_stays_behind(
    folder: CourseFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[Exception],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("shutil.copy2", fail)
    with pytest.raises(error):
        folder.keep(500, adapter(tmp_path / "a.safetensors"), copy=True)

    assert list(folder.kept.iterdir()) == []


def test_pruning_deletes_other_steps_and_what_a_crash_left(folder: CourseFolder, tmp_path: Path) -> None:
    for training_step in (100, 200, 1000):
        folder.keep(training_step, adapter(tmp_path / f"{training_step}.safetensors", str(training_step).encode()))
    (folder.kept / ".300.1-abcd.tmp").mkdir()
    (folder.kept / "notes").mkdir()

    assert folder.prune({200, 5000}) == (100, 1000)

    assert sorted(path.name for path in folder.kept.iterdir()) == ["200", "notes"]
    assert folder.prune({200}) == ()


def test_kept_folders_are_in_the_order_of_training(folder: CourseFolder, tmp_path: Path) -> None:
    for training_step in (1000, 900, 0):
        folder.keep(training_step, adapter(tmp_path / "a.safetensors", str(training_step).encode()), copy=True)

    assert [step for step, _ in folder.kept_folders()] == [0, 900, 1000]


def test_course_file_is_plain_json(folder: CourseFolder) -> None:
    folder.save(course(100))

    assert json.loads(folder.course_path.read_text(encoding="utf-8"))["evaluations"][0]["training_step"] == 100


# --------------------------------------------------------------------------------------------------------- the loss


def test_loss_comes_back_and_changes_whole(folder: CourseFolder) -> None:
    state = {"block_size": 16, "blocks": [{"first": 1, "last": 16, "n": 16, "level": 0.5}]}

    folder.save_loss({"block_size": 8})
    folder.save_loss(state)

    assert folder.loss() == state
    assert {path.name for path in folder.folder.iterdir()} == {"loss.json"}


def test_loss_that_is_not_there_or_cannot_be_read_is_none(folder: CourseFolder) -> None:
    missing = folder.loss()
    folder.folder.mkdir(parents=True, exist_ok=True)
    folder.loss_path.write_text('{"blocks": [', encoding="utf-8")
    torn = folder.loss()
    folder.loss_path.write_text("[1]", encoding="utf-8")

    assert missing is torn is folder.loss() is None


def test_restart_moves_the_loss_aside_with_its_course(folder: CourseFolder) -> None:
    folder.save(course(100))
    folder.save_loss({"block_size": 16})

    folder.load(OTHER, restart=True)

    assert folder.loss() is None
    assert (folder.folder / "earlier" / "1" / "loss.json").is_file()


def test_course_file_is_what_its_published_schema_says(folder: CourseFolder) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schemas()["course"])
    folder.save(course(100, 200))

    stored = json.loads(folder.course_path.read_bytes())

    assert validator.is_valid(stored)
    assert not validator.is_valid({**stored, "bset": 100})
    assert not validator.is_valid({**stored, "schema_version": 2})
