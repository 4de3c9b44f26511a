"""Models of the hub, against a stand-in on this machine that is silent, absent or knows no such model."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lorabench.judges import hub
from lorabench.judges.clip import ClipEncoder, ClipLoadError
from lorabench.judges.hub import hub_problem, in_hub_cache
from lorabench.judges.transformers_detector import DetectorLoadError, Owlv2Detector

MISTYPED = "gogle/owlv2-base"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine that may ask the hub, with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def ask_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    template = endpoint + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited before trying again: for one file of an absent hub 1 + 2 + 4 + 8 + 8 seconds."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A hub that takes calls and never answers; gives the first line of each."""
    lines: list[bytes] = []
    calls: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                calls.append(server.accept()[0])
                lines.append(calls[-1].recv(1000).splitlines()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=take, daemon=True).start()
        ask_at(f"http://127.0.0.1:{server.getsockname()[1]}", monkeypatch)
        monkeypatch.setattr(hub, "PATIENCE", 0.5)
        yield lines
        server.shutdown(socket.SHUT_RDWR)
    for call in calls:
        call.close()


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ask_at(f"http://127.0.0.1:{port}", monkeypatch)


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, error_code: str) -> Iterator[list[str]]:
    """A hub that answers 404 with this code; gives the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", error_code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ask_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


def test_detector_of_a_silent_hub_is_refused_after_one_call(silent: list[bytes], pauses: list[float]) -> None:
    with pytest.raises(
        DetectorLoadError, match=r"no folder and not whole in the hub's cache, and the hub cannot be asked \(.*out"
    ):
        Owlv2Detector(MISTYPED, device="cpu")
    assert [line for line in silent if MISTYPED.encode() in line] == [
        f"HEAD /{MISTYPED}/resolve/main/config.json HTTP/1.1".encode()
    ]
    assert pauses == []


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(("model", "tag"), [("hf-hub:laoin/CLIP-ViT-B-32", ""), ("ViT-B-32", "openai")])
def test_clip_of_an_absent_hub_is_refused_without_trying_again(model: str, tag: str, pauses: list[float]) -> None:
    with pytest.raises(ClipLoadError, match=r"is not in the hub's cache, and the hub cannot be asked .*local-dir:"):
        ClipEncoder(model, tag, device="cpu")
    assert pauses == []


def test_mistyped_name_is_asked_for_once_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering(monkeypatch, "RepoNotFound") as asked,
        pytest.raises(DetectorLoadError, match=r"'gogle/owlv2-base': .* the hub has no such model, or keeps it from"),
    ):
        Owlv2Detector(MISTYPED, device="cpu")
    assert asked == [f"/{MISTYPED}/resolve/main/config.json"]


def test_model_without_that_very_file_is_left_to_its_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, "EntryNotFound"):
        assert hub_problem("owner/name") is None


def test_name_that_can_be_none_is_told_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, "RepoNotFound") as asked:
        assert hub_problem("not/a/hub/id") == "the hub has no such model, or keeps it from you"
    assert asked == []


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with answering(monkeypatch, "RepoNotFound") as asked:
        assert hub_problem("owner/name") == "HF_HUB_OFFLINE forbids to ask the hub"
    assert asked == []


@pytest.mark.usefixtures("absent")
def test_cached_model_needs_no_hub(tmp_path: Path) -> None:
    assert not in_hub_cache("owner/name")
    (tmp_path / "hub" / "models--owner--name" / "snapshots" / "0" / "nested").mkdir(parents=True)
    assert in_hub_cache("owner/name")
