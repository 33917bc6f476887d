"""README and docs: links, commands, settings, code and messages in them are those of the code."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from trainer.settings import Recipe
from varyforge.config import load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "recipes" / "README.md", *sorted(DOCS.rglob("*.md"))]
DATA = ("pdf", "scan", "labelled", "markdown", "detection", "referring", "caption", "chat", "vqa", "chart")
DATA += ("guard", "examples")
COMMANDS = {
    **{name: f"datagen.{name}" for name in DATA},
    **{name: f"trainer.{name}" for name in ("evaluate", "convert", "export", "tokenizer")},
    **{name: f"pipelines.{name}" for name in ("run", "mix", "view", "verify", "report")},
}
FROM_SOURCE = ("trainer", "pipelines.mix", "datagen.guard")  # these import torch, or look for folders while parsing
LAUNCHER = {"--num_gpus", "--num_nodes", "--hostfile"}  # of DeepSpeed's launcher that the pages name
OTHERS = {"source", "pip", "python", "python3", "pytest", "ray", "ssh", "deepspeed", "make"}
INVENTED = {"recipes/mine.yaml"}  # a file that a page asks the reader to write
MOST_SENTENCES, WIDTH, IMAGE_BYTES = 5, 100, 200_000


@dataclass(frozen=True)
class Page:
    """A Markdown file, taken apart."""

    path: Path
    text: str
    blocks: tuple[tuple[str, str], ...]  # language and content of fenced code
    prose: tuple[str, ...]  # lines outside fenced code

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def links(self) -> list[tuple[str, str]]:
        """(text, target) of links and images."""
        text = re.sub(r"`[^`\n]*`", "`code`", "\n".join(self.prose))
        return re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text)

    @property
    def code(self) -> list[str]:
        return re.findall(r"`([^`\n]+)`", "\n".join(self.prose))

    @property
    def anchors(self) -> set[str]:
        titles = [line.lstrip("#").strip() for line in self.prose if re.match(r"#+ ", line)]
        return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}

    @property
    def paragraphs(self) -> Iterator[str]:
        """Text of paragraphs and list items, without tables, titles and images."""
        for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(self.prose)):
            if part.strip() and not part.lstrip().startswith(("|", "#", "![")):
                yield " ".join(part.split())

    @property
    def tables(self) -> Iterator[list[list[str]]]:
        """Rows of cells; the first row names the columns."""
        for part in re.findall(r"(?:^\|.*\n?)+", "\n".join(self.prose), re.MULTILINE):
            rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in part.splitlines()]
            yield [rows[0], *rows[2:]]


@cache
def page(path: Path) -> Page:
    blocks, prose, language, code = [], [], None, []
    for line in path.read_text().splitlines():
        if language is None and (fence := re.match(r"```(\w*)$", line)):
            language, code = fence[1], []
        elif language is not None and line == "```":
            blocks.append((language, "\n".join(code)))
            language = None
            prose.append("")
        elif language is not None:
            code.append(line)
        else:
            prose.append(line)
    assert language is None, f"{path}: a code block is not closed"
    return Page(path, path.read_text(), tuple(blocks), tuple(prose))


ALL = [page(path) for path in PAGES]
each = pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)


# Links and pictures.


@each
def test_links_and_anchors_resolve(one: Page) -> None:
    for text, target in one.links:
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (one.path.parent / name).resolve() if name else one.path
        assert path.exists(), f"{one.name}: [{text}]({target}): no such file"
        if DOCS in one.path.parents:
            assert DOCS in path.parents, f"{one.name}: [{text}]({target}) leads out of the site"
        assert not anchor or anchor in page(path).anchors, f"{one.name}: [{text}]({target}): no such title"


def test_pictures_are_small_and_used() -> None:
    used = {(one.path.parent / target).resolve() for one in ALL for _, target in one.links if "images/" in target}
    pictures = set((DOCS / "images").iterdir())
    assert pictures <= used, f"no page shows {pictures - used}"
    for path in pictures:
        assert path.stat().st_size < IMAGE_BYTES, path


def test_the_site_has_every_page() -> None:
    def leaves(node: Any) -> Iterator[str]:
        children = node.values() if isinstance(node, dict) else node
        for child in [node] if isinstance(node, str) else children:
            yield from [child] if isinstance(child, str) else leaves(child)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(leaves(site["nav"])) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert site["strict"] is True and site["theme"]["font"] is False


# The form of the prose: CONTRIBUTING.md, rule 8.


@each
def test_lines_and_paragraphs_are_short(one: Page) -> None:
    for line in one.prose:
        words = re.sub(r"\]\([^)]*\)|https?://\S+", "", line)
        assert len(words) <= WIDTH or line.startswith("|"), f"{one.name}: {line}"
    for text in one.paragraphs:
        plain = re.sub(r"`[^`]*`", "Code", re.sub(r"^(- |\d+\. )?(\*\*[^*]*\*\*)?", "", text))
        sentences = re.findall(r"[.?!](?=[\"')*]*(?: [A-Z(\"*\[]|$))", plain)
        assert len(sentences) <= MOST_SENTENCES, f"{one.name}: {len(sentences)} sentences: {text}"


@pytest.mark.parametrize("one", [one for one in ALL if DOCS in one.path.parents], ids=lambda one: one.name)
def test_a_page_begins_with_a_task_and_a_command(one: Page) -> None:
    title, rest = one.text.split("\n", 1)
    start = rest.split("\n## ", 1)[0]
    assert title.startswith("# "), one.name
    assert re.match(r"\n[A-Z][^\n]+", start) and not start.startswith("\n```"), f"{one.name}: no task after the title"
    assert re.search(r"^```(bash|python)$", start, re.MULTILINE), f"{one.name}: no command before the first section"


# Code blocks.


@each
def test_data_and_python_in_code_blocks_parse(one: Page) -> None:
    for language, code in one.blocks:
        assert language in ("bash", "text", "python", "yaml", "json"), f"{one.name}: block of {language!r}"
        if language == "python":
            check_names(ast.parse(code), one.name)
        elif language == "yaml":
            assert isinstance(yaml.safe_load(code), dict), one.name
        elif language == "json":
            assert all(isinstance(json.loads(line), dict) for line in code.splitlines()), one.name


def check_names(tree: ast.AST, where: str) -> None:
    """The names of our packages that a program takes are there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("varyforge", "datagen"):
            for alias in node.names:
                assert exists(f"{node.module}.{alias.name}"), f"{where}: {node.module}.{alias.name}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "varyforge":
            assert exists(f"varyforge.{node.attr}"), f"{where}: varyforge.{node.attr}"


