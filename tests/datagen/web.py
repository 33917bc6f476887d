"""A web server of this machine, as a place for shard sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kind = "ranges"

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or self.kind == "whole":
            super().do_GET()
        elif self.kind == "hangs up":
            self.close_connection = True
        else:
            start, last = map(int, wanted.groups())
            whole = Path(self.translate_path(self.path)).read_bytes()
            part = whole[start : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(whole)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web_server(folder: Path, kind: str = "ranges") -> Iterator[str]:
    """URL of a folder.

    Args:
        kind: how a request for a part of a file is answered: with it ("ranges"), with the file ("whole"), or not at all
            ("hangs up").
    """
    handler = type("Handler", (_Handler,), {"kind": kind})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
