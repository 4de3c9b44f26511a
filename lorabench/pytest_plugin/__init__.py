"""The pytest plugin: one test per prompt of a suite, one per gate.

pytest imports this in every project on the machine, so it needs the standard library and pytest only. Everything else
is imported when the first suite file is collected; a session without suites is left as it is.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabench.pytest_plugin.distribution import apply_policy, count_devices, is_distributed, is_worker
from lorabench.pytest_plugin.options import Options, add_options, read_options
from lorabench.pytest_plugin.stash import FILES, FROM_WORKERS, OPTIONS, SESSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.evaluation.engine import CaseView
    from lorabench.generation.protocol import Backend
    from lorabench.pytest_plugin.check import CheckCollector
    from lorabench.pytest_plugin.runner import Runner
    from lorabench.pytest_plugin.suite_items import PromptReference, SuiteFile, SuiteSession
    from lorabench.records.baseline import Baseline
    from lorabench.records.config import Config
    from lorabench.records.plan import Cell
    from lorabench.records.suite import Case

MARKERS = (
    "lora_suite(path): parametrises `lora_prompt` with the prompts of a suite file, beside the test file or absolute",
    "lora_prompt(suite=, category=, id=, golden=): set on items of prompts, for -m",
    "lora_gate(suite=, metric=): set on items of gates, for -m",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register flags and ini keys."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options and register the markers."""
    config.stash[OPTIONS] = read_options(config, environ=os.environ)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Set the way of distribution before xdist reads it."""
    if is_distributed(config):
        options = read_options(config, environ=os.environ)
        if options.enabled:
            apply_policy(
                config, options, n_devices=count_devices(os.environ), needs_device=_needs_device(config, options)
            )
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` means one worker per device, where the backend needs one."""
    options = read_options(config, environ=os.environ)
    if not options.enabled or options.cache_only or not _needs_device(config, options):
        return None
    return count_devices(os.environ)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Suite files by their name."""
    options = parent.config.stash[OPTIONS]
    if not any(fnmatch.fnmatch(file_path.name, pattern) for pattern in options.patterns):
        return None
    from lorabench.pytest_plugin.suite_items import SuiteFile

    file = SuiteFile.from_parent(parent, path=file_path)
    file.options = options
    return file


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per prompt, for Python tests marked `lora_suite`."""
    marker = metafunc.definition.get_closest_marker("lora_suite")
    if marker is not None:
        from lorabench.pytest_plugin.python_tests import parametrise

        parametrise(metafunc, marker, options=metafunc.config.stash[OPTIONS])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give Python tests over a suite the keywords of their prompt."""
    if item.get_closest_marker("lora_suite") is not None:
        from lorabench.pytest_plugin.python_tests import adopt

        adopt(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Where completeness is required, add a failing item for each suite of which something was left out."""
    yield
    options = config.stash[OPTIONS]
    suites = _suites(config)
    if not options.require_complete or (suites is None and not options.required_suites):
        return
    from lorabench.pytest_plugin.suite_items import completeness_items, session_of

    items += completeness_items(session_of(config, options), items, root=session)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the runner which prompts were selected: windows are made of them."""
    suites = _suites(session.config)
    if suites is not None:
        from lorabench.pytest_plugin.suite_items import scheduled

        suites.runner.schedule(scheduled(session.items))


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """One line about what is judged, if lorabench is on and there are suites."""
    suites = _suites(config)
    if suites is None or not config.stash[OPTIONS].enabled:
        return []
    records = suites.runner.records()
    prompts = sum(record["selected"] for record in records)
    return [f"lorabench: {prompts} prompts selected in {len(records)} run{'s' if len(records) != 1 else ''}"]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail once with everything `lora_check` found wrong."""
    outcome = yield
    check: Any = pyfuncitem.funcargs.get("lora_check")
    if check is not None:
        check.conclude()
    return outcome


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Release the runs and write the files asked for; a worker sends its counts to the controller instead."""
    config, suites = session.config, _suites(session.config)
    if suites is not None:
        suites.runner.close()
    if is_worker(config):
        config.workeroutput["lorabench"] = _records(config)  # type: ignore[attr-defined]
    elif records := _records(config):
        from lorabench.pytest_plugin.summary import write_files

        config.stash[FILES] = write_files(records, options=config.stash[OPTIONS])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what a worker says about its suites."""
    sent = getattr(node, "workeroutput", {}).get("lorabench", [])
    node.config.stash.setdefault(FROM_WORKERS, []).extend(sent)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was evaluated, the gates, and where the report lies; nothing without suites."""
    records = _records(config)
    if records and not config.option.collectonly and not config.getoption("no_summary", False):
        from lorabench.pytest_plugin.summary import write_summary

        files = config.stash.get(FILES, [])
        write_summary(terminalreporter, records, options=config.stash[OPTIONS], files=files)


@pytest.fixture(scope="session")
def lorabench_config(pytestconfig: pytest.Config) -> Config:
    """The settings of the session (of the first candidate, where there are several)."""
    options = pytestconfig.stash[OPTIONS]
    return _session(pytestconfig).settings_of(options.candidates[0])


@pytest.fixture(scope="session")
def lora_backend() -> Backend | None:
    """What makes the pictures. Override it in conftest.py with a loaded backend; None lets the settings choose."""
    return None


@pytest.fixture(scope="session")
def lora_runner(pytestconfig: pytest.Config) -> Runner:
    """Runs of the session: windows of selected prompts, whole suites for gates."""
    return _session(pytestconfig).runner


@pytest.fixture(scope="session")
def lora_baseline(lorabench_config: Config) -> Baseline | None:
    """The accepted baseline that is compared with, or None where none is configured."""
    if lorabench_config.baseline is None:
        return None
    from lorabench.storage.baselines import BaselineStore

    name, _, number = lorabench_config.baseline.partition("@")
    return BaselineStore(lorabench_config.baselines_dir).read(name, int(number) if number else None)


@pytest.fixture
def lora_prompt(request: pytest.FixtureRequest) -> Case:
    """The prompt of this test, with its checks."""
    return _prompt(request).case


@pytest.fixture
def lora_result(
    request: pytest.FixtureRequest, lora_prompt: Case, lora_runner: Runner, lora_backend: Backend | None
) -> CaseView:
    """Pictures, measurements and checks of this test's prompt; made with its window if need be."""
    from lorabench.pytest_plugin.suite_items import told_without_trace

    with told_without_trace():
        return lora_runner.view(_prompt(request).subject, lora_prompt.id, backend=lora_backend)


