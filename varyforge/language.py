"""Script and language of a text by its letters alone, and whether it reads like text at all.

`data/letters.toml` (made by `benchmarks/make_letters.py`) holds the statistics: frequencies of pairs of letters for
alphabets, common characters for Han and hangul. Accents are ignored.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

ALPHABETS = {
    "Latn": "abcdefghijklmnopqrstuvwxyz",
    "Cyrl": "абвгдежзиклмнопрстуфхцчшщъыьэюяієґђјљњћџөүғқңһәұ",
    "Grek": "αβγδεζηθικλμνξοπρστυφχψω",
    "Hebr": "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
    "Arab": "ءابةتثجحخدذرزسشصضطظعغفقكلمنهويىپچژگکیەڕڵڤێ",
    "Kana": "ーぁあぃいぅうぇえぉおかきくけこさしすせそたちっつてとなにぬねのはひふへほまみむめも"
    "ゃやゅゆょよらりるれろゎわゐゑをん",
}
"""Letters of the scripts with statistics of pairs, without accents, capitals and katakana."""

STEPS_PER_BIT = 4  # resolution of the file; its characters count from "0"

Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_ALIASES = {"ß": "s", "æ": "a", "œ": "o", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "t", "ı": "i", "ς": "σ"}
_RANGES = (
    (0xAA, 0x250),
    (0x300, 0x530),
    (0x590, 0x700),
    (0x1E00, 0x2000),
    (0xFB00, 0xFE00),
    (0xFE70, 0xFF00),
    (0x3041, 0x30FF),
    (0xFF66, 0xFF9E),
)
_OTHER = {  # scripts without statistics of pairs, and their code points
    "Hani": ((0x3400, 0x9FFF), (0xF900, 0xFAFF)),
    "Hang": ((0xAC00, 0xD7AF), (0x1100, 0x11FF)),
    "Thai": ((0x0E01, 0x0E3A), (0x0E40, 0x0E4E)),
    "Deva": ((0x0900, 0x0963),),
}
_SCRIPTS = ("", *ALPHABETS, *_OTHER, "else", "digit")
_MARK = 255  # "script" of combining marks and invisible characters: skipped
_KATAKANA = 0x60  # from a letter of hiragana to the same one of katakana
_COMMON_LISTS = {"Hani": ("zh", "ja"), "Hang": ("ko",)}  # script → lists of common characters in the file

_LANGUAGE_OF_SCRIPT = {  # before pairs of letters are counted
    "Latn": "en",
    "Cyrl": "ru",
    "Grek": "el",
    "Hebr": "he",
    "Arab": "ar",
    "Thai": "th",
    "Deva": "hi",
}

_WORD_BITS = -5.0  # mean log2 P(letter | letter before) of a word; below it, a word is of no language. English: -3.7
_KANA_BITS = -6.5  # the same for kana, which stand for syllables; Japanese: -5.3
_LETTERS_OF_SYLLABLE = 2.5  # hangul; words have three syllables, lines without spaces thirty
_LEAST_LETTERS = 60  # of an alphabet; fewer tell nothing
_LEAST_CHARACTERS = 25  # of Han or hangul
_SURELY = 0.12  # bits per letter by which another language must beat English: names and terms look foreign


_NOT_PROSE = {  # mark → letters that make no words of a language: addresses, mail, commands of TeX
    "://": re.compile(r"(?:https?|ftp)://[!-~]+"),
    "www.": re.compile(r"www\.[!-~]+"),
    "@": re.compile(r"[\w.+-]{1,40}@[\w.-]+"),
    "\\": re.compile(r"\\[A-Za-z@]{3,}"),
}
_APART = re.compile(r"(?<!\S)[^\W\d_](?: [^\W\d_](?!\S)){3,}")
"""Four or more letters with single spaces between them."""
_ARABIC = re.compile("[\u0621-\u064a\u066e-\u06d3\u06d5\u06fa-\u06fc]+")
_UNJOINED = re.compile("[\u0640\u064b-\u065f\u0670]+")
"""Vowel signs, and the lines that lengthen a word."""
_AND = "\u0648"  # the one Arabic letter that is a word
_LEAST_JOINED = 40  # Arabic letters; fewer tell nothing
_OFTEN_LONE = 0.25  # share of letters that are a word; ordinary pages have less
_SPELLS = 0.5  # least plausible share of letters set apart that spell words


class CodeTable:
    """A table of numbers from 0 to 255 by code point. An entry is computed when a text has the character first.

    All 65536 at once would take a process a tenth of a second. Entry 0xFFFF stands for all later code points.
    """

    def __init__(self, number_of: Callable[[str], int]) -> None:
        self._number_of = number_of
        self._numbers = np.zeros(0x10000, np.uint8)
        self._known = np.zeros(0x10000, np.bool_)

    def __call__(self, codes: npt.NDArray[Any]) -> Codes:
        """Return the number of each code point (N,)."""
        codes = np.minimum(codes, 0xFFFF)
        known = self._known[codes]
        if not known.all():
            for code in set(codes[~known].tolist()):
                self._numbers[code], self._known[code] = self._number_of(chr(code)), True
        numbers: Codes = self._numbers[codes]
        return numbers


@dataclass(frozen=True, slots=True)
class Reading:
    """Measures of a text's letters. A text too short to measure has the values of good text."""

    language: str = ""  # "en", "de", "zh", …
    plausible: float = 1.0  # share of letters in words, or of Han and hangul characters, that look like text
    forward: float = 1.0  # bits per letter by which the text reads better than backwards
    word_letters: float = 5.0  # length of the word that a letter stands in, mean
    lone: float = 0.0  # share of letters that are a word
    torn: float = 0.0  # share of Arabic letters that stand alone, where most should be joined


