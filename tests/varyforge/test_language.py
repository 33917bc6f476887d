from __future__ import annotations

import pytest

from tests.datagen import made_texts as texts
from varyforge.language import language_of, read

DUTCH = (
    "De haven ligt onder de stad en elke ochtend komen de boten met het tij binnen. De vissers sorteren hun vangst op "
    "de kade terwijl de meeuwen op de daken wachten."
)
SPANISH = (
    "El puerto está debajo de la ciudad y cada mañana los barcos vuelven con la marea. Los pescadores clasifican sus "
    "capturas en el muelle mientras las gaviotas esperan en los tejados."
)
ITALIAN = (
    "Il porto si trova sotto la città e ogni mattina le barche rientrano con la marea. I pescatori dividono il pesce "
    "sulla banchina mentre i gabbiani aspettano sui tetti."
)
SWEDISH = (
    "Hamnen ligger nedanför staden och varje morgon kommer båtarna in med tidvattnet. Fiskarna sorterar sin fångst på "
    "kajen medan måsarna väntar på taken."
)
TURKISH = (
    "Liman şehrin aşağısında bulunur ve her sabah tekneler gelgitle birlikte geri döner. Balıkçılar rıhtımda avlarını "
    "ayırırken martılar çatılarda bekler."
)
FINNISH = (
    "Satama on kaupungin alapuolella, ja joka aamu veneet palaavat vuoroveden mukana. Kalastajat lajittelevat "
    "saaliinsa laiturilla, kun lokit odottavat katoilla."
)
PORTUGUESE = (
    "O porto fica abaixo da cidade e todas as manhãs os barcos voltam com a maré. Os pescadores separam o peixe no "
    "cais enquanto as gaivotas esperam nos telhados."
)
UKRAINIAN = (
    "Гавань лежить нижче міста, і щоранку човни повертаються з припливом. Рибалки розбирають улов на причалі, а чайки "
    "чекають на дахах."
)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (" ".join(texts.ENGLISH), "en"),
        (texts.GERMAN[0], "de"),
        (texts.FRENCH[0], "fr"),
        (texts.POLISH[0], "pl"),
        (SPANISH, "es"),
        (ITALIAN, "it"),
        (PORTUGUESE, "pt"),
        (DUTCH, "nl"),
        (SWEDISH, "sv"),
        (FINNISH, "fi"),
        (TURKISH, "tr"),
        (texts.RUSSIAN[0], "ru"),
        (UKRAINIAN, "uk"),
        (texts.CHINESE[0], "zh"),
        ("中文文本 with words", "zh"),
        ("これはにほんごのぶんです", "ja"),
        ("港は町の下にあり、毎朝、船が潮とともに戻ってくる。", "ja"),
        ("항구는 마을 아래에 있고 매일 아침 배들이 돌아온다", "ko"),
        (texts.HEBREW, "he"),
        ("يقع الميناء أسفل المدينة وتعود القوارب كل صباح", "ar"),
        ("Το λιμάνι βρίσκεται κάτω από την πόλη", "el"),
        ("ท่าเรืออยู่ด้านล่างของเมือง", "th"),
        ("बंदरगाह शहर के नीचे है", "hi"),
        ("plain words", "en"),
        ("русский текст", "ru"),
        ("123 ...", ""),
        ("", ""),
        (texts.CODE, "en"),
        ("\n".join(texts.REFERENCES), "en"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text",
    [
        *(texts.CODE, "\n".join(texts.REFERENCES), texts.HEBREW * 2, texts.CHINESE[0], texts.GERMAN[0]),
        *(SPANISH, ITALIAN, DUTCH, SWEDISH, TURKISH, FINNISH, PORTUGUESE, UKRAINIAN),
        "港は町の下にあり、毎朝、船が潮とともに戻ってくる。" * 3,
    ],
)
def test_text_reads_like_text_and_shuffled_letters_do_not(text: str) -> None:
    reading = read(text)
    assert reading.plausible > 0.8
    assert reading.forward > 0.1
    letters = sorted({char for char in text.lower() if char.isalpha()})
    moved = dict(zip(letters, letters[len(letters) // 3 :] + letters[: len(letters) // 3], strict=True))
    if text.isascii():  # where letters are few, so that all of them are moved
        assert read("".join(moved.get(char, char) for char in text.lower())).plausible < 0.5


def test_little_text_tells_nothing() -> None:
    for text in ("", "Xqz vbn", "12 34 kg", "\ud800\x00"):
        assert read(text).plausible == 1
