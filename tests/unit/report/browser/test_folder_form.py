"""The page as a folder: from the disk, and from a server with the strictest policy there is."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


class Strict(SimpleHTTPRequestHandler):
    """Serves files under a policy that allows nothing inline and nothing from elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":  # browsers ask for it by themselves
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", STRICT + "; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    """Address of the folder on a server of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Strict, directory=str(folder.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    thread.join()


def walk_through(page: Page, n_cases: int) -> None:
    """Everything a reviewer may start on the page, once."""
    expect(page.locator("html.alive")).to_have_count(1)
    assert page.locator("article.card").first.evaluate("node => getComputedStyle(node).borderRadius") != "0px"
    page.fill("input[name=text]", "spatial")
    expect(page.locator("output[name=count]")).to_contain_text(f"of {n_cases} cases")
    page.locator("article.card:not([hidden]) .look").first.click()
    for key in "12345":
        page.keyboard.press(key)
    page.keyboard.press("+")
    expect(page.locator("[data-part=zoom]")).to_have_text("125 %")
    page.wait_for_function(
        "Array.from(document.querySelectorAll('#viewer img')).every(i => i.complete && i.naturalWidth > 0)"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    page.click("button[type=reset]")
    page.locator("#cases").scroll_into_view_if_needed()
    page.locator("article.card figure img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('article.card figure img').naturalWidth > 0")


def test_a_folder_works_from_the_disk(opened: Callable[..., Page], folder: Path, small_example) -> None:
    walk_through(opened(path=folder), len(small_example.results.suite.cases))


def test_a_folder_works_under_the_strictest_policy(opened: Callable[..., Page], served: str, small_example) -> None:
    walk_through(opened(address=served), len(small_example.results.suite.cases))


def test_its_own_policy_keeps_foreign_scripts_and_pictures_out(browser: Browser, folder: Path) -> None:
    page = browser.new_page()  # what is blocked is told on the console, which `opened` would not have
    page.goto(folder.as_uri())
    told = page.evaluate("""() => new Promise(done => {
        const blocked = [];
        document.addEventListener('securitypolicyviolation', event => {
            blocked.push(event.effectiveDirective); if (blocked.length === 2) done(blocked.sort()); });
        const add = (tag, what) => document.body.append(Object.assign(document.createElement(tag), what));
        add('script', {textContent: 'window.ran = 1'});
        add('img', {src: 'data:image/gif;base64,R0lGODlhAQABAAAAACw='});
    })""")
    assert told == ["img-src", "script-src-elem"]
    assert page.evaluate("window.ran") is None
    page.close()
