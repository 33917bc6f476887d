"""The viewer over HTTP: what it serves, what it refuses and how, and pictures of units that gave no sample."""

from __future__ import annotations

import html
import http.client
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import PIL.Image
import pytest

from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.audit.gates import PageGates
from datagen.pdf.source import PdfSource
from datagen.registry import view_of
from datagen.source import UnitView
from pipelines.view.__main__ import write_page
from pipelines.view.data import Library
from pipelines.view.page import Preview
from pipelines.view.server import Server, Viewer
from tests.datagen.pdf.test_pdf import document
from tests.pipelines.shard_world import page_picture, write_world


@contextmanager
def serving(places: list[str], preview: Preview) -> Iterator[Server]:
    with Server("127.0.0.1", 0, Viewer(Library(places), preview)) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Server, path: str, **headers: str) -> tuple[int, str, bytes]:
    """Status, media type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    return answer.status, str(answer.getheader("Content-Type")), body


def size_of(body: bytes) -> tuple[int, int]:
    return PIL.Image.open(io.BytesIO(body)).size


def fake_preview(shard_set: str, unit: str) -> UnitView | str:
    """Picture and text of what is on the even pages."""
    assert shard_set.endswith("pdf")
    if int(unit[-1]) % 2:
        return f"no picture <of> {unit}\x00"
    return UnitView(page_picture(unit), f"text <of> {unit}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_world(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(world: list[str]) -> Iterator[Server]:
    with serving(world, fake_preview) as running:
        yield running


def test_page_image_and_thumbnail(server: Server) -> None:
    status, kind, body = get(server, "/?task=detection")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    address = html.unescape(re.findall(r'src="(image\?[^"]+)"', body.decode())[0])
    status, kind, small = get(server, "/" + address)
    assert (status, kind, size_of(small)) == (200, "image/jpeg", (640, 420))
    status, kind, full = get(server, "/" + re.sub("&px=640", "", address))
    assert (status, kind, size_of(full)) == (200, "image/jpeg", (640, 420))
    place = re.search(r"at=([\d.]+)", address)
    assert place is not None
    for asked, longest in (("100", 100), ("1", 16), ("1e9", 640), ("-5", 16)):
        assert max(size_of(get(server, f"/image?at={place[1]}&number=0&px={asked}")[2])) == longest


def test_every_view_of_the_page_is_there(server: Server) -> None:
    for query in ("", "?go=40", "?outcome=failed", "?view=beside&outcome=rejected"):
        page = get(server, "/" + query)[2].decode()
        sources = re.findall(r'<img src="([^"]+)"', page)
        assert len(sources) > 2
        for source in sources:
            status, kind, body = get(server, "/" + html.unescape(source))
            assert status == 200 and kind.startswith("image/") and body


def test_previews_are_pictures_or_say_why_not(server: Server) -> None:
    page = get(server, "/")[2].decode()
    kinds = []
    for place in re.findall(r'src="preview\?at=([\d.]+)', page):
        status, kind, body = get(server, f"/preview?at={place}")
        kinds.append(kind)
        assert status == 200
        if kind == "image/svg+xml":
            assert b"no picture &lt;of&gt;" in body and b"\0" not in body
        else:
            assert size_of(body) == (700, 400)
    assert sorted(set(kinds)) == ["image/jpeg", "image/svg+xml"]


def test_text_of_rejected_units_stands_beside_their_pictures(server: Server) -> None:
    cards = get(server, "/?outcome=rejected")[2].decode().split("<article")[1:]
    assert cards
    for card in cards:
        frame = re.search(r'<iframe src="(refused\?[^"]+)"', card)
        assert frame is not None and ", threshold " in card
        status, kind, body = get(server, "/" + html.unescape(frame[1]))
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert b'<pre dir="auto">text &lt;of&gt; ' in body or b'<pre dir="auto">no picture &lt;of&gt; ' in body
    assert "<iframe" not in get(server, "/?outcome=written")[2].decode()
    assert "<iframe" not in get(server, "/?outcome=failed")[2].decode()


BAD = {
    "/?outcome=odd": "outcome=odd: expected one of written, rejected, failed",
    "/?low=x": "low=x: expected a number",
    "/?high=nan": "high=nan: expected a number",
    "/?go=half": "go=half: expected a number",
    "/?go=nan": "go=nan: expected a number",
    "/?view=wall": "view=wall: expected one of cards, beside",
    "/?set=nowhere": "set=nowhere: no such set here",
    "/?measure=key&low=1": "measure=key: no such number here",
    "/?measure=nowhere": "measure=nowhere: no such number here",
    "/?at=0": "0: no such row here",
    "/?at=99.0": "99.0: no such row here",
    "/?before=-1.0": "-1.0: no such row here",
    "/?at=0." + "9" * 99: "no such row here",
    "/?" + "a=1&" * 99: "error:",
    "/image": ": no such row here",
    "/image?at=0.0": "number=: the sample has 1 images",
    "/image?at=0.0&number=1": "number=1: the sample has 1 images",
    "/image?at=0.0&number=-1": "number=-1: the sample has 1 images",
    "/image?at=0.0&number=0&px=wide": "px=wide: expected a number",
    "/image?at=0.6&number=0": "0.6: no sample here",
    "/image?at=../../../etc/passwd&number=0": "no such row here",
    "/preview?at=0.0": "0.0: no unit without samples here",
    "/preview?at=/etc/passwd": "no such row here",
}


@pytest.mark.parametrize("address", BAD)
def test_what_makes_no_sense_is_one_clear_line(server: Server, address: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, kind, body = get(server, address)
    assert (status, kind) == (400, "text/plain; charset=utf-8")
    assert BAD[address] in body.decode() and len(body.splitlines()) == 1
    assert "Traceback" not in body.decode() + capfd.readouterr().err


@pytest.mark.parametrize(
    "address",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/view.js",
        "//etc/passwd",
        "/view.js",
        "/pdf/job.json",
        "/image/../job.json",
        "http://[",
        "file:/etc/passwd",
    ],
)
def test_nothing_else_is_served(server: Server, address: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert get(server, address, Host="localhost")[::2] == (404, b"no such page")
    assert "Traceback" not in capfd.readouterr().err


def test_hosts_that_lead_here_by_another_name_are_refused(server: Server) -> None:
    for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
        assert get(server, "/", Host=host)[0] == 200
    for host in ("evil.example", "localhost.evil.example", "[", ""):
        assert get(server, "/", Host=host)[0] == 403


def test_pages_come_while_a_preview_takes_its_time(world: list[str]) -> None:
    go_on = Event()

    def slow(*_: str) -> str:
        return "late" if go_on.wait(20) else "never"

    with serving(world[:1], slow) as server, ThreadPoolExecutor(8) as pool:
        late = [pool.submit(get, server, "/preview?at=0.5") for _ in range(6)]
        time.sleep(0.1)
        assert get(server, "/")[0] == 200 and get(server, "/image?at=0.0&number=0")[0] == 200
        assert not any(one.done() for one in late)
        go_on.set()
        assert all(b">late<" in one.result()[2] for one in late)


def test_a_defect_is_told_to_the_terminal_and_not_to_the_reader(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.view.server.browse", lambda *_: 1 / 0)
    status, _, body = get(server, "/")
    assert status == 500 and body == b"error: this is a defect of the viewer; the terminal it runs in says more"
    assert "ZeroDivisionError" in capfd.readouterr().err


# With a real job.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with a written page, a page that a gate refused, a document that is none, and one that is gone by now."""
    root = tmp_path_factory.mktemp("real")
    document(root / "in" / "good.pdf")
    document(root / "in" / "short.pdf", text=("Few.",))
    document(root / "in" / "gone.pdf", text=("Less.",))
    (root / "in" / "broken.pdf").write_bytes(b"%PDF-1.4 of which nothing follows")
    source = PdfSource(paths=[str(root / "in")], short_side_px=256, gates=PageGates(min_plausible=0.0))
    run_job(source, root / "pdf", JobSettings(validation_share=0.0), LocalRunner())
    (root / "in" / "gone.pdf").unlink()
    return root


