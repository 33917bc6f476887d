"""`python -m datagen.chart`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from datagen.chart.__main__ import main, parser
from varyforge.shards import ShardSet


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["datagen.chart", *words, "--runner", "local", "--workers", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_charts_of_a_language_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert run(monkeypatch, "--charts", "3", "--out", out, "languages=[zh]", "long_side_px=512", "seed=5") == 0
    shards = ShardSet(out)
    rows = shards.table().to_pylist()
    assert rows and {row["language"] for row in rows} == {"zh"}
    for row in rows:
        sample = shards.read(row["shard"], row["offset"], row["size"])
        assert max(sample.images[0].width, sample.images[0].height) <= 512 and sample.origin["seed"] == 5
        assert isinstance(ast.literal_eval(sample.answer), dict)
    assert shards.job["inputs"] == {"charts": 3}
    assert run(monkeypatch, "--charts", "3", "--out", out, "seed=6") == 2
    assert "seed" in capsys.readouterr().err  # the setting that differs is named


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--charts", "0"], "charts of 1 or more"),
        (["--charts", "2", "languages=[fr]"], "one or more of en, zh"),
        (["--charts", "2", "colour=red"], "colour"),
        (["--charts", "2", "surprise"], "surprise"),
    ],
)
def test_user_mistakes_are_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *words, "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.glob("out/*.tar"))


def test_help_names_every_setting_with_its_default() -> None:
    text = parser.format_help()
    assert all(line in text for line in ("seed=0", "long_side_px=1024", "jpeg_quality=90", "languages=['en', 'zh']"))
