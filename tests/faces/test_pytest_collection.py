"""Collecting suite files: errors name file, line and key; options that make no sense are usage errors."""

from __future__ import annotations

import pytest

from lorabench.pytest_plugin.options import CI_VARIABLES, candidates
from lorabench.storage import baselines


def edit(project, old: str, new: str) -> None:
    path = project.path / "tiny.lora.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def line_of(project, words: str) -> int:
    lines = (project.path / "tiny.lora.yaml").read_text().splitlines()
    return max(number for number, line in enumerate(lines, start=1) if words in line)


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("id: p3", "id: p1", "id: p1", "case ids must be unique; found 'p1' on lines"),
        ("family: counting", "famly: counting", "famly", "unknown key 'famly'. Did you mean 'family'?"),
        ("family: counting", "family: cuonting", "cuonting", "found 'cuonting'. Did you mean 'counting'?"),
        ("{style} a blue", "{stlye} a blue", "stlye", "found {stlye}. Write {style}."),
    ],
)
def test_mistake_in_a_suite_names_file_line_and_key(project, old, new, where, words):
    edit(project, old, new)

    result = project.run_off()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert words in result.stdout.str()
    assert f"tiny.lora.yaml:{line_of(project, where)}: cases[" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_held_out_prompt_that_is_a_training_caption_is_a_collection_error(project):
    folder = project.path / "training"
    folder.mkdir()
    (folder / "one.png").write_bytes(b"never opened here")
    (folder / "one.txt").write_text("a zvq drawing of a blue square")
    project.settings(more='\n[training_set]\nfolder = "training"\n')

    result = project.run()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = line_of(project, "id: p2")
    result.stdout.fnmatch_lines([f"*tiny.lora.yaml:{line}: p2: prompt equals the caption of one.png"])


def test_mistake_in_the_settings_is_a_collection_error(project):
    (project.path / "lorabench.toml").write_text('[modle]\nbase = "x"\n')

    result = project.run_off()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*lorabench.toml: modle*: unknown key 'modle'. Did you mean 'model'?"])


def test_settings_file_of_the_command_line(project):
    (project.path / "lorabench.toml").rename(project.path / "nightly.toml")

    assert project.run("--lorabench-config", "nightly.toml").ret == 0


def test_other_yaml_files_are_left_alone(project):
    (project.path / "tiny.lora.yaml").rename(project.path / "tiny.yaml")

    assert project.run().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_pattern_of_suites_can_be_narrowed(project):
    project.suite("nightly-one.lora.yaml", name="nightly", n=1, prefix="n")
    project.pytester.makeini("[pytest]\nlorabench_suites = nightly-*.lora.yaml\n")

    result = project.run_off("--collect-only", "-q")

    assert {line.partition("::")[0] for line in result.outlines if "::" in line} == {"nightly-one.lora.yaml"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lorabench-cache-only", "--lorabench-no-cache"), "exclude each other; found both"),
        (("--lorabench-seeds", "1;2"), "--lorabench-seeds must be whole numbers separated by commas; found '1;2'"),
        (("--lorabench-batch-size", "0"), "must be a whole number of prompts from 1 up, or auto; found '0'"),
        (("--lorabench-lora", "a.safetensors:nan"), "must be a finite number; found 'a.safetensors:nan'"),
        (("--lorabench-inconclusive", "maybe"), "invalid choice: 'maybe'"),
        (("-o", "lorabench_dist_policy=load"), "lorabench_dist_policy must be one of loadfile, error, ignore"),
        (("-o", "lorabench_on_missing_baseline=skip"), "must be one of fail, warn; found 'skip'"),
        (("-o", "lorabench_inconclusive=maybe"), "must be one of fail, pass; found 'maybe'"),
    ],
)
def test_options_that_are_not_understood_are_usage_errors(project, arguments, words):
    result = project.run(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("v7.safetensors", "v7.safetensors", None),
        ("v7.safetensors:0.8", "v7.safetensors", 0.8),
        ("C:\\loras\\v7.safetensors", "C:\\loras\\v7.safetensors", None),
        ("runs/a:b/v7.safetensors:1", "runs/a:b/v7.safetensors", 1.0),
    ],
)
def test_path_and_scale_of_an_adapter(tmp_path, text, path, scale):
    (found,) = candidates([text], folder=tmp_path)

    assert (found.path, found.scale, found.label) == (path, scale, "")


def test_labels_of_several_adapters_differ(tmp_path):
    texts = ["a/pytorch_lora_weights.safetensors", "b/Big One.safetensors", "c/big-one.safetensors", "x.safetensors:2"]

    assert [found.label for found in candidates(texts, folder=tmp_path)] == ["a", "big-one", "big-one-2", "x-x2"]


def test_ci_is_recognised_as_the_baseline_store_does():
    assert CI_VARIABLES == baselines.CI_VARIABLES
