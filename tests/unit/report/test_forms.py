"""One file or a folder: which is chosen, how it is written, and what it may replace."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from lorabench.report import forms
from lorabench.report.forms import ASSETS, FOLDER_POLICY, INDEX, NotAReportFolderError, write_folder
from lorabench.report.html import write_html
from lorabench.report.layout import Layout


def write(example, path: Path, **how: object) -> Path:
    return write_html(example.results, path, picture=example.picture, **how)  # type: ignore[arg-type]


def assets_of(page: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (page.parent / ASSETS).iterdir()}


def test_a_folder_holds_a_page_and_files_named_by_their_content(small_example, tmp_path: Path) -> None:
    page = write(small_example, tmp_path / "report.html", layout=Layout.FOLDER)

    assert page == tmp_path / "report" / INDEX
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report"]
    found = assets_of(page)
    assert {name.rsplit(".", 1)[1] for name in found} == {"webp", "css", "js"}
    assert all(hashlib.sha256(content).hexdigest().startswith(name.split(".")[0]) for name, content in found.items())
    used = set(re.findall(r'"assets/([^"]+)"', page.read_text(encoding="utf-8")))
    assert used == set(found), "nothing is missing and nothing lies about"


def test_nothing_in_a_folder_stands_inline(small_example, tmp_path: Path) -> None:
    text = write(small_example, tmp_path / "report", layout=Layout.FOLDER).read_text(encoding="utf-8")

    assert "<style" not in text
    assert " style=" not in text
    assert "data:image" not in text
    assert {tag for tag in re.findall(r"<script[^>]*>", text) if "src=" not in tag} == {
        '<script type="application/json" id="facts">'
    }
    assert f'content="{FOLDER_POLICY}"'.replace("'", "&#39;") in text
    assert "unsafe" not in FOLDER_POLICY
    assert "http" not in FOLDER_POLICY


def test_both_forms_show_the_same_pictures(small_example, tmp_path: Path) -> None:
    single = write(small_example, tmp_path / "one.html").read_text(encoding="utf-8")
    folder = assets_of(write(small_example, tmp_path / "two.html", layout=Layout.FOLDER))

    embedded = {base64.b64decode(text) for text in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", single)}
    assert embedded == {content for name, content in folder.items() if name.endswith(".webp")}


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.FOLDER])
def test_training_pictures_stay_out_of_both_forms(small_example, tmp_path: Path, layout: Layout) -> None:
    asked: set[str] = set()

    def picture(sha256: str) -> object:
        asked.add(sha256)
        return small_example.picture(sha256)

    write_html(
        small_example.results, tmp_path / "r.html", picture=picture, training_images_included=False, layout=layout
    )

    made = {image.sha256 for image in small_example.results.images}
    assert asked <= made
    assert not asked & ({one.sha256 for one in small_example.results.training} - made)


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.FOLDER])
def test_the_longest_edge_holds_in_both_forms(example, tmp_path: Path, layout: Layout) -> None:
    text = write(example, tmp_path / "r.html", max_edge=20, layout=layout).read_text(encoding="utf-8")

    pictures = re.findall(r'<img class="px"[^>]* width="(\d+)" height="(\d+)"', text)
    assert pictures
    assert {max(int(width), int(height)) for width, height in pictures} == {20}


def test_auto_keeps_one_file_up_to_the_budget_and_no_further(small_example, tmp_path: Path) -> None:
    size = write(small_example, tmp_path / "a.html").stat().st_size

    assert write(small_example, tmp_path / "b.html", layout=Layout.AUTO, budget=size) == tmp_path / "b.html"
    assert write(small_example, tmp_path / "c.html", layout=Layout.AUTO, budget=size - 1) == tmp_path / "c" / INDEX
    assert write(small_example, tmp_path / "d.html", layout=Layout.AUTO, budget=10) == tmp_path / "d" / INDEX


def test_a_page_has_one_form_at_a_time(small_example, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(small_example, path)
    write(small_example, path, layout=Layout.FOLDER)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]
    write(small_example, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_files_of_others_are_left_alone(small_example, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / INDEX).write_text("<!doctype html><title>mine</title>")
    write(small_example, tmp_path / "report.html")
    assert (tmp_path / "report" / INDEX).read_text() == "<!doctype html><title>mine</title>"

    (tmp_path / "page.html").write_text("mine")
    write(small_example, tmp_path / "page.html", layout=Layout.FOLDER)
    assert (tmp_path / "page.html").read_text() == "mine"


def test_an_earlier_report_is_replaced_as_a_whole(small_example, tmp_path: Path) -> None:
    first = write(small_example, tmp_path / "report", layout=Layout.FOLDER)
    (first.parent / ASSETS / "0123.webp").write_bytes(b"of an earlier page")
    again = write(small_example, tmp_path / "report", layout=Layout.FOLDER)

    assert again == first
    assert "0123.webp" not in assets_of(again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("foreign", ["notes.txt", INDEX])
def test_a_folder_with_other_things_is_refused_and_kept(tmp_path: Path, foreign: str) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / foreign).write_text("mine")

    with pytest.raises(NotAReportFolderError, match=f"hold an earlier report and nothing else; found {foreign} in"):
        write_folder("page", {}, folder)
    assert (folder / foreign).read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")

    with pytest.raises(NotAReportFolderError, match="found the file report in"):
        write_folder("page", {}, tmp_path / "report")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    assert write_folder("page", {"a.css": b"x"}, tmp_path / "report").read_text() == "page"
    assert oct((tmp_path / "report").stat().st_mode & 0o777) == "0o755"


def test_a_failed_writing_keeps_the_earlier_folder(small_example, tmp_path: Path, monkeypatch) -> None:
    page = write(small_example, tmp_path / "report", layout=Layout.FOLDER)
    before = page.read_bytes()

    with pytest.raises(UnicodeEncodeError):
        write_folder("broken \ud800", {}, page.parent)
    assert page.read_bytes() == before

    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if target == page.parent and ".old." not in str(self):
            raise OSError(28, "no space left")
        return rename(self, target)

    monkeypatch.setattr(forms.Path, "rename", fails)
    with pytest.raises(OSError, match="no space left"):
        write_folder("new", {}, page.parent)
    assert page.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]
