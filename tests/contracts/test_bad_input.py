"""Bad input through the public door: each has words of its own, an exit code that means it, and no verdict."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from lorabench.cli import app
from lorabench.records.comparison import Outcome
from lorabench.records.results import Results
from lorabench.storage.baselines import CI_VARIABLES
from lorabench.storage.run_folder import read_results
from lorabench.storage.shipped import shipped_data

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
cache_dir = "cache"
suites = ["mine.lora.yaml"]
[model]
backend = "synthetic"
[candidate]
lora = "adapter.safetensors"
[style]
trigger = "a zvq drawing of"
plain = "a flat illustration of"
[generation]
height = 128
width = 128
[judges]
detector = "oracle"
[statistics]
n_resamples = 100
[gates]
prompt.margin = 0.5  # six cases without a loss leave losses of 0.46 open
copy.enabled = false
anatomy.enabled = false
palette.enabled = false
palette-collapse.enabled = false
"""
HEAD = "name: mine\nlicence: CC0-1.0\nseeds: [1]\ncases:\n"
COLOURS = ("red", "blue", "green", "yellow", "purple", "cyan")
ODD = '</script><img src=x onerror=alert(1)> a/b\\c 🐈‍⬛ & "d" | *e* `f` {{7*7}} %s ]]> 日本 @dev -- '
LONG = "{style} a red circle, " + (ODD * 40)[:1978]
"""2,000 characters."""
ALPHA = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 2})}


def case(name: str, prompt: str, *, color: str | None = None) -> str:
    check = f"{{type: object, label: circle, color: {color}}}" if color else ""
    return (
        f"  - id: {name}\n    family: attribute_binding\n"
        f"    prompt: {json.dumps(prompt, ensure_ascii=False)}\n    checks: [{check}]\n"
    )


def plain_suite(*more: str) -> str:
    prompts = (case(f"c-{color}", f"{{style}} a {color} circle", color=color) for color in COLOURS)
    return HEAD + "".join(prompts) + "".join(more)


def adapter(*, layer: str = "transformer.transformer_blocks.0.attn.to_q", n: int = 128) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        f"{layer}.lora_A.weight": rng.normal(size=(2, n)).astype(np.float32),
        f"{layer}.lora_B.weight": rng.normal(size=(n, 2)).astype(np.float32),
    }


@dataclass(frozen=True)
class Project:
    """A folder with settings, suite and adapter; `call` is the command line in it."""

    folder: Path

    def call(self, *arguments: str | Path) -> Result:
        with chdir(self.folder):
            return CliRunner().invoke(app, [str(one) for one in arguments], prog_name="lorabench")

    def run(self, *arguments: str | Path) -> Result:
        return self.call("run", "-q", "--no-report", *arguments)

    def write_suite(self, text: str) -> None:
        (self.folder / "mine.lora.yaml").write_text(text, encoding="utf-8")

    def write_adapter(self, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
        path = self.folder / "adapter.safetensors"
        save_file(tensors, path, metadata=ALPHA if metadata is None else metadata)
        return path

    def verdicts(self) -> list[Path]:
        return sorted(self.folder.rglob("results.json"))

    def results(self) -> Results:
        (path,) = self.verdicts()
        return read_results(path)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    (made.folder / "lorabench.toml").write_text(SETTINGS, encoding="utf-8")
    made.write_suite(plain_suite())
    made.write_adapter(adapter())
    return made


@pytest.fixture
def training(project: Project) -> Path:
    folder = project.folder / "training"
    folder.mkdir()
    return folder


# ------------------------------------------------------------------------------------------------- adapters


def _poisoned(value: float) -> Callable[[Project], None]:
    def put(project: Project) -> None:
        tensors = adapter()
        next(array for name, array in tensors.items() if "lora_B" in name)[0, 0] = value
        project.write_adapter(tensors)

    return put


def _never_trained(project: Project) -> None:
    project.write_adapter({name: array * ("lora_A" in name) for name, array in adapter().items()})


def _truncated(project: Project) -> None:
    path = project.write_adapter(adapter())
    path.write_bytes(path.read_bytes()[:-100])


def _pickled(project: Project) -> None:
    (project.folder / "adapter.safetensors").write_bytes(pickle.dumps({"a": 1}))


BROKEN_FILES: dict[str, tuple[Callable[[Project], Any], int, str]] = {
    "empty": (lambda project: project.write_adapter({}), 3, "it holds no tensor at all"),
    "truncated": (_truncated, 3, "Wait until the trainer has finished"),
    "not a number": (_poisoned(float("nan")), 3, "NaN or Inf in 1 tensors"),
    "infinite": (_poisoned(float("inf")), 3, "NaN or Inf in 1 tensors"),
    "never trained": (_never_trained, 3, "it was never"),
    "without alpha": (lambda project: project.write_adapter(adapter(), metadata={}), 2, "--alpha 2"),
    "a pickle": (_pickled, 2, "loading a pickle runs the code inside it"),
    "missing": (lambda project: (project.folder / "adapter.safetensors").unlink(), 2, "Check the path"),
}


@pytest.mark.parametrize("fault", BROKEN_FILES)
def test_a_broken_adapter_is_told_by_name_and_gets_no_verdict(fault: str, project: Project) -> None:
    make, code, words = BROKEN_FILES[fault]
    make(project)

    done = project.run()

    assert done.exit_code == code, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert project.verdicts() == []
    assert not (project.folder / "cache").exists()


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            ("transformer.down_blocks.1.attentions.0.attn1.to_q",),
            "none of the 1 modules of adapter is in it; its names are those of",
        ),
        (
            ("transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.37.attn.to_q"),
            "1 of the 2 of adapter are. Without a place: transformer.transformer_blocks.37.attn.to_q",
        ),
    ],
    ids=["another family", "half matching"],
)
def test_an_adapter_of_another_base_is_told_before_a_picture_is_made(
    project: Project, layers: Sequence[str], words: str
) -> None:
    project.write_adapter({name: array for layer in layers for name, array in adapter(layer=layer).items()})
    base = shipped_data("fixtures/models/tiny-flux")

    done = project.run("--set", "model.backend=diffusers", "--base", base, "--device", "cpu")

    assert done.exit_code == 3, done.stderr
    assert words in done.stderr
    assert project.verdicts() == []
    assert list((project.folder / "cache").rglob("*.png")) == []


