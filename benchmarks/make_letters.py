"""Write `varyforge/data/letters.toml`, the letter statistics of `varyforge.language`, from gettext catalogues.

    python -m benchmarks.make_letters /usr/share/locale varyforge/data/letters.toml

The catalogues are the translated messages of the programs on the machine (*.mo, one folder per language). Words count
by the square root of their number, so that a program's own jargon does not outweigh the language.
"""

from __future__ import annotations

import argparse
import gettext
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from varyforge.console import say
from varyforge.errors import command
from varyforge.files import write_text
from varyforge.language import ALPHABETS, STEPS_PER_BIT, symbols_of

LANGUAGES = {
    "Latn": ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sv", "da", "fi", "hu", "ro", "tr", "vi", "id"],
    "Cyrl": ["ru", "uk", "bg", "be", "sr", "mk", "mn", "kk"],
    "Grek": ["el"],
    "Hebr": ["he"],
    "Arab": ["ar", "fa", "ckb"],
    "Kana": ["ja"],
}
COMMON = {"zh": ("zh_CN", "zh_TW"), "ja": ("ja",), "ko": ("ko",)}  # language → catalogues
COMMON_CHARACTERS = 1600  # per catalogue: over nine tenths of running text, under half of wrongly mapped text
FLOOR_BITS = 12  # -log2 P of the rarest pair

_MARKUP = re.compile(r"<[^>]*>|%[-#0-9.$ ]*[a-z]|\$?\{[^}]*\}|\\\w|[_&](?=\w)|--\S+|\S*[/@\\]\S*|\w*[_0-9]\w*")
_WORD = re.compile(r"[\u3041-\u30ff]+|[^\W\d_\u3041-\u30ff]+")
_CJK = re.compile(r"[\u3400-\u9fff\uac00-\ud7af]")


def messages(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield message and translation of every readable catalogue of a language."""
    for path in sorted(folder.glob("LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except (UnicodeDecodeError, OSError, LookupError, ValueError):  # a few are in old encodings
            continue
        for key, value in catalogue.items():
            source = key[0] if isinstance(key, tuple) else key
            if source and isinstance(value, str) and value != source:
                yield _MARKUP.sub(" ", source), _MARKUP.sub(" ", value)


def words(texts: set[str]) -> Counter[str]:
    """Count the words of the texts in lower case. Words in capitals, mostly names and options, are left out."""
    return Counter(word.lower() for text in texts for word in _WORD.findall(text) if not word.isupper())


def pairs(counts: Counter[str], alphabet: str) -> np.ndarray:
    """Return log2 P(letter | letter before) of an alphabet: (letters + 1)², 0 is the word's edge."""
    size = len(alphabet) + 1
    weights = np.full((size, size), 0.02)
    for word, count in counts.items():
        symbols, scripts = symbols_of(word)
        if len(symbols) and (scripts == list(ALPHABETS).index(script_of(alphabet)) + 1).all():
            line = np.concatenate([[0], symbols, [0]])
            np.add.at(weights, (line[:-1], line[1:]), math.sqrt(count))
    weights[0, 0] = 0.02
    table: np.ndarray = np.log2(weights / weights.sum(axis=1, keepdims=True))
    return table


def script_of(alphabet: str) -> str:
    """Return the name of an alphabet."""
    return next(name for name, letters in ALPHABETS.items() if letters == alphabet)


def drawn(table: np.ndarray) -> list[str]:
    """Return a table as text: a row per first letter, a character per number, "0" for 0 and one on per step down."""
    steps = np.rint(np.clip(-table, 0, FLOOR_BITS) * STEPS_PER_BIT).astype(int)
    return ["".join(chr(48 + step) for step in row) for row in steps]


def letters(locale: Path) -> str:
    """Read the catalogues below `locale`. Returns the table."""
    english = words({source for name in ("de", "fr", "ru") for source, _ in messages(locale / name)})
    lines = [
        "# Made by benchmarks/make_letters.py from gettext catalogues; varyforge/language.py reads it.",
        "# Pairs: row is the letter before, column the letter, first the edge of a word; a character is -log2 P in",
        '# quarter bits from "0" on.',
    ]
    for script, languages in LANGUAGES.items():
        for language in languages:
            if language == "en":
                counts = english
            else:
                names = [name for name in (language, f"{language}_BR") if (locale / name).is_dir()]
                counts = words({text for name in names for _, text in messages(locale / name)})
                counts = Counter({word: n for word, n in counts.items() if english[word] < n})  # untranslated words
            say(f"{script} {language} {len(counts)} words")
            lines += ["", f"[pairs.{script}.{language}]", "rows = '''", *drawn(pairs(counts, ALPHABETS[script])), "'''"]
    lines += ["", "[common]"]
    for language, catalogues in COMMON.items():
        chosen: set[str] = set()
        for name in catalogues:
            counts = Counter("".join(char for _, text in messages(locale / name) for char in _CJK.findall(text)))
            chosen |= {char for char, _ in counts.most_common(COMMON_CHARACTERS)}
        say(f"{language} {len(chosen)} characters")
        lines.append(f'{language} = "{"".join(sorted(chosen))}"')
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locale", type=Path, help="folder of catalogues, one folder per language")
    parser.add_argument("out", type=Path, help="the TOML file")
    arguments = parser.parse_args()
    write_text(arguments.out, letters(arguments.locale))


if __name__ == "__main__":
    command(main)()