@pytest.fixture
def lora_images(
    request: pytest.FixtureRequest, lora_runner: Runner, lora_result: CaseView
) -> dict[Cell, NDArray[np.uint8]]:
    """The pixels of this test's prompt by cell, all arms and seeds: (height, width, 3), RGB, 0 to 255."""
    subject = _prompt(request).subject
    return {image.cell: lora_runner.picture(subject, image) for image in lora_result.images}


@pytest.fixture
def lora_check(lora_prompt: Case, lora_result: CaseView) -> CheckCollector:
    """Collects several checks on this test's prompt and fails once with all that do not hold."""
    from lorabench.pytest_plugin.check import CheckCollector

    return CheckCollector(lora_prompt, lora_result)


def _suites(config: pytest.Config) -> SuiteSession | None:
    """The session's suites, if one was collected; imports nothing if none was."""
    return config.stash.get(SESSION, None)


def _records(config: pytest.Config) -> list[dict[str, Any]]:
    """What this process and its workers know about their suites."""
    suites = _suites(config)
    return [*config.stash.get(FROM_WORKERS, []), *(suites.runner.records() if suites is not None else [])]


def _session(config: pytest.Config) -> SuiteSession:
    from lorabench.pytest_plugin.suite_items import session_of

    return session_of(config, config.stash[OPTIONS])


def _prompt(request: pytest.FixtureRequest) -> PromptReference:
    from lorabench.pytest_plugin.python_tests import prompt_of

    return prompt_of(request)


def _needs_device(config: pytest.Config, options: Options) -> bool:
    from lorabench.pytest_plugin.settings import backend_needs_device, resolve_settings

    return backend_needs_device(resolve_settings(config, options, options.candidates[0]).config)
