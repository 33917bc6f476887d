"""Mixtures shown, written and listed, over real little shard sets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from pipelines.mix import __main__ as mix
from pipelines.mix.count import walk
from pipelines.mix.report import asked_shares, read_mixture_file, report_on
from pipelines.mix.rows import base_of, key_again, occurrences
from pipelines.mix.show import show
from pipelines.mix.write import MIXTURE_SOURCE, WriteSettings, write_mixture
from pipelines.run.__main__ import run
from pipelines.verify.check import check
from pipelines.view.data import Library
from pipelines.view.page import browse
from tests.datagen.made_tars import img2dataset, write_tar
from tests.pipelines.paper_root import write_paper_root
from tests.pipelines.run.test_data_sets import recipe as recipe_of_the_data
from tests.pipelines.shard_world import CHINESE, ENGLISH, Entry, page, photo, talk, write_set
from tests.trainer.world import make_tokenizer
from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.text.encode import ConversationEncoder, load_tokenizer
from varyforge.errors import UserError
from varyforge.shards import ShardSet
from varyforge.storage import folder_at

ROOT = Path(__file__).parents[3]

MIXTURE = """
sources:
  pages: {{shards: {root}/pages, weight: 5}}
  rest:
    weight: 3
    mixture:
      sources:
        photos: {{shards: {root}/photos, weight: 1, repeat: as_needed, times: 4}}
        talks: {{shards: {root}/talks, weight: 2, where: {{language: en}}}}