def test_units_of_a_real_job_are_drawn_again(real: Path) -> None:
    library = Library([str(real / "pdf")])
    counts = library.counts()[str(real / "pdf")]
    assert counts == {"samples": 1, "rejected": 2, "failed": 1}
    viewer = Viewer(library, view_of)
    page = viewer.answer("/").body.decode()
    shown = {}
    for card in page.split("<article")[1:]:
        preview = re.search(r'src="(preview\?[^"]+)"', card)
        if preview is not None:
            started = time.monotonic()
            answer = viewer.answer("/" + html.unescape(preview[1]))
            assert time.monotonic() - started < 30
            shown[html.unescape(re.findall(r'id="([^"]+)"', card)[0]).split("#")[0]] = answer
            assert "<b>min_chars</b>: " in card or "<b>unreadable</b>" in card
    assert size_of(shown["short.pdf"].body) == (256, 384) and shown["short.pdf"].cache_s
    frame = html.unescape(re.findall(r'src="(refused\?[^"]+)"', page.split('id="short.pdf')[1])[0])
    assert b'<pre dir="auto">Few.</pre>' in viewer.answer("/" + frame).body
    for name in ("gone.pdf", "broken.pdf"):
        assert shown[name].kind == "image/svg+xml" and shown[name].body.count(b"<text") <= 6
        assert not shown[name].cache_s  # the file may come back
    assert b"no such file" in shown["gone.pdf"].body.lower()


def test_a_written_page_holds_pictures_of_refused_pages(real: Path, tmp_path: Path) -> None:
    library = Library([str(real / "pdf")])
    assert write_page(tmp_path / "page.html", library, view_of, limit=10) == 4
    page = (tmp_path / "page.html").read_text()
    assert '<div class="text" lang="en">Few.</div>' in page
    assert page.count('src="data:image/jpeg;base64,') == 2 and page.count('src="data:image/svg+xml;base64,') == 2


def test_a_set_whose_source_is_unknown_says_so(real: Path, tmp_path: Path) -> None:
    shutil.copytree(real / "pdf", tmp_path / "pdf")
    job = tmp_path / "pdf" / "job.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"source": "tapes"}))
    viewer = Viewer(Library([str(tmp_path / "pdf")]), view_of)
    previews = re.findall(r'src="(preview\?[^"]+)"', viewer.answer("/?outcome=rejected").body.decode())
    answer = viewer.answer("/" + html.unescape(previews[0]))
    assert answer.status == 200 and b"no source &#39;tapes&#39;" in answer.body
