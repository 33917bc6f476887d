"""The viewer's server: pages, pictures of samples, pictures of rejected units. It reads only the sets it was given."""

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

from typing_extensions import override

from datagen.card.pictures import shrunk
from datagen.source import UnitView
from pipelines.view.data import Library, RowId
from pipelines.view.filters import number_in
from pipelines.view.page import NOTICE, Preview, browse, notice, text_page, unit_picture, unit_view
from varyforge.errors import UserError

LOOPBACK = "127.0.0.1"
_TEXT = "text/plain; charset=utf-8"
_UNIT_PX = 1280  # longer side of a rejected unit's picture
_LARGEST_PX = 4096
_VIEWS = 24  # of units, in memory; as many as cards on a page


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one request."""

    kind: str  # media type
    body: bytes
    status: int = HTTPStatus.OK
    cache_s: int = 0  # seconds that the browser may cache the response


class Viewer:
    """The handler of requests about the shard sets of a library, and about nothing else."""

    def __init__(self, library: Library, preview: Preview) -> None:
        self._library, self._preview = library, preview
        self._one_at_a_time = Lock()  # PDF libraries are not thread-safe
        self._views: dict[RowId, UnitView] = {}  # the latest: the browser asks for picture and text one by one

    def answer(self, address: str) -> Response:
        """Return the response to a GET of `address` (path and query); a wrong request gets one clear line."""
        path, _, query = address.partition("?")
        routes = {"/": self._page, "/image": self._image, "/preview": self._unit, "/refused": self._text}
        if path not in routes:
            return Response(_TEXT, b"no such page", HTTPStatus.NOT_FOUND)
        try:
            return routes[path](dict(parse_qsl(query, max_num_fields=64)))
        except ValueError as error:  # a UserError, or more parameters than any link of ours has
            return Response(_TEXT, f"error: {error}".encode(), HTTPStatus.BAD_REQUEST)

    def _page(self, query: dict[str, str]) -> Response:
        return Response("text/html; charset=utf-8", browse(self._library, query).encode())

    def _image(self, query: dict[str, str]) -> Response:
        images = self._library.sample(self._library.row_id(query.get("at", ""))).images
        number = query.get("number", "")
        if number not in map(str, range(len(images))):
            raise UserError(f"number={number}: the sample has {len(images)} images")
        image = images[int(number)]
        if "px" not in query:
            return Response("image/png" if image.format == "png" else "image/jpeg", image.data, cache_s=3600)
        longest = min(max(number_in("px", query) or 0, 16), _LARGEST_PX)
        try:
            return Response("image/jpeg", shrunk(image.data, int(longest)), cache_s=3600)
        except OSError as error:
            return Response(NOTICE, notice(f"the picture cannot be read: {error}"))

    def _unit(self, query: dict[str, str]) -> Response:
        kind, body = unit_picture(self._view(query), _UNIT_PX)
        return Response(kind, body, cache_s=0 if kind == NOTICE else 3600)  # a missing file may come back

    def _text(self, query: dict[str, str]) -> Response:
        view = self._view(query)
        body = text_page(view).encode(errors="replace")
        return Response("text/html; charset=utf-8", body, cache_s=0 if isinstance(view, str) else 3600)

    def _view(self, query: dict[str, str]) -> UnitView | str:
        row_id = self._library.row_id(query.get("at", ""))
        with self._one_at_a_time:
            view = self._views.get(row_id) or unit_view(self._library, row_id, self._preview)
            if not isinstance(view, str):
                self._views[row_id] = view
                for old in list(self._views)[:-_VIEWS]:
                    del self._views[old]
        return view


class Server(ThreadingHTTPServer):
    """The HTTP server of a `Viewer`. Each connection has a thread, which ends with the server."""

    daemon_threads = True

    def __init__(self, host: str, port: int, viewer: Viewer) -> None:
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"{host}:{port}: cannot listen there ({error}); --port 0 takes a free one") from error
        self.viewer = viewer
        self.host = host

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a reader who left the page; print any other error, which is a defect."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{self.host}:{self.server_address[1]}/"

    def is_for_us(self, host: str) -> bool:
        """Return whether a request's Host header is allowed.

        A server for this machine only answers addresses and localhost. Otherwise a page elsewhere could read the data
        through a name that resolves to this machine (DNS rebinding).
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if self.host in (LOOPBACK, "localhost") and name != "localhost":
                ipaddress.ip_address(name)
        except ValueError:  # of either
            return False
        return True


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds until a silent connection is closed

    def do_GET(self) -> None:
        if self.server.is_for_us(self.headers.get("Host", "")):
            answer = self._answer()
        else:
            answer = Response("text/plain", b"start the viewer with --host to reach it by name", HTTPStatus.FORBIDDEN)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", f"private, max-age={answer.cache_s}" if answer.cache_s else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self) -> Response:
        try:
            return self.server.viewer.answer(self.path)
        except Exception:
            traceback.print_exc()
            reason = b"error: this is a defect of the viewer; the terminal it runs in says more"
            return Response("text/plain", reason, HTTPStatus.INTERNAL_SERVER_ERROR)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the terminal is for messages to the user."""
