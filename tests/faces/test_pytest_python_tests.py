"""Python tests over a suite, and the fixtures they use."""

from __future__ import annotations

import pytest

TEST = """
import pytest

@pytest.mark.lora_suite("tiny.lora.yaml")
def test_mine(lora_prompt, lora_result, lora_images, lora_check, lorabench_config, lora_baseline, lora_runner):
    assert lora_prompt.id.startswith("p")
    assert {{image.cell.case for image in lora_result.images}} == {{lora_prompt.id}}
    assert {{pixels.shape for pixels in lora_images.values()}} == {{(128, 128, 3)}}
    assert lorabench_config.model.backend == "synthetic"
    assert lora_baseline is None
    {body}
"""


def write_test(project, body: str = "pass") -> None:
    project.pytester.makepyfile(test_mine=TEST.format(body=body))


def test_a_test_runs_once_per_prompt_and_shares_pictures_with_the_suite_file(project):
    write_test(project)
    project.plant("black", "p9")

    result = project.run("-v", "--strict-markers")

    assert {name for name in project.outcomes(result) if name.startswith("test_mine")} == {
        "test_mine[p1]",
        "test_mine[p2]",
        "test_mine[p3]",
    }
    assert result.ret == 0
    assert sorted(case for call in project.calls() for case in call) == ["p1", "p2", "p3"]


def test_without_the_flag_such_tests_are_skipped(project):
    write_test(project)

    project.run_off("test_mine.py").assert_outcomes(skipped=3)


def test_keywords_and_markers_select_such_tests(project):
    write_test(project)

    by_keyword = project.run_off("test_mine.py", "--collect-only", "-q", "-k", "cat-counting")
    by_marker = project.run_off("test_mine.py", "--collect-only", "-q", "-m", "lora_prompt(id='p2')")

    assert "test_mine.py::test_mine[p2]" in by_keyword.outlines
    assert by_keyword.outlines[0] == by_marker.outlines[0]


def test_lora_check_fails_once_with_everything(project):
    write_test(
        project,
        "lora_check.at_most('broken_rate', 0.5); lora_check.at_least('flat_fraction', 2.0); "
        "lora_check.at_most('flat_fraction', -1.0); lora_check.at_least('prompt_following_score', 0.5); "
        "lora_check.that(1 > 2, 'one must exceed two')",
    )

    result = project.run("test_mine.py", "-k", "p1")

    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "prompt p1: 4 checks do not hold:",
            "  flat_fraction on L1 must be at least 2; found *",
            "  flat_fraction on L1 must be at most -1; found *",
            "  prompt_following_score on L1 was not measured: no detector is configured*",
            "  one must exceed two",
        ]
    )


def test_lora_check_lets_a_good_prompt_pass(project):
    write_test(project, "lora_check.at_most('broken_rate', 0.5)")

    assert project.run("test_mine.py", "-k", "p1").ret == 0


def test_prompt_fixture_without_a_suite_says_what_to_do(project):
    project.pytester.makepyfile(test_lost="def test_lost(lora_prompt): pass")

    result = project.run("test_lost.py")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*lora_prompt needs a prompt; this test has none. Mark it with lora_suite(*"])


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("lora_suite()", "lora_suite takes the path of one suite file"),
        ("lora_suite('missing.lora.yaml')", "must be a file that can be read"),
    ],
)
def test_wrong_marker_is_a_collection_error(project, mark, words):
    project.pytester.makepyfile(test_wrong=f"import pytest\n@pytest.mark.{mark}\ndef test_wrong(lora_prompt): pass\n")

    result = project.run("test_wrong.py")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert words in result.stdout.str()


def test_two_backends_for_one_suite_are_refused(project):
    project.pytester.makepyfile(
        test_two=(
            "import pytest\n"
            "from lorabench.generation.synthetic import SyntheticBackend\n"
            "@pytest.fixture\n"
            "def lora_backend(): return SyntheticBackend()\n"
            "@pytest.mark.lora_suite('tiny.lora.yaml')\n"
            "def test_two(lora_result): pass\n"
        )
    )

    result = project.run("test_two.py", "-k", "p1 or p2")

    result.assert_outcomes(passed=1, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*all items of a suite file must have one lora_backend; found two for *"])
