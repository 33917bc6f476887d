"""Makes `datagen/data/letters.toml`, the letter statistics of `varyforge.language`, from gettext catalogues.

python benchmarks/make_letters.py /usr/share/locale datagen/data/letters.toml

The catalogues are the translated messages of the programs on the machine (*.mo, one folder per language). Words count
by the square root of their number, so that a program's own jargon does not outweigh the language.
"""

from __future__ import annotations

import gettext
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from varyforge.language import ALPHABETS, STEPS_PER_BIT, symbols_of

LANGUAGES = {
    "Latn": ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sv", "da", "fi", "hu", "ro", "tr", "vi", "id"],
    "Cyrl": ["ru", "uk", "bg"],
    "Grek": ["el"],
    "Hebr": ["he"],
    "Arab": ["ar"],
}
COMMON = {"zh": ("zh_CN", "zh_TW"), "ja": ("ja",), "ko": ("ko",)}  # language → catalogues
COMMON_CHARACTERS = 1600  # per catalogue: above nine tenths of running text; of wrongly mapped text below half
FLOOR_BITS = 12  # of the rarest pair

_MARKUP = re.compile(r"<[^>]*>|%[-#0-9.$ ]*[a-z]|\$?\{[^}]*\}|\\\w|[_&](?=\w)|--\S+|\S*[/@\\]\S*|\w*[_0-9]\w*")
_WORD = re.compile(r"[^\W\d_]+")
_CJK = re.compile(r"[\u3400-\u9fff\uac00-\ud7af]")


def messages(folder: Path) -> Iterator[tuple[str, str]]:
    """Message and translation of every readable catalogue of a language."""
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
    """Words of the texts in lower case; those in capitals are mostly names and options."""
    return Counter(word.lower() for text in texts for word in _WORD.findall(text) if not word.isupper())


def pairs(counts: Counter[str], alphabet: str) -> np.ndarray:
    """log2 P(letter | letter before) of an alphabet: (letters + 1)², 0 is the word's edge."""
    size = len(alphabet) + 1
    found = np.full((size, size), 0.02)
    for word, count in counts.items():
        symbols, scripts = symbols_of(word)
        if len(symbols) and (scripts == list(ALPHABETS).index(script_of(alphabet)) + 1).all():
            line = np.concatenate([[0], symbols, [0]])
            np.add.at(found, (line[:-1], line[1:]), math.sqrt(count))
    found[0, 0] = 0.02
    return np.log2(found / found.sum(axis=1, keepdims=True))


def script_of(alphabet: str) -> str:
    """Name of an alphabet."""
    return next(name for name, letters in ALPHABETS.items() if letters == alphabet)


def drawn(table: np.ndarray) -> list[str]:
    """A table as text: one row per first letter, one character per number, "0" for 0 and one on per step downwards."""
    steps = np.rint(np.clip(-table, 0, FLOOR_BITS) * STEPS_PER_BIT).astype(int)
    return ["".join(chr(48 + step) for step in row) for row in steps]


def main(locale: Path, target: Path) -> None:
    """Reads the catalogues below `locale` and writes the table."""
    english = words({source for name in ("de", "fr", "ru") for source, _ in messages(locale / name)})
    lines = [
        "# Made by benchmarks/make_letters.py from gettext catalogues; datagen/language.py reads it.",
        "# Pairs: row is the letter before, column the letter, first the edge of a word; a character is -log2 P in",
        '# quarter bits from "0" on.',
    ]
    for script, languages in LANGUAGES.items():
        for language in languages:
            if language == "en":
                counts = english
            else:
                found = [name for name in (language, f"{language}_BR") if (locale / name).is_dir()]
                counts = words({text for name in found for _, text in messages(locale / name)})
                counts = Counter({word: n for word, n in counts.items() if english[word] < n})  # untranslated words
            print(script, language, len(counts), "words")
            lines += ["", f"[pairs.{script}.{language}]", "rows = '''", *drawn(pairs(counts, ALPHABETS[script])), "'''"]
    lines += ["", "[common]"]
    for language, names in COMMON.items():
        chosen: set[str] = set()
        for name in names:
            counts = Counter("".join(char for _, text in messages(locale / name) for char in _CJK.findall(text)))
            chosen |= {char for char, _ in counts.most_common(COMMON_CHARACTERS)}
        print(language, len(chosen), "characters")
        lines.append(f'{language} = "{"".join(sorted(chosen))}"')
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
