"""The page of a course, made from its folder."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabench.records.course import Course, Decision, Evaluation, GuardReading
from lorabench.storage.course_folder import CourseFileError, CourseFolder
from lorabench.training.course_page import write_course_page
from lorabench.training.loss_trend import LossTrend


def evaluation(training_step: int, **facts: Any) -> Evaluation:
    reading = GuardReading(
        gate="prompt",
        metric="prompt_following_score",
        harm=0.02,
        standard_error=0.01,
        margin=0.1,
        n_cases=9,
        low=0.0,
        high=0.04,
        p_beyond_margin=0.9,
    )
    said = Decision(sentence=facts.pop("sentence", "All is well."), training_step=training_step)
    return Evaluation(training_step=training_step, screen=(reading,), decision=said, **facts)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., CourseFolder]:
    def store(*evaluations: Evaluation, best: int | None = None) -> CourseFolder:
        place = CourseFolder(tmp_path / "course")
        place.save(Course(identity="a" * 64, evaluations=evaluations, best=best))
        return place

    return store


def test_the_page_lies_in_the_folder_or_where_it_is_wanted(stored, tmp_path: Path) -> None:
    place = stored(evaluation(10), best=10)

    assert write_course_page(place.folder) == place.folder / "course.html"
    assert write_course_page(place.course_path, to=tmp_path / "deep" / "x.html") == tmp_path / "deep" / "x.html"

    first, second = (p.read_text(encoding="utf-8") for p in (place.folder / "course.html", tmp_path / "deep/x.html"))
    assert first == second
    assert first.startswith("<!doctype html>")
    assert "Best checkpoint" in first


def test_the_reason_of_the_choice_is_on_the_page(stored) -> None:
    place = stored(evaluation(10), evaluation(20), best=20)

    text = write_course_page(place.folder).read_text(encoding="utf-8")

    assert "Step 20: 2 checkpoints are within all margins, and it is the latest of them." in text


def test_a_choice_that_the_course_does_not_share_is_not_told(stored) -> None:
    place = stored(evaluation(10), evaluation(20), best=10)

    text = write_course_page(place.folder).read_text(encoding="utf-8")

    assert "it is the latest of them" not in text
    assert "Best checkpoint" in text


def test_places_are_named_from_the_folder_and_the_home_on(stored, monkeypatch: Any) -> None:
    home = Path("/people/somebody")
    monkeypatch.setattr(Path, "home", lambda: home)
    place = stored(evaluation(10))
    kept = place.keep(10, _file(place.folder / "a.safetensors"))
    sentence = f"Not read: {home}/models/base and {place.folder}/live/x."
    place.save(
        Course(
            identity="a" * 64,
            evaluations=(evaluation(10, kept=str(kept), checkpoint=f"{home}/out/checkpoint-10", sentence=sentence),),
            best=10,
        )
    )
    place.event("evaluated", training_step=10, sentence=sentence)

    text = write_course_page(place.folder).read_text(encoding="utf-8")

    assert "kept in <code>kept/10</code>" in text
    assert "~/out/checkpoint-10" in text
    assert "Not read: ~/models/base and live/x." in text
    assert "somebody" not in text
    assert str(place.folder) not in text


def test_the_loss_that_was_stored_is_drawn_and_an_unreadable_one_is_none(stored) -> None:
    place, trend = stored(evaluation(10)), LossTrend()
    for training_step in range(1, 400):
        trend.add(training_step, 1.0 / training_step**0.5)
    place.save_loss(trend.state_dict())

    drawn = write_course_page(place.folder).read_text(encoding="utf-8")
    place.loss_path.write_text('{"blocks": "none"}', encoding="utf-8")
    broken = write_course_page(place.folder).read_text(encoding="utf-8")

    assert "24 blocks" in drawn
    assert trend.reading().sentence in drawn
    assert "own loss was not recorded" in broken


def test_runs_that_are_gone_broken_or_no_names_are_named_as_gone(stored) -> None:
    place = stored(evaluation(10, run_ids=("torn", "lost", "../elsewhere")))
    _file(place.folder / "runs/torn/results.json")
    _file(place.folder / "elsewhere/results.json")

    text = write_course_page(place.folder).read_text(encoding="utf-8")

    assert "3 runs of this course are no longer there" in text
    assert all(f"<code>{name}</code>" in text for name in ("lost", "torn", "../elsewhere"))


def test_pictures_come_from_the_runs_of_the_course(stored, rendered_course: Callable[[Path], str]) -> None:
    place = stored(evaluation(10))
    name = rendered_course(place.folder / "runs")
    place.save(Course(identity="a" * 64, evaluations=(evaluation(10, run_ids=(name,)),)))

    text = write_course_page(place.folder).read_text(encoding="utf-8")

    assert text.count("data:image/webp;base64,") > 4
    assert "Candidate at step 10" in text


def test_no_course_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CourseFileError, match=r"a course must be a course\.json"):
        write_course_page(tmp_path)


def test_neither_torch_nor_a_judge_is_loaded_for_it(stored) -> None:
    place = stored(evaluation(10), best=10)
    heavy = "torch diffusers transformers peft open_clip lpips torchvision sklearn skimage"
    code = (
        "import sys; from pathlib import Path; from lorabench.training.course_page import write_course_page; "
        f"write_course_page(Path(sys.argv[1])); print([m for m in {heavy.split()!r} if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code, str(place.folder)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
    return path


@pytest.fixture
def rendered_course() -> Callable[[Path], str]:
    """Writes a run with pictures under a folder of runs, and returns its id."""
    import importlib.util

    from PIL import Image

    place = Path(__file__).resolve().parents[1] / "report/conftest.py"
    spec = importlib.util.spec_from_file_location("report_example_for_courses", place)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    def write(runs: Path) -> str:
        example = module.make_example(per_family=1, size=24)
        folder = runs / "run-1"
        (folder / "pictures").mkdir(parents=True)
        (folder / "results.json").write_text(example.results.model_dump_json(), encoding="utf-8")
        for sha256, pixels in example.pictures.items():
            Image.fromarray(pixels).save(folder / "pictures" / f"{sha256}.png")
        return folder.name

    return write