# --------------------------------------------------------------------------------------------------- suites


def _bomb() -> str:
    lines = ["name: mine", "licence: CC0-1.0", "seeds: [1]", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, "cases: *a9", ""])


BAD_SUITES = {
    "an id twice": (
        plain_suite(case("c-red", "a cyan square")),
        "case ids must be unique; found 'c-red' on lines 5 and 29",
    ),
    "unknown key": (
        plain_suite().replace("    family:", "    famly:", 1),
        "cases[0].famly: unknown key 'famly'. Did you mean 'family'?",
    ),
    "bomb": (_bomb(), "aliases must expand to at most 200,000 values"),
    "nested": (HEAD + "  - " + "[" * 3000 + "]" * 3000 + "\n", "must be nested a few levels deep only"),
    "code": (plain_suite().replace("name: mine", "name: !!python/object:os.system mine"), "must be plain YAML"),
    "prompt too long": (plain_suite(case("long", "x" * 4001)), "at most 4000 characters"),
    "no cases": ("name: mine\nlicence: CC0-1.0\nseeds: [1]\ncases: []\n", "cases"),
}


@pytest.mark.parametrize("fault", BAD_SUITES)
@pytest.mark.parametrize("command", [("run", "-q", "--no-report"), ("validate",)], ids=["run", "validate"])
def test_a_wrong_suite_is_told_with_its_place(fault: str, command: tuple[str, ...], project: Project) -> None:
    text, words = BAD_SUITES[fault]
    project.write_suite(text)

    done = project.call(*command, "mine.lora.yaml")

    assert done.exit_code == 2, done.stderr
    assert words in done.stderr + done.stdout
    assert re.search(r"mine\.lora\.yaml(:\d+)?: ", done.stderr + done.stdout)
    assert project.verdicts() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[model]\nbse = 'x'\n", "unknown key 'bse'. Did you mean 'base'"),
        ("[generation]\nheight = 'tall'\n", "generation.height: must be a whole number"),
        ("[gates.prmpt]\nmargin = 0.1\n", "[gates] must name existing gates; found 'prmpt'. Did you mean 'prompt'"),
        ("suites = [\n", "lorabench.toml"),
    ],
)
def test_wrong_settings_are_told_by_key_and_file(project: Project, line: str, words: str) -> None:
    (project.folder / "other.toml").write_text(line, encoding="utf-8")

    done = project.run("mine.lora.yaml", "--config", "other.toml", "--set", "model.backend=synthetic")

    assert done.exit_code == 2, done.stderr
    assert words.replace("lorabench.toml", "other.toml") in done.stderr
    assert "[gates]" in words or "settings must be valid; found 1 problem" in done.stderr
    assert project.verdicts() == []


