from __future__ import annotations

import numpy as np
import pytest

from tests.datagen import made_texts as texts
from varyforge.language import CodeTable, language_of, read

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
        ("بندر در پایین شهر است و قایق‌ها هر روز صبح با جزر و مد به خانه باز می‌گردند" * 2, "fa"),
        ("Лука је испод града и чамци се сваког јутра враћају кући са плимом" * 2, "sr"),
        ("Боомт нь хотын доор байрладаг бөгөөд завь өглөө бүр далайн түрлэгтэй хамт буцаж ирдэг" * 2, "mn"),
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


CHINESE = "我们的方法在这些数据上有很好的结果,因为它可以用于不同的问题和时间。" * 8


def test_a_few_letters_of_another_script_do_not_decide() -> None:
    odd = "xqzv wqkx zzqx vkqj qzxw kxqv jzqk vwxq kzqj qvxz xkwq zjqv wzkq qxjv vqzk "
    assert read(CHINESE + odd).plausible > 0.7
    assert read(odd * 2).plausible < 0.1
    assert read(CHINESE + " a b c d e f g h i j k l m n o p" * 5).lone < 0.4
    assert read(CHINESE + "unbrokenidentifierofmanyletters" * 4).word_letters < 60


def test_addresses_and_commands_are_no_words() -> None:
    address = "http://www.cninfo.com.cn/xzqk/bdwfx?qrtzk=xkcdwq someone@qwrtzk.xkcd.cn "
    assert read(address * 4 + CHINESE).plausible == read(CHINESE).plausible
    assert read("\\tkzTabVar{ +D/1 , -/2} " * 20).plausible == 1


def test_letters_of_a_drawing_are_not_set_apart() -> None:
    assert read("x\ta\tb\tc\nx\ta\tb\tc\n" * 10).lone == 0
    assert read("l e t t e r s   a p a r t   i n   w o r d s " * 8).lone > 0.8


def test_korean_words_without_spaces() -> None:
    words = "데이터를 사용하는 프로그램은 많은 시간이 필요 없다 "
    assert read(words * 5).word_letters < 12
    assert read(words.replace(" ", "") * 5).word_letters > 20


def test_a_code_table_computes_each_number_once_and_has_one_for_all_later_code_points() -> None:
    computed: list[str] = []

    def number_of(char: str) -> int:
        computed.append(char)
        return ord(char) % 256

    table = CodeTable(number_of)
    codes = np.array([0x41, 0x42, 0x41, 0x1F600, 0x10FFFF])
    assert table(codes).tolist() == [0x41, 0x42, 0x41, 0xFF, 0xFF]
    assert table(codes[:2]).tolist() == [0x41, 0x42]
    assert sorted(computed) == ["A", "B", "\uffff"]


def test_tables_of_letters_are_neither_set_apart_nor_implausible() -> None:
    table = "Α Α Α Α Α Α Α Α Α Α Ε Ε Ε Ε Ε Ε Ε Η Η Η Η Η Η Η Η Η Η\n" + "Ααα Ααα Εαε Ααα Αοο " * 8
    reading = read(table)
    assert reading.lone < 0.4
    assert reading.plausible == 1
    assert read("t h e l i n e s o f t h i s t e x t a r e s e t a p a r t f r o m e a c h o t h e r " * 3).lone > 0.9


def test_arabic_letters_that_stand_alone() -> None:
    text = "يقع الميناء أسفل المدينة وتعود القوارب كل صباح مع المد و و و"
    assert read(text).torn == 0
    assert read(text.replace("ا", "\u200cا\u200c")).torn > 0.1
    assert read(" ".join(text)).torn > 0.8


def test_wrong_kana_are_not_plausible() -> None:
    text = "これはにほんごのぶんです。ふねはまいあさうみからもどってきます。みなさんはそこでまっていました。"
    text += "まちのうえにはふるいしろがあり、こどもたちはなつになるとそこであそびます。ゆうがたにはかねがなります。"
    assert read(text).plausible > 0.8
    assert read("".join(chr(ord(char) + 7) if "ぁ" <= char < "ゎ" else char for char in text)).plausible < 0.65
