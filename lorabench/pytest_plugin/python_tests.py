"""Python tests over a suite: `@pytest.mark.lora_suite("portrait.lora.yaml")` and a parameter `lora_prompt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorabench.errors import LorabenchError
from lorabench.pytest_plugin.stash import PROMPT
from lorabench.pytest_plugin.suite_items import OFF_REASON, PromptReference, mark_prompt, prompt_marker, session_of

if TYPE_CHECKING:
    from lorabench.pytest_plugin.options import Options

FIXTURE = "lora_prompt"


def parametrise(metafunc: pytest.Metafunc, marker: pytest.Mark, *, options: Options) -> None:
    """One test per prompt and candidate.

    Raises:
        pytest.Collector.CollectError: The marker, the suite or the settings are wrong, or the test asks for no prompt.
    """
    if len(marker.args) != 1 or marker.kwargs or FIXTURE not in metafunc.fixturenames:
        msg = (
            "lora_suite takes the path of one suite file, on a test that asks for lora_prompt, lora_result, "
            f"lora_images or lora_check; found {metafunc.definition.nodeid} with lora_suite{marker.args}."
        )
        raise pytest.Collector.CollectError(msg)
    path = (metafunc.definition.path.parent / Path(marker.args[0])).resolve()
    try:
        subjects = session_of(metafunc.config, options).subjects(path)
    except LorabenchError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    references = [
        PromptReference(subject, case) for subject in subjects for case in subject.suite.cases[: subject.config.limit]
    ]
    skip = [] if options.enabled else [pytest.mark.skip(reason=OFF_REASON)]
    metafunc.parametrize(
        FIXTURE,
        [pytest.param(ref, id=_id(ref), marks=[prompt_marker(ref), *skip]) for ref in references],
        indirect=True,
    )


def adopt(item: pytest.Item) -> None:
    """Give a parametrised test the keywords of its prompt, and its place in a window."""
    callspec = getattr(item, "callspec", None)
    reference = None if callspec is None else callspec.params.get(FIXTURE)
    if isinstance(reference, PromptReference):
        mark_prompt(item, reference)


def prompt_of(request: pytest.FixtureRequest) -> PromptReference:
    """The prompt a test is about."""
    reference: PromptReference | None = request.node.stash.get(PROMPT, None)
    if reference is None:
        pytest.fail(
            "lora_prompt needs a prompt; this test has none. Mark it with lora_suite('<file>.lora.yaml').",
            pytrace=False,
        )
    return reference


def _id(reference: PromptReference) -> str:
    label = reference.subject.candidate.label
    return f"{reference.case.id}-{label}" if label else reference.case.id