@cache
def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or a top-level name of one. Imports nothing large."""
    if module_file(dotted):
        return True
    module, _, name = dotted.rpartition(".")
    file = module_file(module)
    if file is None:
        return False
    if module == "varyforge":
        return hasattr(importlib.import_module(module), name)
    names = (getattr(node, "name", None) or getattr(node, "target", None) for node in ast.parse(file.read_text()).body)
    return name in {node.id if isinstance(node, ast.Name) else node for node in names} or bool(
        re.search(rf"^{name}\b.* = ", file.read_text(), re.MULTILINE)
    )


def module_file(dotted: str) -> Path | None:
    base = ROOT.joinpath(*dotted.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


# Commands.


def commands(one: Page) -> Iterator[list[str]]:
    """The words of each command in blocks of bash, braces expanded, comments gone."""
    for language, code in one.blocks:
        if language != "bash":
            continue
        for line in code.replace("\\\n", " ").splitlines():
            words = [each for word in shlex.split(line, comments=True) for each in braces(word)]
            while words and re.fullmatch(r"[A-Z]+=\S*", words[0]):  # PYTHONPATH=. python …
                words = words[1:]
            if words:
                yield words


def braces(word: str) -> list[str]:
    found = re.fullmatch(r"([^{]*)\{([\w,]+)\}(.*)", word)
    return [found[1] + part + found[3] for part in found[2].split(",")] if found else [word]


@each
def test_commands_and_their_options_exist(one: Page) -> None:
    for words in commands(one):
        try:
            check_command(words)
        except AssertionError as error:
            pytest.fail(f"{one.name}: {shlex.join(words)}: {error}")


def check_command(words: list[str]) -> None:
    program = words[0].rpartition("/")[2]
    if program == "varyforge":
        check_varyforge(words[1:])
    elif program in ("python", "python3") and words[1:2] == ["-m"] and words[2] not in ("venv", "pip"):
        assert exists(words[2]) or module_file(f"{words[2]}.__main__"), f"no module {words[2]}"
    elif program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets, f"targets are {sorted(targets)}"
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for names in re.findall(r"(?:\.|varyforge)\[([\w,]+)\]", " ".join(words)):
            assert set(names.split(",")) <= set(extras), f"extras are {sorted(extras)}"
    elif program == "pytest":
        for word in words[1:]:
            assert not word.startswith("tests/") or (ROOT / word).exists(), f"no {word}"
    else:
        assert program in OTHERS, f"no program {program!r} is known here"


def check_varyforge(words: list[str]) -> None:
    if not words or words[0] == "completion":
        assert words[1:] in ([], ["bash"], ["zsh"])
    elif words[0] == "train":
        recipe = next(place for place, word in enumerate(words) if word.endswith(".yaml"))
        assert {word for word in words[1:recipe] if word.startswith("--")} <= LAUNCHER
        if words[recipe] not in INVENTED:
            load(Recipe, ROOT / words[recipe], words[recipe + 1 :])
    else:
        assert words[0] in COMMANDS, f"commands are {sorted(COMMANDS)}"
        module = COMMANDS[words[0]]
        for word in words[1:]:
            known = word in INVENTED or not word.startswith("recipes/")
            assert known or (ROOT / word).is_file(), f"no recipe {word}"
        if module.startswith(FROM_SOURCE):
            assert {word for word in words if word.startswith("--")} <= options_in_source(module)
        else:
            parse(module, words[1:])


def test_the_console_commands_are_these() -> None:
    listed = pytest.importorskip("varyforge.commands").COMMANDS
    assert {item.name: item.module for item in listed} == {**COMMANDS, "train": "trainer.run"}


def options_in_source(module: str) -> set[str]:
    folder = ROOT.joinpath(*module.split("."))
    files = [folder / "__main__.py"] if folder.is_dir() else [folder.with_suffix(".py")]
    return set(re.findall(r"\"(--[a-z-]+)\"", "".join(file.read_text() for file in files)))


class Parsed(BaseException):
    """Carries a parser out of a command's `main` when the words were understood."""

    def __init__(self, parser: argparse.ArgumentParser, _: object) -> None:
        self.parser = parser