def language_of(text: str) -> str:
    """Return the language of a text, "" where unknown.

    The script decides for "zh", "ja", "ko", "th", "hi", "el", "he" and "ar"; for Latin and Cyrillic text, the language
    whose pairs of letters fit best. A language that `data/letters.toml` lacks comes out as a related one, a text of
    fewer than 60 Latin letters as "en".
    """
    return read(text).language


def known_languages() -> tuple[str, ...]:
    """List every language that `language_of` may return."""
    paired = {language for script in ALPHABETS for language in _pairs(script)[0]}
    return tuple(sorted(paired | set(_LANGUAGE_OF_SCRIPT.values()) | {"zh", "ja", "ko"}))


def read(text: str) -> Reading:
    """Measure the letters of a text, in about a tenth of a millisecond per page.

    Addresses and commands of TeX do not count. A measure is the mean over the scripts, weighted by their letters.
    """
    for mark, pattern in _NOT_PROSE.items():
        if mark in text:  # a match has no space; of 300 words, one or two have the mark
            text = " ".join([pattern.sub(" ", word) if mark in word else word for word in text.split(" ")])
    symbols, scripts = symbols_of(text)
    count = dict(zip(_SCRIPTS, np.bincount(scripts, minlength=len(_SCRIPTS)).tolist(), strict=True))
    parts = [_common(text, scripts, script) for script in _COMMON_LISTS if count[script] >= _LEAST_CHARACTERS]
    fits = [_fit(symbols, scripts, script) for script in ALPHABETS if count[script] >= _LEAST_LETTERS]
    _, main = max(fits, key=lambda fit: fit[0], default=(0, Reading()))
    language = _by_script(count)
    reading = replace(
        _mean(parts + fits, _letters(count)),
        language=main.language if main.language and language in ("en", "ru", "ar") else language,
    )
    if count["Arab"] >= _LEAST_JOINED:
        reading = replace(reading, torn=_torn(text))
    if reading.lone > _OFTEN_LONE:  # letters of formulas and drawings are not set apart by single spaces
        runs = [run.replace(" ", "") for run in _APART.findall(text)]
        words = read(" ".join(runs)).plausible > _SPELLS  # else a table of letters
        reading = replace(reading, lone=min(reading.lone, words * sum(map(len, runs)) / _letters(count)))
    return reading


