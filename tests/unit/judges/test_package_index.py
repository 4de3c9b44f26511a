from __future__ import annotations

import errno
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorabench.judges import package_index
from lorabench.judges.package_index import (
    PUBLIC_INDEX,
    DownloadError,
    HashMismatchError,
    NoSpaceError,
    configured_indexes,
    download,
    without_credentials,
)

CONTENT = b"the archive" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A local index: `/html`, `/json` and `/locked` (wants a password) list the file; `/empty` lists another."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            if self.path.startswith("/locked") and not self.headers.get("Authorization"):
                self.answer(401, "text/plain", b"who?")
            elif self.path.endswith(".tar.gz"):
                self.answer(200, "application/gzip", CONTENT)
            elif self.path.startswith("/json"):
                body = {"files": [{"filename": "pkg-1.tar.gz", "url": "../../files/pkg-1.tar.gz"}]}
                self.answer(200, "application/vnd.pypi.simple.v1+json", json.dumps(body).encode())
            elif self.path.startswith("/empty"):
                self.answer(200, "text/html", b"<a href='../../files/pkg-2.tar.gz'>pkg-2.tar.gz</a>")
            else:
                self.answer(200, "text/html", b'<a href="../../files/pkg-1.tar.gz#sha256=0">pkg-1.tar.gz</a>')

        def answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield SimpleNamespace(
        address=f"http://127.0.0.1:{running.server_address[1]}", port=running.server_address[1], seen=seen
    )
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.mark.parametrize("kind", ["html", "json"])
def test_file_is_found_and_checked(server, kind, tmp_path) -> None:
    told = []

    path = download(
        "pkg",
        "pkg-1.tar.gz",
        sha256=SHA256,
        folder=tmp_path,
        indexes=[f"{server.address}/{kind}"],
        progress=lambda done, total: told.append((done, total)),
    )

    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in tmp_path.iterdir()] == ["pkg-1.tar.gz"]


def test_file_index_works_without_a_server(tmp_path) -> None:
    page = tmp_path / "simple" / "pkg"
    page.mkdir(parents=True)
    (page / "pkg-1.tar.gz").write_bytes(CONTENT)
    (page / "index.html").write_text('<a href="pkg-1.tar.gz">pkg-1.tar.gz</a>')

    path = download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path, indexes=[(tmp_path / "simple").as_uri()])

    assert path.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_leaves_nothing_behind(server, tmp_path) -> None:
    with pytest.raises(HashMismatchError, match=r"must have SHA-256 0{64}; found [0-9a-f]{64}.*not the published file"):
        download("pkg", "pkg-1.tar.gz", sha256="0" * 64, folder=tmp_path, indexes=[f"{server.address}/html"])

    assert list(tmp_path.iterdir()) == []


def test_next_index_is_asked_where_the_first_lacks_the_file(server, tmp_path) -> None:
    indexes = [f"{server.address}/empty", f"{server.address}/html"]

    assert download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path, indexes=indexes).is_file()


def test_message_without_network_names_each_attempt_and_no_password(tmp_path) -> None:
    indexes = ["http://me:secret@127.0.0.1:9/simple", "file:///nowhere/simple"]

    with pytest.raises(DownloadError, match="must be downloadable from a package index") as caught:
        download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path, indexes=indexes)

    message = str(caught.value)
    assert "http://127.0.0.1:9/simple failed" in message
    assert "file:///nowhere/simple failed" in message
    assert "PIP_INDEX_URL" in message
    assert "secret" not in message


def test_message_where_the_index_lacks_the_file(server, tmp_path) -> None:
    with pytest.raises(DownloadError, match="/empty does not list it"):
        download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path, indexes=[f"{server.address}/empty"])


def test_credentials_reach_the_index_host(server, tmp_path) -> None:
    download(
        "pkg",
        "pkg-1.tar.gz",
        sha256=SHA256,
        folder=tmp_path,
        indexes=[f"http://me:p%40ss@127.0.0.1:{server.port}/locked"],
    )

    assert server.seen[0] == ("/locked/pkg/", "Basic bWU6cEBzcw==")


def test_credentials_do_not_follow_a_link_to_another_host(tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(package_index, "urlopen", lambda request, **_: asked.append(request))
    index = package_index._Index("https://me:secret@index.example/simple", certificates="")

    index.open("https://files.example/pkg-1.tar.gz")
    index.open("https://index.example/simple/pkg/")

    assert [request.get_header("Authorization") is not None for request in asked] == [False, True]


def test_an_index_cannot_lead_to_local_files() -> None:
    index = package_index._Index("https://index.example/simple", certificates="")

    with pytest.raises(ValueError, match="found scheme 'file'"):
        index.open("file:///etc/passwd")


def test_too_little_space_is_said_before_downloading(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(package_index.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))

    with pytest.raises(NoSpaceError, match=r"MB of disk; found 0 MB free at .*set LORABENCH_WEIGHTS_DIR"):
        download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path, indexes=[f"{server.address}/html"])


def test_disk_filling_up_while_writing_is_said_in_words(tmp_path) -> None:
    with pytest.raises(NoSpaceError, match="Free some space"), package_index.writing(tmp_path, 5):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_error_while_writing_stays_what_it_is(tmp_path) -> None:
    with pytest.raises(PermissionError), package_index.writing(tmp_path, 5):
        raise PermissionError(errno.EACCES, "no")


@pytest.fixture
def pip_says(monkeypatch):
    """Let `pip config list` say what the test wants, in a clean environment."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)

    def say(output: str, returncode: int = 0) -> None:
        done = SimpleNamespace(stdout=output, returncode=returncode)
        monkeypatch.setattr(package_index.subprocess, "run", lambda *_, **__: done)

    return say


def test_public_index_is_the_default(pip_says) -> None:
    pip_says("")
    assert configured_indexes() == [PUBLIC_INDEX]

    pip_says("global.index-url='https://ignored.example'", returncode=1)
    assert configured_indexes() == [PUBLIC_INDEX]


def test_pip_configuration_is_followed(pip_says) -> None:
    pip_says(
        "global.index-url='https://a.example/simple'\nglobal.extra-index-url='https://b.example/x https://c.example'\n"
    )

    assert configured_indexes() == ["https://a.example/simple", "https://b.example/x", "https://c.example"]


def test_environment_wins_over_pip_configuration(pip_says, monkeypatch) -> None:
    pip_says("global.index-url='https://a.example/simple'")
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")

    assert configured_indexes() == ["https://env.example/simple"]


def test_no_index_is_respected(pip_says, tmp_path) -> None:
    pip_says("global.no-index='true'")

    assert configured_indexes() == []
    with pytest.raises(DownloadError, match="no index is configured"):
        download("pkg", "pkg-1.tar.gz", sha256=SHA256, folder=tmp_path)


def test_printed_addresses_have_no_user() -> None:
    assert (
        without_credentials("https://me:secret@index.example:8443/simple?x=1")
        == "https://index.example:8443/simple?x=1"
    )
    assert without_credentials(Path("/a/b").as_uri()) == "file:///a/b"