def parse(module: str, words: list[str] | None = None) -> argparse.ArgumentParser:
    """Runs `main` of a command until it parses `words` (settings must be known, too); None: until it has a parser."""
    main = importlib.import_module(f"{module}.__main__").main
    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            original = getattr(argparse.ArgumentParser, name)

            def parsed(self: argparse.ArgumentParser, *_: object, original: Any = original) -> None:
                raise Parsed(self, words is not None and original(self, words))

            patch.setattr(argparse.ArgumentParser, name, parsed)
        try:
            main()
        except Parsed as done:
            if module.startswith("datagen."):
                values = [word for word in words or () if re.match(r"[a-z_.]+=", word)]
                unknown = [word for word in values if word.split("=")[0] not in settings_of(done.parser)]
                assert not unknown, f"unknown settings {unknown}"
            return done.parser
        except SystemExit as error:
            pytest.fail(f"{module} {shlex.join(words or ())}: exit status {error.code}")
    raise AssertionError(f"{module}: main parsed nothing")


def settings_of(parser: argparse.ArgumentParser) -> set[str]:
    return set(re.findall(r"^  ([a-z_.]+)=", parser.epilog or "", re.MULTILINE))


# Tables, paths and messages against the code.


@pytest.mark.parametrize("name", [name for name in DATA if name not in ("guard", "examples")])
def test_settings_in_tables_exist(name: str) -> None:
    parser = parse(f"datagen.{name}")
    known = settings_of(parser) | set(parser._option_string_actions)
    known |= {setting.removeprefix("gates.") for setting in known}
    options = page(DOCS / "data.md") if name == "pdf" else None
    for one in filter(None, (page(DOCS / "sources" / f"{name}.md"), options)):
        for table in one.tables:
            if table[0][0] in ("setting", "option", "gate") and table[0][1] == "default":
                for row in table[1:]:
                    names = [word.split()[0] for word in re.findall(r"`([^`]+)`", row[0])]
                    unknown = {word for word in names if "…" not in word and word != "key=value"} - known
                    assert not unknown, f"{one.name}: {unknown}"


def test_recipe_keys_in_tables_exist() -> None:
    def keys(schema: Any, prefix: str = "") -> Iterator[str]:
        hints = get_type_hints(schema, vars(sys.modules[schema.__module__]))
        for item in fields(schema):
            yield prefix + item.name
            if is_dataclass(hints[item.name]):
                yield from keys(hints[item.name], f"{prefix}{item.name}.")

    known = set(keys(Recipe))
    tables = [*page(DOCS / "training.md").tables, *page(DOCS / "consumer-cards.md").tables]
    rows = [row for table in tables if table[0][0] == "key" for row in table[1:]]
    names = {word for row in rows for word in re.findall("`(.*?)`", row[0])}
    assert len(names) >= 30
    assert not names - known


@each
def test_paths_and_dotted_names_exist(one: Page) -> None:
    for word in one.code:
        path = re.fullmatch(r"(?:varyforge|datagen|trainer|pipelines|recipes|tests|benchmarks)/[\w./]*", word)
        if path and word not in INVENTED:
            assert (ROOT / word).exists(), f"{one.name}: no {word}"
        dotted = re.match(r"(?:varyforge|datagen|trainer|pipelines)(?:\.[\w]+)+", word)
        if dotted and not re.search(r"\.[A-Z]+$|\.toml$", dotted[0]) and not path:
            assert exists(dotted[0]), f"{one.name}: no {dotted[0]}"


def test_messages_of_troubleshooting_are_those_of_the_code() -> None:
    messages = {
        "\x00".join(part.value for part in node.values if isinstance(part, ast.Constant))
        if isinstance(node, ast.JoinedStr)
        else str(node.value)
        for package in ("varyforge", "datagen", "trainer", "pipelines")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.JoinedStr | ast.Constant)
    }
    tables = [table for table in page(DOCS / "troubleshooting.md").tables if table[0][0] == "message"]
    fragments = [row[0].strip("`") for table in tables for row in table[1:]]
    assert len(fragments) >= 20
    for fragment in fragments:
        pattern = re.compile(".*".join(re.escape(part) for part in fragment.split("…")), re.DOTALL)
        assert any(pattern.search(message) for message in messages), f"no message has {fragment!r}"


@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in tmp_path.rglob("*.html"):
        tags = re.findall(r"<(?:script|img|iframe|link)[^>]*>", file.read_text())
        fetched = [tag for tag in tags if re.search(r'(?:src|href)="(?:https?:)?//', tag)]
        assert not fetched, file
