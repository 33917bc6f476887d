"""The viewer in a real browser: pictures load, boxes lie on them, nothing in the data runs, filters of a file work."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.source import UnitView
from pipelines.view.__main__ import write_page
from pipelines.view.data import Library
from pipelines.view.server import Server
from tests.pipelines.shard_world import HOSTILE, page_picture, write_world
from tests.pipelines.view.test_server import serving
from varyforge.sample import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]


def fake_preview(shard_set: str, unit: str) -> UnitView | str:
    """Picture and text of rejected pages, a line for failed ones."""
    if not unit.startswith("report"):
        return f"its file is gone: {HOSTILE}"
    return UnitView(page_picture(unit), f"text of {unit} {HOSTILE}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_world(tmp_path_factory.mktemp("browsed"), large=True)


@pytest.fixture(scope="module")
def server(world: list[str]) -> Iterator[Server]:
    with serving(world, fake_preview) as running:
        yield running


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "profile"


def rendered(url: str, profile: Path) -> str:
    """The document as it is once scripts have run and pictures have come. A script error fails the test."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
    options += ["--window-size=1400,20000", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={profile}", "--dump-dom", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]
    assert not said, said  # script errors and what the policy refused
    return ended.stdout


def loaded(dom: str) -> list[int]:
    """Widths of the pictures that the page shows; 0 for one that did not load."""
    images = re.findall(r"<img [^>]*>", dom)
    widths = [re.search(r'data-loaded="(\d+)"', image) for image in images]
    assert all(widths), images
    return [int(width[1]) for width in widths if width]


def test_pictures_load_and_boxes_lie_on_them(server: Server, profile: Path) -> None:
    dom = rendered(server.url + "?task=detection", profile)
    assert loaded(dom) == [640] * 7
    assert dom.count('class="box"') == 21 and "left:5.0%;top:10.0%;width:25.0%;height:70.0%" in dom


@pytest.mark.parametrize("query", ["", "?at=4.0", "?view=beside", "?outcome=rejected", "?outcome=failed", "?set=chat"])
def test_pages_of_all_kinds(server: Server, world: list[str], profile: Path, query: str) -> None:
    query = query.replace("set=chat", f"set={world[2]}")
    dom = rendered(server.url + query, profile)
    assert all(loaded(dom)) and len(loaded(dom)) == dom.count('class="picture"')
    assert "varyforge viewer" in re.findall("<title>(.*?)</title>", dom)[0]  # the data would change it


def test_pictures_that_cannot_be_had_are_told(world: list[str], profile: Path) -> None:
    def broken(*_: str) -> UnitView:
        return UnitView(Image(data=b"no picture at all", format="jpeg", width=1, height=1))

    with serving(world, broken) as server:
        assert loaded(rendered(server.url + "?outcome=rejected", profile)) == [420] * 8


def run_in(page: Path, script: str) -> Path:
    """A copy of a page with a script more at its end, which its policy is told to allow."""
    text = page.read_text()
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text)
    copy = page.with_name("driven.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return copy


def shown(dom: str) -> list[str]:
    """Ids of the cards that are not hidden."""
    tags = re.findall(r"<article [^>]*>", dom)
    return [html.unescape(re.findall(r'id="([^"]*)"', tag)[0]) for tag in tags if not re.search(r"\shidden\b", tag)]


FILTERS = (
    "outcome=rejected",
    "outcome=written&task=ocr",
    "split=validation",
    "language=unknown",
    "language=zh",
    "licence=unknown",
    "licence=CC BY 2.0",
    "cause=min_chars",
    "document=THESIS-2",
    "text=neural NETWORK  reads",
    "text=is no=where",
    "measure=glyphs_on_ink&low=0.6",
    "measure=glyphs_on_ink&low=0.3&high=0.4",
)


def test_a_written_page_and_its_filters(world: list[str], tmp_path: Path, profile: Path) -> None:
    page = tmp_path / "page.html"
    library = Library(world)
    write_page(page, library, fake_preview, limit=100)
    dom = rendered(page.as_uri(), profile)
    assert all(loaded(dom)) and len(loaded(dom)) == 37 and len(shown(dom)) == 43 and dom.count('class="box"') == 21
    asked = [dict(part.split("=", 1) for part in filters.split("&")) for filters in FILTERS]
    script = """
    const counts = [];
    for (const asked of ASKED) {
      form.reset();
      for (const [name, value] of Object.entries(asked)) form.elements[name].value = value;
      form.dispatchEvent(new Event("input"));
      const cards = document.querySelectorAll("main > article:not([hidden])");
      counts.push(cards.length + "/" + document.querySelector("#shown").textContent);
    }
    document.body.dataset.counts = counts.join(" ");
    """.replace("ASKED", json.dumps(asked))
    dom = rendered(run_in(page, script).as_uri(), profile)
    counts = re.findall(r'data-counts="([^"]*)"', dom)[0].split()
    found = {}
    for filters, count in zip(FILTERS, counts, strict=True):
        here, said = count.split("/")
        assert here == said
        found[filters] = int(here)
    assert found == {
        filters: write_page(tmp_path / "other.html", library, fake_preview, limit=100, query=filters)
        for filters in FILTERS
    }
    assert min(found.values()) == 0 and len(set(found.values())) > 4


def test_a_script_error_would_be_seen(world: list[str], tmp_path: Path, profile: Path) -> None:
    page = tmp_path / "page.html"
    write_page(page, Library(world[1:2]), fake_preview, limit=1)
    with pytest.raises(AssertionError, match="nowhere is not defined"):
        rendered(run_in(page, "nowhere.at(0);").as_uri(), profile)


def test_a_click_opens_a_picture_and_boxes_can_be_hidden(world: list[str], tmp_path: Path, profile: Path) -> None:
    page = tmp_path / "page.html"
    write_page(page, Library(world[1:2]), fake_preview, limit=3)
    script = """
    document.querySelector("main .picture img").click();
    document.querySelector("input#boxes").click();
    document.body.dataset.seen = [document.querySelector("dialog").open,
      document.querySelectorAll("dialog .box").length, getComputedStyle(document.querySelector("main .box")).display];
    """
    assert 'data-seen="true,3,none"' in rendered(run_in(page, script).as_uri(), profile)