def test_a_baseline_that_nobody_accepts_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    project.run()
    for variable in CI_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("getpass.getuser", nobody)

    done = project.call("baseline", "save", "mine", project.verdicts()[0].parent, "--reason", "first")

    assert done.exit_code == 2, done.stderr
    assert "a baseline names who accepted it; the system knows no user name. Say --by NAME." in done.stderr


# -------------------------------------------------------------------------------------------------- prompts


@dataclass
class Shown(HTMLParser):
    """What a browser makes of a page: the text of each prompt, and all elements."""

    prompts: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    inside: bool = False

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "p" and dict(attrs).get("class") == "prompt":
            self.inside = True
            self.prompts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.prompts[-1] += data


def test_hostile_prompts_go_through_every_rendering_as_they_were_written(project: Project) -> None:
    assert len(LONG) == 2000
    project.write_suite(plain_suite(case("odd", f"{{style}} {ODD}"), case("long", LONG), case("slash", "/ // /a/../b")))
    expected = {one.prompt for one in _cells(project) if one.cell.case in ("odd", "long", "slash")}

    done = project.call("run", "-q", "--base", "black")
    (folder,) = (path.parent for path in project.verdicts())
    shown = Shown()
    shown.feed((folder / "report.html").read_text(encoding="utf-8"))
    junit = ElementTree.fromstring(project.call("gate", folder, "--format", "junit").stdout)
    told = "".join(element.text or "" for element in junit.iter("system-out"))
    markdown = project.call("gate", folder, "--format", "markdown").stdout
    github = project.call("gate", folder, "--format", "github").stdout

    assert done.exit_code == 1, done.stdout + done.stderr
    assert len(project.results().images) == 3 * 9
    assert {one for one in expected if one.startswith("a zvq")} <= set(shown.prompts)
    assert not [attrs for _, attrs in shown.elements if any(name.startswith("on") for name in attrs)]
    assert not [attrs for tag, attrs in shown.elements if tag == "img" and attrs.get("src") == "x"]
    assert [attrs.get("type") for tag, attrs in shown.elements if tag == "script"] == ["application/json", None]
    assert ODD.strip() in told
    assert "<img" not in markdown
    assert "</script>" not in markdown
    assert "&lt;/script&gt;" in markdown
    assert all(line.startswith("::") for line in github.splitlines())


def _cells(project: Project) -> Sequence[Any]:
    """The planned cells of the project's suite."""
    from lorabench.evaluation.planning import plan_cells
    from lorabench.records.plan import Arm, GenerationSettings, StylePhrases
    from lorabench.storage.suite_files import read_suite

    style = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of")
    suite = read_suite(project.folder / "mine.lora.yaml").suite
    return plan_cells(suite, style=style, settings=GenerationSettings(), arms=[Arm.CONTROL, Arm.CANDIDATE]).cells


# -------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORABENCH_WEIGHTS_DIR", str(tmp_path / "no-weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_without_lpips_weights_copies_are_unmeasured_and_the_command_that_fetches_them_is_named(
    project: Project, training: Path, without_weights: None
) -> None:
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(training / "a.png")

    done = project.run("--training-folder", training, "--set", "gates.copy.enabled=true")
    gates = {gate.gate: gate for gate in project.results().gates}

    assert done.exit_code == 3, done.stderr
    assert gates["copy"].outcome is Outcome.UNMEASURED
    assert "lorabench weights fetch lpips" in gates["copy"].reason
    assert "lorabench weights fetch lpips" in " ".join(done.stdout.split())
    assert gates["prompt"].outcome is Outcome.PASS
    assert [item for item in project.results().measurements if item.metric == "copy_rate"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--detector", "owlv2:empty"), "judges.detector must name a complete model; 'empty'"),
        (("--clip", "local-dir:nowhere"), "judges.clip must name an open_clip model with its weights"),
    ],
)
def test_a_judge_that_was_asked_for_and_is_not_there_gives_no_verdict(
    project: Project, without_weights: None, arguments: tuple[str, ...], words: str
) -> None:
    (project.folder / "empty").mkdir()

    done = project.run(*arguments)

    assert done.exit_code == 3, done.stderr
    assert words in done.stderr
    assert project.verdicts() == []


def test_weights_that_are_named_and_not_there_leave_copies_unmeasured(project: Project, training: Path) -> None:
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(training / "a.png")

    done = project.run(
        "--training-folder", training, "--set", "gates.copy.enabled=true", "--lpips-weights", "nowhere.safetensors"
    )
    (reason,) = (gate.reason for gate in project.results().gates if gate.gate == "copy")

    assert done.exit_code == 3, done.stderr
    assert "found no file in nowhere.safetensors" in reason


