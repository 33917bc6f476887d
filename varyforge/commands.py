"""The console command `varyforge`: all commands of the packages under one name.

Each runs the module that `python -m` runs, in this process. This file names the modules and imports none of them.
"""

from __future__ import annotations

import difflib
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NamedTuple

from varyforge.errors import UserError, command


class Command(NamedTuple):
    """A command of the console, and the module that it runs."""

    group: str
    name: str
    module: str
    summary: str


COMMANDS = (
    Command("data", "pdf", "datagen.pdf", "pages of PDFs and their text"),
    Command("data", "scan", "datagen.scan", "scanned pages, read by OCR on this machine"),
    Command("data", "labelled", "datagen.labelled", "pages with a text or JSON file of the same name"),
    Command("data", "markdown", "datagen.markdown", "LaTeX and Markdown, typeset, and their Markdown"),
    Command("data", "detection", "datagen.detection", "images and their boxes: COCO, VOC, YOLO, Open Images"),
    Command("data", "referring", "datagen.referring", "objects that a phrase names: RefCOCO, JSON Lines"),
    Command("data", "caption", "datagen.caption", "images and captions: COCO, LLaVA, tables, tars"),
    Command("data", "chat", "datagen.chat", "conversations: ShareGPT, Alpaca, Baize, LLaVA"),
    Command("data", "vqa", "datagen.vqa", "questions about images: DocVQA, ChartQA"),
    Command("data", "chart", "datagen.chart", "drawn charts and their data"),
    Command("data", "guard", "datagen.guard", "a list of the benchmarks' images, to keep out of training"),
    Command("data", "examples", "datagen.examples", "small inputs to try the commands with"),
    Command("training", "tokenizer", "trainer.tokenizer", "train a small tokenizer on shard sets"),
    Command("training", "train", "trainer.run", "train one stage of a recipe, under DeepSpeed's launcher"),
    Command("training", "evaluate", "trainer.evaluate", "score exported models on held-out samples"),
    Command("training", "convert", "trainer.convert", "released weights to a model folder, and back"),
    Command("training", "export", "trainer.export", "a folder that plain transformers loads"),
    Command("whole runs", "run", "pipelines.run", "the data sets and stages of a recipe, in order"),
    Command("whole runs", "mix", "pipelines.mix", "show, count or write a mixture"),
    Command("whole runs", "view", "pipelines.view", "look at a shard set in the browser"),
    Command("whole runs", "verify", "pipelines.verify", "check and compare shard sets"),
    Command("whole runs", "report", "pipelines.report", "one page about data, training and scores"),
)
_OWN_WORDS = ("completion", "--help", "--version")
_COMPLETIONS = {
    "bash": "_varyforge() {{\n"
    '    [ "$COMP_CWORD" = 1 ] && COMPREPLY=($(compgen -W "{words}" -- "${{COMP_WORDS[1]}}"))\n'
    "}}\ncomplete -o default -F _varyforge varyforge\n",
    "zsh": "#compdef varyforge\n_varyforge() {{\n"
    "    if (( CURRENT == 2 )); then compadd -- {words}; else _files; fi\n"
    "}}\ncompdef _varyforge varyforge\n",
}


_running: list[str] = []  # the module that `main` runs


def program(module: str) -> str:
    """Return the words that the user types to run `module`, for its usage line."""
    names = [f"varyforge {item.name}" for item in COMMANDS if item.module == module and module in _running]
    return names[0] if names else f"python -m {module}"


@command
def main() -> int:
    """Run the command that the first argument names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
    elif words[0] == "--version":
        sys.stdout.write(f"varyforge {metadata.version('varyforge')}\n")
    elif words[0] == "completion":
        sys.stdout.write(completion(words[1:]))
    elif words[0] == "train" and words[1:] and not {"-h", "--help"} & set(words):
        _launch(words[1:])
    else:
        item = find_command(words[0])
        sys.argv = [item.name, *words[1:]]  # runpy puts the file's name first
        _running.append(item.module)
        runpy.run_module(item.module, run_name="__main__", alter_sys=True)
    return 0


def find_command(name: str) -> Command:
    """Return the command of that name.

    Raises:
        UserError: no such command; the message names the most similar one.
    """
    names = [item.name for item in COMMANDS]
    if name in names:
        return COMMANDS[names.index(name)]
    similar = difflib.get_close_matches(name, [*names, *_OWN_WORDS], n=1)
    hint = f"did you mean {similar[0]!r}?" if similar else "`varyforge --help` lists the commands"
    raise UserError(f"no command {name!r}; {hint}")


def completion(words: Sequence[str]) -> str:
    """Return a shell's script that completes the commands' names.

    Raises:
        UserError: `words` is not the name of a shell that has a script.
    """
    if len(words) != 1 or words[0] not in _COMPLETIONS:
        raise UserError("type: varyforge completion bash, or: varyforge completion zsh")
    return _COMPLETIONS[words[0]].format(words=" ".join([*(item.name for item in COMMANDS), *_OWN_WORDS]))


def _help() -> str:
    lines = ["usage: varyforge COMMAND …", ""]
    for group in dict.fromkeys(item.group for item in COMMANDS):
        lines += [f"{group}:", *(f"  {item.name:<12}{item.summary}" for item in COMMANDS if item.group == group), ""]
    return (
        "\n".join(lines)
        + """
`varyforge COMMAND --help` shows the arguments. `varyforge pdf` is `python -m datagen.pdf`, and so on;
`varyforge train RECIPE` is `deepspeed trainer/run.py RECIPE`: the launcher's options go before RECIPE.
`varyforge --version` shows the version, `varyforge completion bash` (or zsh) a script for the shell.
"""
    )


def _launch(words: Sequence[str]) -> None:
    """Run `trainer/run.py` under DeepSpeed's launcher, which starts a process per GPU.

    The recipe is the first argument that is no option of the launcher, as the launcher's own parser tells.
    """
    launcher = import_module("deepspeed.launcher.runner")
    script = import_module("trainer").__path__[0] + "/run.py"
    before = len(words) - len(launcher.parse_args(words).user_args) - 1
    launcher.main([*words[:before], script, *words[before:]])
