"""A headless Chromium that opens rendered pages from the disk, and notes whatever goes wrong on them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.html import write_html
from lorabench.report.layout import Layout
from lorabench.report.several_html import write_several

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None and "REQUIRE_BROWSER" not in os.environ:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def written(small_example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the small example, on the disk."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_html(small_example.results, path, picture=small_example.picture)


@pytest.fixture(scope="session")
def folder(small_example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the small example as a folder."""
    path = tmp_path_factory.mktemp("folder") / "report"
    return write_html(small_example.results, path, picture=small_example.picture, layout=Layout.FOLDER)


@pytest.fixture(scope="session")
def three_runs(small_example) -> list[Results]:
    """The small example three times: as it is, with other weights and ranks, and with pictures that are better."""
    first = small_example.results
    other = first.candidate.model_copy(update={"name": "papercut-000900", "digest": "ab" * 32, "ranks": (8,)})
    better = tuple(
        one.model_copy(update={"value": one.value + 0.5})
        if one.metric == "prompt_following_score" and one.cell.arm is Arm.CANDIDATE and one.cell.case == "spatial-001"
        else one
        for one in first.measurements
    )
    checks = tuple(
        one.model_copy(update={"passed": not one.passed})
        if one.cell.arm is Arm.CANDIDATE and one.cell.case == "counting-001" and one.passed is not None
        else one
        for one in first.checks
    )
    return [
        first,
        first.model_copy(update={"run_id": "second", "candidate": other, "checks": checks}),
        first.model_copy(update={"run_id": "third", "measurements": better}),
    ]


@pytest.fixture(scope="session")
def several(small_example, three_runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the three runs."""
    path = tmp_path_factory.mktemp("several") / "comparison.html"
    return write_several(three_runs, path, picture=small_example.picture)


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page; afterwards nothing may have been written to its console, thrown, or asked of a network."""
    wrong: list[str] = []
    contexts = []

    def open_page(
        fragment: str = "", *, path: Path = written, address: str | None = None, before: str = "", **settings: object
    ) -> Page:
        """A page of the disk, or of a server at `address`; `before` runs in it before anything else."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "blob:", (address or "file:").removesuffix("index.html")))
                else wrong.append(request.url)
            ),
        )
        if before:
            page.add_init_script(before)
        page.goto((address or path.as_uri()) + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