# ----------------------------------------------------------------------------------------- disk and processes


def test_a_disk_that_is_full_at_the_results_keeps_all_pictures(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(handle: int, data: Any) -> int:
        if b'"run_id"' in bytes(data[:200]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr("lorabench.storage.atomic.os.write", full)
        done = project.run()
    without = project.verdicts()
    again = project.run()

    assert done.exit_code == 3
    assert "results.json" in done.stderr
    assert "must fit on the disk; no space is left in" in done.stderr
    assert without == []
    assert again.exit_code == 0, again.stderr
    assert project.results().provenance.n_generated == 0
    assert list(project.folder.rglob("*.tmp")) == []


def test_a_quota_that_is_used_up_ends_with_3_and_the_same_command_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writes = os.write, [0]

    def full(handle: int, data: Any) -> int:
        writes[0] += 1
        if writes[0] > 8:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr("lorabench.storage.atomic.os.write", full)
        done = project.run()
    kept = len(list((project.folder / "cache/pictures").glob("??/*.json")))
    again = project.run()

    assert done.exit_code == 3
    assert "what was finished before is kept" in done.stderr
    assert again.exit_code == 0, again.stderr
    assert project.results().provenance.n_from_cache == kept > 0


def test_two_processes_on_one_cache_find_the_same_numbers(project: Project) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LORABENCH_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    command = [sys.executable, "-W", "ignore", "-m", "lorabench", "run", "-q", "--no-report", "--batch-size", "1"]
    both = [
        subprocess.Popen(
            [*command, "--runs-dir", f"runs-{name}"],
            cwd=project.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    first, second = (read_results(path) for path in project.verdicts())

    assert [process.returncode for process in both] == [0, 0], told
    assert {(i.cell.key, i.sha256) for i in first.images} == {(i.cell.key, i.sha256) for i in second.images}
    assert first.gates == second.gates
    assert first.measurements == second.measurements
    assert list(project.folder.rglob("*.tmp")) == []


# ------------------------------------------------------------------------------------------ training pictures


def noise(mode: str, *, size: tuple[int, int] = (128, 128)) -> Image.Image:
    pixels = np.random.default_rng(size[0]).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_grey_pictures_and_those_of_another_size_are_taken_and_the_size_is_recorded(
    project: Project, training: Path
) -> None:
    noise("L").save(training / "grey.png")
    noise("RGB", size=(301, 77)).save(training / "wide.jpg")
    noise("RGB", size=(16, 16)).save(training / "small.webp")
    noise("RGBA").save(training / "with-alpha.png")

    done = project.run("--training-folder", training)
    assert done.exit_code == 0, done.stdout + done.stderr
    results = project.results()

    assert [picture.name for picture in results.training] == ["grey.png", "small.webp", "wide.jpg", "with-alpha.png"]
    for picture in results.training:
        with Image.open(project.verdicts()[0].parent / "pictures" / f"{picture.sha256}.png") as image:
            assert (image.size, image.mode) == ((128, 128), "RGB")


def _cmyk(path: Path) -> None:
    noise("CMYK").save(path.with_suffix(".jpg"))


def _deep(path: Path) -> None:
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(path)


def _cut_off(path: Path) -> None:
    noise("RGB").save(path)
    path.write_bytes(path.read_bytes()[:5000])


def _text(path: Path) -> None:
    path.write_text("not a picture", encoding="utf-8")


BAD_PICTURES: dict[str, tuple[Callable[[Path], None], str]] = {
    "CMYK": (_cmyk, "its colour mode is CMYK. Convert it to RGB"),
    "16 bits": (_deep, "it has 16 or 32 bits a channel. Save it with 8 bits"),
    "cut off": (_cut_off, "it is damaged or cut off"),
    "no picture": (_text, "it is no picture that can be read"),
    "none at all": (lambda path: None, "the training folder must hold pictures"),
    "no folder": (lambda path: path.parent.rmdir(), "training is not a folder"),
}


@pytest.mark.parametrize("fault", BAD_PICTURES)
def test_training_pictures_that_cannot_be_used_are_named(fault: str, project: Project, training: Path) -> None:
    make, words = BAD_PICTURES[fault]
    make(training / "odd.png")

    done = project.run("--training-folder", training)

    assert done.exit_code == 3, done.stderr
    assert words in done.stderr
    assert str(training) in done.stderr
    assert project.verdicts() == []