def _torn(text: str) -> float:
    """Return the share of Arabic letters between spaces or non-joiners, without the word "and"."""
    words: list[str] = _ARABIC.findall(_UNJOINED.sub("", text))
    return sum(len(word) == 1 and word != _AND for word in words) / max(sum(map(len, words)), 1)


def _mean(parts: Sequence[tuple[int, Reading]], letters: int) -> Reading:
    """Return the mean of readings, each with its number of letters. The rest of the letters read as good text."""
    rest = letters - sum(count for count, _ in parts)
    weighted = [*parts, (rest, Reading())]
    names = ("plausible", "forward", "word_letters", "lone")
    means = {name: sum(count * getattr(part, name) for count, part in weighted) / max(letters, 1) for name in names}
    return Reading(**means) if letters else Reading()


def symbols_of(text: str) -> tuple[Codes, Codes]:
    """Return symbols and scripts of a text's characters, combining marks skipped; symbol 0 is no letter."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    symbols, scripts = _character_tables()
    if not text.isascii():
        codes = np.where(codes < 65536, codes, 0)
    symbol, script = symbols.take(codes), scripts.take(codes)
    visible = script != _MARK
    return (symbol, script) if visible.all() else (symbol[visible], script[visible])


def _letters(count: Mapping[str, int]) -> int:
    return sum(count.values()) - count[""] - count["digit"]


def _by_script(count: Mapping[str, int]) -> str:
    """Return the language by script. A text of a fifth Han is Chinese, even among English."""
    letters = _letters(count)
    if letters == 0:
        return ""
    east = {"zh": count["Hani"], "ja": count["Kana"] * 4, "ko": count["Hang"]}  # Japanese is half Han
    language = max(east, key=lambda name: east[name])
    if count["Hani"] + count["Kana"] + count["Hang"] >= letters / 5:
        return language
    script = max(_LANGUAGE_OF_SCRIPT, key=lambda name: count[name])
    return _LANGUAGE_OF_SCRIPT[script] if count[script] >= letters / 2 else ""


def _fit(symbols: Codes, scripts: Codes, script: str) -> tuple[int, Reading]:
    """Count and measure the letters of one script, at least one. All other characters are edges of words."""
    number = _SCRIPTS.index(script)
    line = np.zeros(len(symbols) + 2, np.intp)
    line[1:-1] = np.where(scripts == number, symbols, 0)
    languages, bits = _pairs(script)
    size = len(ALPHABETS[script]) + 1
    pairs = line[:-1] * size + line[1:]
    counts = np.bincount(pairs, minlength=size * size)
    counts[0] = 0  # between two edges
    fits = bits @ counts / counts.sum()  # sums of quarters are exact, so that BLAS may add in any order
    backwards = bits @ counts.reshape(size, size).T.ravel() / counts.sum()
    best = int(fits.argmax())
    if fits[best] < fits[0] + _SURELY:
        best = 0
    inside = line > 0
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, stops = edges[::2], edges[1::2]
    lengths = stops - starts
    run = np.concatenate([[0.0], np.cumsum(np.where(pairs == 0, 0, bits[best][pairs]))])
    spaced = script != "Kana"
    likely = (run[stops + 1] - run[starts]) / (lengths + 1) > (_WORD_BITS if spaced else _KANA_BITS)
    distinct = _first_prints(line, starts, stops)  # a table may print one odd word a hundred times
    long = np.where(lengths > 2, lengths, 0)[distinct]  # two letters can be anything
    letters = int(lengths.sum())
    reading = Reading(
        language=languages[best],
        plausible=float((long * likely[distinct]).sum() / long.sum()) if long.sum() >= _LEAST_LETTERS else 1.0,
        forward=float(fits.max() - backwards.max()),
        word_letters=float((lengths**2).sum() / letters) if spaced else Reading().word_letters,
        lone=float((lengths == 1).sum() / letters) if spaced else 0.0,
    )
    return letters, reading


def _first_prints(line: npt.NDArray[np.intp], starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp]) -> Any:
    """Return the indices of the words that `line` does not hold before, as far as two sums over the letters tell."""
    position = np.arange(len(line))
    sums, weighted = np.cumsum(line), np.cumsum(line * position)
    letters = sums[stops] - sums[starts]
    return np.unique((weighted[stops] - weighted[starts] - starts * letters) * 65536 + letters, return_index=True)[1]


def _common(text: str, scripts: Codes, script: str) -> tuple[int, Reading]:
    """Count and measure the characters of a script without an alphabet, at least one."""
    inside = np.concatenate([[False], scripts == _SCRIPTS.index(script), [False]])
    starts, stops = np.flatnonzero(~inside[:-1] & inside[1:]), np.flatnonzero(inside[:-1] & ~inside[1:])
    lengths, letters = stops - starts, int(inside.sum())
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    low, high = _OTHER[script][0]
    known = _is_common(script)[codes[(codes >= low) & (codes <= high)]]
    words = float((lengths**2).sum() / letters) * _LETTERS_OF_SYLLABLE if script == "Hang" else Reading().word_letters
    return letters, Reading(plausible=int(np.count_nonzero(known)) / max(len(known), 1), word_letters=words)


@cache
def _is_common(script: str) -> npt.NDArray[np.bool_]:
    """Return for each of 65536 code points whether it is a common character of a script."""
    table = np.zeros(65536, np.bool_)
    table[[ord(char) for language in _COMMON_LISTS[script] for char in _file()["common"][language]]] = True
    return table


@cache
def _pairs(script: str) -> tuple[tuple[str, ...], Floats]:
    """Load the languages of an alphabet, and log2 P(letter | letter before) as (languages, pairs)."""
    tables = _file()["pairs"][script]
    rows = [np.frombuffer("".join(table["rows"].split()).encode(), np.uint8) for table in tables.values()]
    return tuple(tables), (48 - np.array(rows, np.float64)) / STEPS_PER_BIT


@cache
def _file() -> Any:
    return tomllib.loads((files("varyforge") / "data" / "letters.toml").read_text(encoding="utf-8"))


@cache
def _character_tables() -> tuple[Codes, Codes]:
    """Return symbol (number in its alphabet from 1, or 0) and script (index in `_SCRIPTS`) of 65536 code points."""
    symbols, scripts = np.zeros(65536, np.uint8), np.zeros(65536, np.uint8)
    known = {
        letter: (number, script)
        for script, letters in enumerate(ALPHABETS.values(), 1)
        for number, letter in enumerate(letters, 1)
    }
    for code in (*range(0x41, 0x7B), *(code for low, high in _RANGES for code in range(low, high))):
        char = chr(code)
        if unicodedata.category(char) == "Mn":
            scripts[code] = _MARK
            continue
        folded = unicodedata.normalize("NFKD", char.casefold())[:1]
        if "\u30a1" <= folded <= "\u30f6":
            folded = chr(ord(folded) - _KATAKANA)
        letter = known.get(char) or known.get(folded) or known.get(_ALIASES.get(char.lower(), ""))
        if char.isalpha():
            symbols[code], scripts[code] = letter or (0, _SCRIPTS.index("else"))
    scripts[0x30:0x3A] = _SCRIPTS.index("digit")
    scripts[[0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F]] = _MARK
    for script, ranges in _OTHER.items():
        for low, high in ranges:
            scripts[low : high + 1] = _SCRIPTS.index(script)
    return symbols, scripts
