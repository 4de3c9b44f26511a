"""Reading suites: what is legal, and what each mistake is told as."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lorabench.errors import ExitCode, SpecError
from lorabench.storage.suite_files import SuiteError, find_suites, read_suite
from lorabench.storage.yaml_reading import MAX_BYTES

GOOD = """\
# a comment
name: mine
licence: CC0-1.0
seeds: [1, 2]
cases:
  - id: one
    family: spatial
    prompt: "{style} a cat left of a dog"
    checks:
      - {type: relation, subject: cat, relation: left of, object: dog}
    foils:
      - {kind: relation, prompt: "{style} a cat right of a dog"}
  - id: two
    family: counting
    prompt: two owls
"""


def write(folder: Path, text: str, name: str = "mine.lora.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        read_suite(write(folder, text))
    return str(caught.value)


def test_suite_comes_with_lines_and_digests(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)

    loaded = read_suite(path)

    assert [case.id for case in loaded.suite.cases] == ["one", "two"]
    assert dict(loaded.line_of) == {"one": 6, "two": 13}
    assert loaded.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.digest == loaded.suite.content_digest()


def test_comments_and_layout_do_not_enter_the_digest(tmp_path: Path) -> None:
    first = read_suite(write(tmp_path, GOOD))
    second = read_suite(write(tmp_path, "# other\n" + GOOD.replace("seeds: [1, 2]", "seeds:\n  - 1\n  - 2")))

    assert first.digest == second.digest
    assert first.file_sha256 != second.file_sha256


@pytest.mark.parametrize(
    "prompt",
    ["no", "on", "off", "2020-01-01", "</script><b>", "a/b\\\\c", "🐈 and 🐕", "x" * 2000, "{curly} braces", "日本語"],
)
def test_legal_prompts_are_read_as_written(tmp_path: Path, prompt: str) -> None:
    quoted = prompt if prompt in {"no", "on", "off", "2020-01-01"} else f'"{prompt}"'

    loaded = read_suite(write(tmp_path, GOOD.replace("two owls", quoted)))

    assert loaded.suite.cases[1].prompt == prompt.replace("\\\\", "\\")


def test_longest_prompt_is_4000_characters(tmp_path: Path) -> None:
    assert len(read_suite(write(tmp_path, GOOD.replace("two owls", "y" * 4000))).suite.cases[1].prompt) == 4000
    assert "at most 4000 characters" in refusal(tmp_path, GOOD.replace("two owls", "y" * 4001))


def test_unknown_key_is_named_with_line_and_suggestion(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("    family: counting", "    famly: counting"))

    assert "mine.lora.yaml:14: cases[1].famly: unknown key 'famly'. Did you mean 'family'?" in message
    assert "cases[1].family: must be given; found no 'family'. Add it." in message
    assert "found 2 problems" in message


def test_unknown_key_of_a_check_is_compared_with_that_checks_keys(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("subject: cat, relation", "sbject: cat, relation"))

    assert "mine.lora.yaml:10: cases[0].checks[0].sbject: unknown key 'sbject'. Did you mean 'subject'?" in message


def test_unknown_value_gets_a_suggestion(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("relation: left of,", "relation: left,"))

    assert "must be one of left of, right of, above, below; found 'left'. Did you mean 'left of'?" in message


def test_unknown_type_of_check_gets_a_suggestion(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("type: relation", "type: relatoin"))

    assert "found 'relatoin'. Did you mean 'relation'?" in message


def test_check_without_type_is_told(tmp_path: Path) -> None:
    assert "must say its `type`; found none" in refusal(tmp_path, GOOD.replace("type: relation, ", ""))


def test_all_problems_are_listed_in_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("seeds: [1, 2]", "seeds: [one]").replace("family: counting", "family: countin")

    with pytest.raises(SuiteError) as caught:
        read_suite(write(tmp_path, text))

    assert [problem.line for problem in caught.value.problems] == [4, 14]
    assert "must be a whole number; found 'one'" in str(caught.value)


def test_number_as_id_is_told_to_be_quoted(tmp_path: Path) -> None:
    assert "must be a text; found 12. Put it in quotes." in refusal(tmp_path, GOOD.replace("id: two", "id: 12"))


def test_repeated_id_names_both_lines_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("id: two", "id: one"))

    assert "case ids must be unique; found 'one' on lines 6 and 13. Rename one." in message
    assert "found 1 problem." in message


def test_repeated_key_names_both_lines(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "    prompt: three owls\n")

    assert "mine.lora.yaml:16: cases[1].prompt: keys must be unique; found 'prompt' on lines 15 and 16" in message


def test_unquoted_slot_is_told_to_be_quoted(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("prompt: two owls", "prompt: {style} two owls"))

    assert ":15" in message
    assert "Put a prompt that begins with {style} in quotes." in message


@pytest.mark.parametrize("slot", ["{stlye}", "{trigger}", "{Style}"])
def test_misspelt_slot_is_refused(tmp_path: Path, slot: str) -> None:
    message = refusal(tmp_path, GOOD.replace("two owls", f'"{slot} two owls"'))

    assert f"the slot for the style phrase must be {{style}}; found {slot}" in message


def test_foil_equal_to_its_prompt_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("a cat right of a dog", "A cat  left of a dog"))

    assert "mine.lora.yaml:12: cases[0].foils[0].prompt: a foil must differ from its prompt" in message


def test_parents_must_be_earlier_questions(tmp_path: Path) -> None:
    check = "    checks: [{type: question, text: Is there an owl?, parents: [0]}]\n"

    assert "parents must be indices of earlier question checks of the case; found 0" in refusal(tmp_path, GOOD + check)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("# only a comment\n", "comments only"),
        ("- a\n- b\n", "must be a table with name, licence, seeds and cases; found a list"),
        ("name: a\n\tseeds: [1]\n", "found a tab"),
        ("name: [a\n", "must be YAML"),
        ("name: a\n---\nname: b\n", "must hold one document"),
        ("name: !!python/object:os.system a\n", "must be plain YAML; found the tag"),
        ("%YAML 1.1\n---\nname: no\n", "must be YAML 1.2"),
        ("name: *nowhere\n", "must be YAML"),
        ("a: &x [*x]\n", "an anchor must not contain itself"),
        ("[a, b]: c\n", "a key must be a word"),
        ("name: 'a\x01'\n", "must be YAML text"),
        ("a: " + "[" * 3000 + "]" * 3000 + "\n", "nested a few levels deep"),
    ],
)
def test_broken_text_is_refused_with_words(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_aliases_that_explode_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]

    assert "aliases must expand to at most 200,000 values" in refusal(tmp_path, "\n".join(lines))


def test_an_honest_alias_is_read(tmp_path: Path) -> None:
    text = GOOD.replace("name: mine", "name: mine").replace("prompt: two owls", "prompt: &p two owls\n    tags: []")

    assert read_suite(write(tmp_path, text)).suite.cases[1].prompt == "two owls"


def test_large_file_is_refused(tmp_path: Path) -> None:
    assert "must be at most 2,097,152 bytes" in refusal(tmp_path, "#" * (MAX_BYTES + 1))


def test_latin_1_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.lora.yaml"
    path.write_bytes(b"name: a\nlicence: \xe9\n")

    with pytest.raises(SuiteError, match=r"a\.lora\.yaml:2: the file: must be UTF-8; found byte 0xe9"):
        read_suite(path)


def test_byte_order_mark_is_legal(tmp_path: Path) -> None:
    path = tmp_path / "a.lora.yml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())

    assert read_suite(path).suite.name == "mine"


def test_file_of_another_name_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"a suite's name must end in \.lora\.yaml"):
        read_suite(write(tmp_path, GOOD, "mine.yaml"))
    with pytest.raises(SuiteError, match="must be a file that can be read"):
        read_suite(tmp_path / "none.lora.yaml")


def test_suite_error_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_suite(write(tmp_path, ""))
    assert caught.value.exit_code is ExitCode.USAGE


def test_suites_are_found_by_file_folder_and_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    second = write(tmp_path / "deep", GOOD, "b.lora.yml")
    first = write(tmp_path, GOOD, "a.lora.yaml")
    write(tmp_path, GOOD, "c.yaml")

    assert find_suites([tmp_path]) == (first, second)
    assert find_suites([first, tmp_path]) == (first, second)
    assert find_suites(["world/screen"])[0].as_posix().endswith("suites/world/screen.lora.yaml")


def test_unknown_suite_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="Did you mean 'spatial'"):
        find_suites(["spatail"])
    with pytest.raises(SuiteError, match="a folder of suites must hold a file"):
        find_suites([tmp_path])