seed: 3
"""
RATIOS = {"pages": 5 / 8, "rest/photos": 1 / 8, "rest/talks": 2 / 8}


def pages(numbers: range) -> list[Entry]:
    said = [(CHINESE, "zh") if number % 4 == 0 else (ENGLISH, "en") for number in numbers]
    return [
        page(n, text=f"{text} {n}\n" * (1 + n % 3), language=language, document=f"{n // 5}.pdf")
        for n, (text, language) in zip(numbers, said, strict=True)
    ]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mix")
    write_set(root / "pages", "pdf", [pages(range(start, start + 10)) for start in range(0, 40, 10)], ["chars"])
    write_set(root / "photos", "detection", [[photo(n) for n in range(7)]])
    write_set(root / "talks", "chat", [[talk(n, f"q {n}", f"answer {n} " * (n + 1)) for n in range(25)], []])
    (root / "mix.yaml").write_text(MIXTURE.format(root=root))
    return root


def write(file: Path, out: Path | str, *overrides: str, workers: int = 2, **settings: Any) -> ShardSet:
    given = read_mixture_file(file, overrides)
    settings = {"samples_per_shard": 10} | settings
    write_mixture(given.corpus(), given.data.mixture, out, WriteSettings(**settings), workers=workers)
    return ShardSet(out)


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write(root / "mix.yaml", tmp_path_factory.mktemp("written") / "out", epochs=2)


def read_plain(shards: ShardSet) -> list[dict[str, Any]]:
    """Return the samples as plain webdataset reads them."""
    urls = [f"{shards.folder}/{record.name}.tar" for record in shards.records]
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))


# show


def test_the_numbers_of_show_add_up(root: Path) -> None:
    report = report_on(read_mixture_file(root / "mix.yaml", ["samples=64"]), global_batch=10, max_length=300)
    by_name = {one.name: one for one in report.sources}
    assert {name: one.counts.samples for name, one in by_name.items()} == {
        "pages": 40,
        "rest/photos": 8,
        "rest/talks": 16,
    }
    for one in report.sources:
        assert one.asked_samples == one.counts.samples == sum(one.counts.lengths)
        assert one.asked_share == pytest.approx(RATIOS[one.name])
        assert sum(one.counts.languages.values()) == sum(one.counts.licences.values()) == one.counts.samples
    for name in ("samples", "tokens", "supervised", "cut", "cut_tokens"):
        assert getattr(report.all, name) == sum(getattr(one.counts, name) for one in report.sources)
    assert by_name["rest/photos"].counts.repeats == (1, 8 / 7, 2)
    assert (by_name["rest/talks"].available, by_name["rest/talks"].counts.repeats[2]) == (25, 1)
    assert report.all.samples == 64
    counted = ["sources.rest.weight=null", "sources.pages.weight=null"]
    report_counted = report_on(read_mixture_file(root / "mix.yaml", counted))
    shares = {one.name: (one.asked_share, one.counts.samples) for one in report_counted.sources}
    assert shares == {name: (pytest.approx(n / report_counted.all.samples), n) for name, (_, n) in shares.items()}
    assert report.steps == 6.4
    assert 0 < report.deviation < 1


def test_tokens_and_what_is_cut_are_those_of_the_index(root: Path) -> None:
    """Every page occurs once, so its index says what must come out."""
    report = report_on(read_mixture_file(root / "mix.yaml", ["samples=64"]), max_length=330, image_tokens=258)
    (counts,) = (one.counts for one in report.sources if one.name == "pages")
    rows = ShardSet(root / "pages").table(["tokens", "images", "language"]).to_pylist()
    lengths = np.array([row["tokens"] + 258 * row["images"] for row in rows])
    assert counts.tokens == lengths.sum()
    assert (counts.cut, counts.cut_tokens) == ((lengths > 330).sum(), np.maximum(lengths - 330, 0).sum())
    assert 0 < counts.cut < 40
    assert counts.longest == lengths.max()
    assert counts.languages == {"en": 30, "zh": 10}


def test_a_source_asked_for_in_part_is_counted_from_the_order(root: Path) -> None:
    """The first 16 of 25 talks are not the mean ones: what is got is what the order draws."""
    given = read_mixture_file(root / "mix.yaml", ["samples=64"])
    (talks,) = (one for one in report_on(given).sources if one.name == "rest/talks")
    corpus = given.corpus()
    drawn = [item.tokens for item in corpus.items(np.arange(64)) if item.source == "rest/talks"]
    assert talks.counts.tokens == sum(drawn)
    assert talks.asked_tokens != talks.counts.tokens


def test_the_worst_prefix_is_found() -> None:
    class Lumpy:
        per_epoch = 8

        def at(self, positions: Any) -> Any:
            return (np.asarray(positions) >= 4).astype(np.int16), np.asarray(positions) % 4

    walked = walk(Lumpy(), [4, 4])
    assert (walked.deviation, walked.deviation_at) == (2.0, (4, 0))
    assert [counts.tolist() for counts in walked.drawn] == [[1] * 4] * 2


def test_shares_are_asked_for_through_all_levels(root: Path) -> None:
    assert asked_shares(read_mixture_file(root / "mix.yaml", []).data.mixture) == pytest.approx(RATIOS)
    nested = read_mixture_file(root / "mix.yaml", ["sources.rest.mixture.unit=tokens"]).data.mixture
    assert asked_shares(nested) == pytest.approx({"pages": 5 / 8})  # of the rest it cannot be said in samples


def test_show_fits_a_screen_and_is_json(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    show(report_on(read_mixture_file(root / "mix.yaml", []), global_batch=8))
    text = capfd.readouterr().err
    assert all(len(line) <= 80 for line in text.splitlines() if line[0] in "┃│")
    assert "62.50%" in text
    assert "weight 1, ≤ 4 ×" in text
    assert mix._show(mix.parse(["show", str(root / "mix.yaml"), "--json", "samples=8"])) == 0
    assert json.loads(capfd.readouterr().out)["all"]["samples"] == 8


def test_estimates_are_compared_with_a_tokenizer(root: Path, recipe: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer([root / "talks"], tmp_path / "tokenizer")
    given = read_mixture_file(recipe, [f"model.language.tokenizer={tokenizer}"])
    report = report_on(given, measure=5, max_length=300)
    assert [one.samples for one in report.measured] == [5, 5, 5]
    by_name = {one.name: one for one in report.measured}
    assert by_name["rest/talks"].cut == 0
    assert by_name["pages"].cut == 5  # 258 tokens of the image, and a text in a vocabulary of 300
    layout = ImageLayout(preprocess={"vary": ImagePreprocess(size=8)}, view=ViewTokens(256))
    encoder = ConversationEncoder(load_tokenizer(tokenizer), template="vicuna_v1", layout=layout, max_length=4096)
    rows = ShardSet(root / "pages").table().to_pylist()
    encoded = [
        encoder.encode(ShardSet(root / "pages").read(rows[n]["shard"], rows[n]["offset"], rows[n]["size"]))
        for n in (4, 12, 20, 28, 36)
    ]
    assert by_name["pages"].real == sum(len(one.input_ids) for one in encoded)
    assert by_name["pages"].real_supervised == sum(label >= 0 for one in encoded for label in one.labels)
    show(report)


# write


def test_plain_webdataset_reads_the_exact_ratios_in_every_prefix(written: ShardSet) -> None:
    index = written.table()
    source_of = dict(zip(*(index.column(name).to_pylist() for name in ("key", MIXTURE_SOURCE)), strict=True))
    met: Counter[str] = Counter()
    samples = read_plain(written)
    for number, sample in enumerate(samples, start=1):
        met[source_of[sample["__key__"]]] += 1
        assert all(abs(met[name] - ratio * number) <= 1 for name, ratio in RATIOS.items())
    assert met == {"pages": 80, "rest/photos": 16, "rest/talks": 32}
    assert [record.samples for record in written.records] == [10] * 12 + [8]


def test_it_is_the_order_that_the_trainer_reads(root: Path, written: ShardSet) -> None:
    corpus = read_mixture_file(root / "mix.yaml", []).corpus()
    keys = [base_of(sample["__key__"]) for sample in read_plain(written)]
    assert keys == [corpus.key(position) for position in range(128)]


def test_bytes_are_those_of_the_source_and_repeats_have_names_of_their_own(root: Path, written: ShardSet) -> None:
    there = {}
    for name in ("pages", "photos", "talks"):
        source = ShardSet(root / name)
        there |= {row["key"]: (source, row) for row in source.table().to_pylist()}
    rows = written.table().to_pylist()
    assert len({row["key"] for row in rows}) == len(rows) == 128
    met: Counter[str] = Counter()
    for row in rows:
        source, old = there[base_of(row["key"])]
        place = ("shard", "offset", "size")
        met[old["key"]] += 1
        if met[old["key"]] == 1:
            assert row["key"] == old["key"]
            assert written.folder.read(*(row[n] for n in place)) == source.folder.read(*(old[n] for n in place))
        else:
            assert row["key"] == f"{old['key']}-r{met[old['key']]}"
            assert written.read(*(row[n] for n in place)).origin["key"] == old["key"]
        carried = row.keys() & old.keys() - {"key", "unit", "split", *place}
        assert {"document", "group", "language", "licence", "tokens", "fingerprint"} <= carried
        assert {name: row[name] for name in carried} == {name: old[name] for name in carried}
    assert max(met.values()) > 2


def test_verify_and_view_take_it(written: ShardSet) -> None:
    found = check(str(written.folder))
    assert (found.problems, found.units, found.outcomes) == ([], 128, {"written": 128})
    library = Library([str(written.folder)])
    assert library.span("") == (0, 128)
    assert MIXTURE_SOURCE not in library.measures()
    assert MIXTURE_SOURCE in browse(library, {})  # among the cells of an index row


def test_verify_notices_a_position_that_is_gone(written: ShardSet, tmp_path: Path) -> None:
    shutil.copytree(str(written.folder), tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    (problem, *_) = check(tmp_path / "out").problems
    assert "mix-000012" in problem
    job = tmp_path / "out" / "job.json"
    job.write_text(job.read_text().replace('"units": 128', '"units": 120'))
    assert any("changed since" in problem for problem in check(tmp_path / "out").problems)


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_do_not_depend_on_workers(root: Path, written: ShardSet, tmp_path: Path, workers: int) -> None:
    write(root / "mix.yaml", tmp_path / "out", epochs=2, workers=workers)
    assert files(tmp_path / "out") == files(Path(str(written.folder)))


def test_killed_and_run_again_the_bytes_are_the_same(root: Path, written: ShardSet, tmp_path: Path) -> None:
    """Killed three times at different moments, each time on other workers."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    write(root / "mix.yaml", whole, epochs=4, samples_per_shard=2)
    words = ["-m", "pipelines.mix", "write", str(root / "mix.yaml"), "--out", str(out)]
    words += ["--epochs", "4", "--samples-per-shard", "2", "--workers"]
    for workers, enough in (("1", 3), ("3", 20), ("2", 60)):
        process = subprocess.Popen([sys.executable, *words, workers], cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.tar"))) < enough and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "manifest.jsonl").exists()
        assert len(list(out.glob("*.tar"))) >= enough
        with pytest.raises(UserError, match="unfinished"):
            ShardSet(out)
    write(root / "mix.yaml", out, epochs=4, samples_per_shard=2)
    assert files(out) == files(whole)
    assert check(out).problems == []


def test_a_finished_set_is_left_alone(root: Path, tmp_path: Path) -> None:
    write(root / "mix.yaml", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[a-z]*.*")}
    write(root / "mix.yaml", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[a-z]*.*")} == before


def test_a_shard_that_was_lost_is_written_again(root: Path, tmp_path: Path) -> None:
    whole = files(Path(str(write(root / "mix.yaml", tmp_path / "out").folder)))
    (tmp_path / "out" / "mix-000001.tar").unlink()
    (tmp_path / "out" / "mix-000002.tar").write_bytes(b"cut")
    assert files(Path(str(write(root / "mix.yaml", tmp_path / "out").folder))) == whole


@pytest.mark.parametrize(
    ("overrides", "settings", "said"),
    [
        (["seed=4"], {}, "mixture.seed 3 → 4"),
        (["sources.pages.weight=4"], {}, "mixture.sources.pages.weight 5.0 → 4.0"),
        ([], {"epochs": 2}, "epochs 1 → 2"),
        ([], {"samples_per_shard": 20}, "job.samples_per_shard 10 → 20"),
    ],
)
def test_another_mixture_is_refused(
    root: Path, tmp_path: Path, overrides: list[str], settings: dict[str, int], said: str
) -> None:
    write(root / "mix.yaml", tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(UserError, match="holds another mixture") as caught:
        write(root / "mix.yaml", tmp_path / "out", *overrides, **settings)
    assert said in str(caught.value)
    assert files(tmp_path / "out") == before


def test_changed_shards_are_another_mixture_and_moved_ones_are_not(root: Path, tmp_path: Path) -> None:
    for name in ("pages", "photos", "talks"):
        shutil.copytree(root / name, tmp_path / name)
    write(root / "mix.yaml", tmp_path / "out")
    moved = tmp_path / "mix.yaml"
    moved.write_text(MIXTURE.format(root=tmp_path))
    write(moved, tmp_path / "out")
    write_set(tmp_path / "photos", "detection", [[photo(n, width=600) for n in range(7)]])
    with pytest.raises(UserError, match=r"sources\.rest/photos"):
        write(moved, tmp_path / "out")


def test_folders_of_others_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a set made by 'pdf'"):
        write(root / "mix.yaml", root / "pages")
    (tmp_path / "mine.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match="no job of ours wrote"):
        write(root / "mix.yaml", tmp_path)


def test_a_sample_that_cannot_be_read_is_in_the_ledger_and_can_be_tried_again(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "pages", tmp_path / "pages")
    file = tmp_path / "mix.yaml"
    file.write_text(f"sources: {{pages: {{shards: {tmp_path}/pages, repeat: times, times: 2}}}}")
    whole = write(file, tmp_path / "whole")
    row = ShardSet(tmp_path / "pages").table().to_pylist()[3]
    with open(tmp_path / "pages" / row["shard"], "r+b") as tar:
        tar.seek(row["offset"])
        sound = tar.read(512)
        tar.seek(row["offset"])
        tar.write(bytes(512))
    out = write(file, tmp_path / "out")
    lost = [line for line in out.ledger().to_pylist() if line["outcome"] != "written"]
    assert [(line["outcome"], line["reason"], line["content"]) for line in lost] == [
        ("failed", "unreadable", f"pages/{row['key']}")
    ] * 2
    assert all(row["shard"] in line["detail"] for line in lost)
    assert len(read_plain(out)) == 78
    found = check(tmp_path / "out")
    assert (found.problems, found.units, found.samples) == ([], 80, 78)
    with open(tmp_path / "pages" / row["shard"], "r+b") as tar:
        tar.seek(row["offset"])
        tar.write(sound)
    write(file, tmp_path / "out", retry=True)
    assert files(tmp_path / "out") == files(Path(str(whole.folder)))


def test_a_mixture_of_a_written_mixture_has_keys_of_its_own_too(written: ShardSet, tmp_path: Path) -> None:
    file = tmp_path / "mix.yaml"
    file.write_text(f"sources: {{again: {{shards: {written.folder}, repeat: times, times: 2}}}}")
    out = write(file, tmp_path / "out")
    keys = [sample["__key__"] for sample in read_plain(out)]
    assert len(set(keys)) == len(keys) == 256
    assert check(tmp_path / "out").problems == []


def test_a_written_mixture_can_be_filtered_by_source(written: ShardSet, tmp_path: Path) -> None:
    file = tmp_path / "mix.yaml"
    file.write_text(f"sources: {{part: {{shards: {written.folder}, where: {{mixture_source: rest/photos}}}}}}")
    corpus = read_mixture_file(file, []).corpus()
    assert corpus.mixture.per_epoch == 16
    assert {item.task for item in corpus.items(np.arange(16))} == {"detection"}


def test_tars_of_others_become_samples_of_ours(root: Path, tmp_path: Path) -> None:
    broken = {"000000007.jpg": b"no picture", "000000007.txt": "a caption"}
    for tar in ("00000", "00001"):
        entries = {name: data for n in range(4) for name, data in img2dataset(n, f"thing {n} of {tar}").items()}
        write_tar(tmp_path / "laion" / f"{tar}.tar", entries | broken)
    file = tmp_path / "mix.yaml"
    file.write_text(
        f"sources: {{laion: {{shards: {tmp_path}/laion, task: caption, repeat: times, times: 2}}, "
        f"photos: {{shards: {root}/photos, repeat: times, times: 3}}}}"
    )
    report = report_on(read_mixture_file(file, []))
    assert [(one.name, one.counts.samples) for one in report.sources] == [("laion", 20), ("photos", 21)]
    out = write(file, tmp_path / "out")
    assert check(tmp_path / "out").outcomes == {"written": 37, "failed": 4}
    rows = [row for row in out.table().to_pylist() if row[MIXTURE_SOURCE] == "laion"]
    samples = [out.read(row["shard"], row["offset"], row["size"]) for row in rows]
    assert Counter(sample.answer for sample in samples) == {
        f"thing {n} of {tar}": 2 for n in range(4) for tar in ("00000", "00001")
    }
    assert {(row["task"], row["split"], row["images"], row["document"] == base_of(row["key"])) for row in rows} == {
        ("caption", "train", 1, True)
    }
    lost = [line for line in out.ledger().to_pylist() if line["outcome"] == "failed"]
    assert all("000000007" in line["detail"] for line in lost)
    assert len({row["key"] for row in out.table().to_pylist()}) == 37


def test_it_is_written_to_a_url(root: Path, written: ShardSet) -> None:
    write(root / "mix.yaml", "memory://mixed/out", epochs=2)
    folder = folder_at("memory://mixed/out")
    for record in written.records:
        assert folder.read(f"{record.name}.tar") == written.folder.read(f"{record.name}.tar")
    assert check("memory://mixed/out").problems == []


PAPER = """
base: {recipes}/mixtures/toy_pretrain.yaml
sources:
  laion_coco: {{samples: 400, repeat: as_needed, times: 200}}
  blip_558k: {{samples: 56, repeat: as_needed, times: 200}}
  pdf: {{samples: 100, repeat: as_needed, times: 200}}
  markdown: {{samples: 50, repeat: as_needed, times: 200}}
  coco: {{samples: 5, repeat: as_needed, times: 200}}
  sharegpt: {{samples: 13, repeat: as_needed, times: 200}}
  baize: {{samples: 11, repeat: as_needed, times: 200}}
  alpaca: {{samples: 5, repeat: as_needed, times: 200}}
"""


@pytest.mark.slow
def test_the_papers_mixture_in_miniature(tmp_path: Path) -> None:
    """Table 1 at 1 : 10,000 over a miniature of every set: shown, written, read by plain webdataset."""
    assert run(recipe_of_the_data("stage2", write_paper_root(tmp_path / "data"), tmp_path / "shards"))
    file = tmp_path / "mix.yaml"
    file.write_text(PAPER.format(recipes=ROOT / "recipes"))
    mixture = read_mixture_file(file, []).data.mixture
    places = [f"sources.{name}.shards={tmp_path}/{source.shards}" for name, source in mixture.sources.items()]
    report = report_on(read_mixture_file(file, places), global_batch=64)
    asked = {one.name: one.asked_samples for one in report.sources}
    assert {one.name: one.counts.samples for one in report.sources} == asked
    assert (asked["laion_coco"], asked["pdf"], asked["refcoco"]) == (400, 100, 3)
    assert report.deviation < 1
    out = write(file, tmp_path / "out", *places, samples_per_shard=100)
    index = out.table()
    source_of = dict(zip(*(index.column(name).to_pylist() for name in ("key", MIXTURE_SOURCE)), strict=True))
    met: Counter[str] = Counter()
    for number, sample in enumerate(read_plain(out), start=1):
        met[source_of[sample["__key__"]]] += 1
        assert all(abs(met[name] - number * count / report.all.samples) < 1 for name, count in asked.items())
    assert met == asked
    assert check(tmp_path / "out").problems == []


# keys


def test_keys_of_repeats_are_unique_and_short() -> None:
    long = "a" * 62
    names = [key_again(key, number) for key in ("a", "a-b", long, long + "xy") for number in range(1, 120)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) == 64
    assert (key_again("a", 1), key_again("a", 2), key_again("a-r2", 3)) == ("a", "a-r2", "a-r3")


def test_keys_stay_unique_from_mixture_to_mixture() -> None:
    """Whatever keys a set has: written with repeats, and that again, no key comes twice."""
    keys = ["a", "a-r2", "a-r2-r3", "b" * 64, "b" * 63, "c" * 57, "c" * 54]
    for _ in range(3):
        met: Counter[str] = Counter()
        again = []
        for key in 3 * keys:
            met[base_of(key)] += 1
            again.append(key_again(key, met[base_of(key)]))
        assert len(set(again)) == len(again)
        assert max(map(len, again)) <= 64
        keys = again


def test_occurrences_count_in_order(root: Path) -> None:
    mixture = read_mixture_file(root / "mix.yaml", []).corpus().mixture
    bases = [np.arange(source.available, dtype=np.uint64) % 5 for source in mixture.sources]
    met: Counter[int] = Counter()
    expected = []
    for source, row in zip(*mixture.at(np.arange(300)), strict=True):
        met[int(bases[source][row])] += 1
        expected.append(met[int(bases[source][row])])
    assert occurrences(mixture, 300, bases).tolist() == expected


# step


@pytest.fixture(scope="module")
def recipe(root: Path) -> Path:
    """A recipe whose weights and tokenizer are nowhere."""
    (root / "recipe.yaml").write_text(f"""
out: {root}/run
model:
  vision: {{vary: {{type: sam, weights: nowhere}}}}
  language: {{type: opt, tokenizer: nowhere, template: vicuna_v1, weights: nowhere}}
data: {{mixture: {{base: mix.yaml}}, epochs: 2}}
optim: {{learning_rate: 1e-4}}
engine: {{global_batch_size: 10}}
""")
    return root / "recipe.yaml"


def test_the_samples_of_a_step_follow_from_recipe_and_number(recipe: Path) -> None:
    corpus = read_mixture_file(recipe, []).corpus()
    rows = list(mix.step_rows(read_mixture_file(recipe, []), range(2, 5)))
    assert [row[1] for row in rows] == list(range(10, 40))
    assert [row[0] for row in rows] == [2] * 10 + [3] * 10 + [4] * 10
    assert [row[3] for row in rows] == [corpus.key(position) for position in range(10, 40)]
    items = corpus.items(np.arange(10, 40))
    assert [(row[2], row[4], row[6]) for row in rows] == [(item.source, item.task, item.offset) for item in items]
    assert list(mix.step_rows(read_mixture_file(recipe, []), range(3, 4))) == rows[10:20]


def test_every_sample_of_a_step_is_one_ranks(recipe: Path) -> None:
    rows = list(mix.step_rows(read_mixture_file(recipe, []), range(12, 13), ranks=3))
    assert [row[:-1] for row in rows] == list(mix.step_rows(read_mixture_file(recipe, []), range(12, 13)))
    assert {row[-1] for row in rows} == {0, 1, 2}
    with pytest.raises(UserError, match="step 13 is beyond the last one, 12"):
        list(mix.step_rows(read_mixture_file(recipe, []), range(13, 14)))


def test_a_step_is_listed_without_deepspeed_or_torch(recipe: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.mix import __main__ as mix; "
        "from pipelines.mix.report import read_mixture_file; "
        f"print(len(list(mix.step_rows(read_mixture_file(Path({str(recipe)!r}), []), range(2, 3))))); "
        "print(*{'deepspeed', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10"]


def test_a_mixture_has_no_steps(root: Path) -> None:
    with pytest.raises(UserError, match="give a training recipe"):
        list(mix.step_rows(read_mixture_file(root / "mix.yaml", []), range(1, 2)))


# mistakes


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["sources.pages.shards=gone"], "gone: no such shard set"),
        (["samples=1000"], "625 samples asked per epoch, 40 available"),
        (["sources.pages.weigth=1"], "weigth"),
        (["sources.pages.weight=null"], "weight: missing"),
        (["sources.pages.where.langage=en"], "no such column; did you mean language"),
    ],
)
def test_mistakes_are_said_in_one_line(root: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        report_on(read_mixture_file(root / "mix.yaml", overrides))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_measuring_needs_a_tokenizer(root: Path, recipe: Path) -> None:
    gone = f"model.language.tokenizer={root}/gone"
    for file, overrides, said in ((root / "mix.yaml", [], "needs a tokenizer"), (recipe, [gone], "gone")):
        with pytest.raises(UserError, match=said):
            report_on(read_mixture_file(file, overrides), measure=2)


@pytest.mark.parametrize(
    "words",
    [["show"], ["show", "f", "--outt"], ["write", "f"], ["step", "f", "0"], ["step", "f", "3:2"], ["step", "f", "x"]],
)
def test_a_wrong_command_line_says_how(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mix.parse(words)
    assert "usage: python -m pipelines.mix" in capfd.readouterr().err
