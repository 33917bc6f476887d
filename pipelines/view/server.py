"""The viewer's server: pages, pictures of samples, pictures of rejected units. It reads nothing but the sets given."""

from __future__ import annotations

import ipaddress
import sys
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from datagen.card.pictures import shrunk
from pipelines.view.data import Library
from pipelines.view.filters import number_in
from pipelines.view.page import NOTICE, Preview, browse, notice, unit_picture
from varyforge.errors import UserError

LOOPBACK = "127.0.0.1"
_TEXT = "text/plain; charset=utf-8"
_UNIT_PX = 1280  # longer side of a rejected unit's picture
_LARGEST_PX = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says to one request."""

    kind: str  # media type
    body: bytes
    status: int = HTTPStatus.OK
    keep_s: int = 0  # seconds that the browser may keep it


class Viewer:
    """Answers requests about the shard sets of a library, and about nothing else."""

    def __init__(self, library: Library, preview: Preview) -> None:
        self._library, self._preview = library, preview
        self._one_at_a_time = Lock()  # PDF libraries know no threads

    def answer(self, address: str) -> Answer:
        """The answer to a GET of `address` (path and query). What cannot be answered is one clear line."""
        path, _, query = address.partition("?")
        routes = {"/": self._page, "/image": self._image, "/preview": self._unit}
        if path not in routes:
            return Answer(_TEXT, b"no such page", HTTPStatus.NOT_FOUND)
        try:
            return routes[path](dict(parse_qsl(query, max_num_fields=64)))
        except ValueError as error:  # a UserError, or more fields than any link of ours has
            return Answer(_TEXT, f"error: {error}".encode(), HTTPStatus.BAD_REQUEST)

    def _page(self, query: dict[str, str]) -> Answer:
        return Answer("text/html; charset=utf-8", browse(self._library, query).encode())

    def _image(self, query: dict[str, str]) -> Answer:
        images = self._library.sample(self._library.place(query.get("at", ""))).images
        number = query.get("number", "")
        if number not in map(str, range(len(images))):
            raise UserError(f"number={number}: the sample has {len(images)} images")
        image = images[int(number)]
        if "px" not in query:
            return Answer("image/png" if image.format == "png" else "image/jpeg", image.data, keep_s=3600)
        longest = min(max(number_in("px", query) or 0, 16), _LARGEST_PX)
        try:
            return Answer("image/jpeg", shrunk(image.data, int(longest)), keep_s=3600)
        except OSError as error:
            return Answer(NOTICE, notice(f"the picture cannot be read: {error}"))

    def _unit(self, query: dict[str, str]) -> Answer:
        place = self._library.place(query.get("at", ""))
        with self._one_at_a_time:
            kind, body = unit_picture(self._library, place, self._preview, _UNIT_PX)
        return Answer(kind, body, keep_s=0 if kind == NOTICE else 3600)  # the file may come back


class Server(ThreadingHTTPServer):
    """Serves a `Viewer`. Each connection has a thread, which ends with the server."""

    daemon_threads = True

    def __init__(self, host: str, port: int, viewer: Viewer) -> None:
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"{host}:{port}: cannot listen there ({error}); --port 0 takes a free one") from error
        self.viewer = viewer
        self.host = host

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a reader who has turned the page; the rest is a defect, and shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.host}:{self.server_address[1]}/"

    def is_for_us(self, host: str) -> bool:
        """Whether a request's Host header may be answered.

        On this machine only: a page elsewhere whose name is made to lead here must not read the data.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return self.host not in (LOOPBACK, "localhost") or name == "localhost" or _is_address(name)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent connection is kept

    def do_GET(self) -> None:
        if self.server.is_for_us(self.headers.get("Host", "")):
            answer = self._answer()
        else:
            answer = Answer("text/plain", b"start the viewer with --host to reach it by name", HTTPStatus.FORBIDDEN)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", f"private, max-age={answer.keep_s}" if answer.keep_s else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self) -> Answer:
        try:
            return self.server.viewer.answer(self.path)
        except Exception:
            traceback.print_exc()
            reason = b"error: this is a defect of the viewer; the terminal it runs in says more"
            return Answer("text/plain", reason, HTTPStatus.INTERNAL_SERVER_ERROR)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal is for what a person has to know."""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
