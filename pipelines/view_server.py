"""The viewer's server: pages, pictures of samples, pictures of rejected units. It reads nothing but the sets given."""

from __future__ import annotations

import ipaddress
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qsl, urlsplit

from datagen.errors import UserError
from pipelines.pictures import shrunk
from pipelines.view_data import Library
from pipelines.view_page import Preview, browse, unit_picture

LOOPBACK = "127.0.0.1"
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
        parts = urlsplit(address)
        routes = {"/": self._page, "/image": self._image, "/preview": self._unit}
        if parts.path not in routes:
            return Answer("text/plain; charset=utf-8", b"no such page", HTTPStatus.NOT_FOUND)
        try:
            return routes[parts.path](dict(parse_qsl(parts.query, max_num_fields=64)))
        except (UserError, ValueError) as error:
            return Answer("text/plain; charset=utf-8", f"error: {error}".encode(), HTTPStatus.BAD_REQUEST)

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
        longest = min(max(int(query["px"]), 16), _LARGEST_PX)
        return Answer("image/jpeg", shrunk(image.data, longest), keep_s=3600)

    def _unit(self, query: dict[str, str]) -> Answer:
        place = self._library.place(query.get("at", ""))
        with self._one_at_a_time:
            kind, body = unit_picture(self._library, place, self._preview, _UNIT_PX)
        return Answer(kind, body, keep_s=3600)


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

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.host}:{self.server_address[1]}/"

    def is_for_us(self, host: str) -> bool:
        """Whether a request's Host header may be answered.

        On this machine only: a page elsewhere whose name is made to lead here must not read the data.
        """
        name = urlsplit(f"//{host}").hostname or ""
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
        try:
            self.wfile.write(answer.body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the reader has turned the page

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
