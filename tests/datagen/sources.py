"""Sources that misbehave on purpose. A module of its own: the child process imports it by name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datagen.inputs.listing import list_files, name_of
from datagen.source import Source, Unit
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Sample, Turn, make_key


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySource(Source):
    """Numbered units; those named in `faults` do what they are told."""

    units_per_input: int = 6
    faults: dict[int, str] = field(default_factory=dict)
    nap_s: float = 0.0  # a good unit takes so long

    name = "faulty"
    locations = ()

    def document(self, path: str) -> str:
        return path

    def inputs(self) -> Iterator[str]:
        yield from ("one", "two")

    def units(self, path: str, file: str) -> list[Unit] | Failed:
        start = {"one": 0, "two": self.units_per_input}[path]
        numbers = range(start, start + self.units_per_input)
        return [Unit(id=f"u{n:03d}", document=f"u{n:03d}", content=str(n), payload={"n": n}) for n in numbers]

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:  # noqa: C901  # a list
        number = unit.payload["n"]
        match self.faults.get(number):
            case "sleep":
                time.sleep(3600)
            case "abort":
                os.abort()
            case "exit":
                os._exit(3)
            case "eat":
                eaten = []
                while True:
                    eaten.append(bytearray(64 << 20))
            case "raise":
                raise KeyError("a defect")
            case "path":
                return Failed(reason="half", detail=f"cannot open {files[0]}, nor {os.path.dirname(files[0])}/more.txt")
            case "calloc":
                raise OSError("cannot be drawn") from RuntimeError("code=1: calloc (8 x 9 bytes) failed")
            case "nothing":
                return None  # type: ignore[return-value]  # a mistake of a source
            case "no text":
                return Rejected(gate="taste", value=1, threshold=1, detail="a character \ud800")
            case "no number":
                return Rejected(gate="taste", value="much", threshold=1)  # type: ignore[arg-type]
            case "garbage":
                os.write(int(sys.argv[1]), b"\0\0\0\x05hello")  # the pipe to the parent
            case "half":
                os.write(int(sys.argv[1]), b"\0\0\xff\xffhalf")
                time.sleep(3600)
            case "chatter":
                sys.stderr.write("x" * (3 << 20) + "\nlast words\n")
                os.abort()
            case "mutter":
                sys.stderr.write("a warning\n")
            case "gasp":
                sys.stderr.write("last words\n")
                os.abort()
            case "fork":
                if os.fork() == 0:
                    time.sleep(3600)
                os.abort()
            case "reject":
                return Rejected(gate="taste", value=number, threshold=0.5)
        time.sleep(self.nap_s)
        said = " \n\u3000" if self.faults.get(number) == "no answer" else f"{number}! " * 50
        turns = (Turn(role="user", text=f"{number}?"), Turn(role="assistant", text=said))
        return Written(samples=(Sample(key=make_key("faulty", number), task="text", turns=turns, source="faulty"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthGates:
    min_length: int = 3
    max_length: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesSource(Source):
    """Text files, a unit per line. "wait FILE" hangs until FILE is there; "touch FILE x" leaves a trace there.

    A file that begins with "needs FILE" cannot be read until FILE is there, one with a line "no good" never.
    """

    paths: list[str]
    gates: LengthGates = field(default_factory=LengthGates)
    style: str = "plain"

    name = "lines"
    prompt_lists = ("ocr",)
    measures = ("length",)

    def inputs(self) -> Iterator[str]:
        return list_files(self.paths, ".txt")

    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    def units(self, path: str, file: str) -> Iterator[Unit]:
        name = self.document(path)
        lines = Path(file).read_text().splitlines()
        if lines and lines[0].startswith("needs ") and not Path(lines[0].split()[1]).exists():
            raise OSError("what it needs is not there")
        for number, line in enumerate(lines):
            if line == "no good":
                raise WrongFormat(f"line {number} is no good")
            content = f"{name}#{number}#{line}" if line.startswith(("wait", "touch")) else line
            yield Unit(id=f"{name}#{number}", document=name, content=content, files=(path,), payload={"line": number})

    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        length = measures["length"]
        if length < self.gates.min_length:
            return Rejected(gate="min_length", value=length, threshold=self.gates.min_length)
        if length > self.gates.max_length:
            return Rejected(gate="max_length", value=length, threshold=self.gates.max_length)
        return None

    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        line = Path(files[0]).read_text().splitlines()[unit.payload["line"]]
        words = line.split()
        if words[:1] == ["wait"]:
            while not Path(words[1]).exists():
                time.sleep(0.02)
        if words[:1] == ["touch"]:
            with open(words[1], "a") as trace:
                trace.write(line + "\n")
        language = "zh" if line[:1] > "\u4e00" else "en"
        measures = {"length": float(len(line))}
        refused = self.judge(measures, language)
        if refused:
            return replace(refused, language=language, measures=measures)
        key = make_key("lines", unit.content)
        prompt = choose("ocr", language, key)
        turns = (Turn(role="user", text=prompt.text), Turn(role="assistant", text=line))
        origin = {"language": language, "document": unit.document, "prompt": prompt.name}
        sample = Sample(key=key, task="ocr", turns=turns, source="lines", origin=origin)
        return Written(samples=(sample,), language=language, measures=measures)
