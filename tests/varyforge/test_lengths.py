from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from datagen.examples.texts import text_bank
from varyforge.lengths import IMAGE_TOKENS, LIMIT, estimate_tokens, length_histogram

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("text", "tokens"),  # counted with Qwen's own vocabulary
    [
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("中文文本，测试页面。", 6),
        ("x = a + b_1 \\frac{1}{2} $\\alpha$ | --- | --- | <td>12.5</td>", 32),
        ("これは日本語の文章です。トークンの数を数えます。", 17),
        ("HELLO WORLD THIS IS UPPER CASE", 7),
    ],
)
def test_known_counts(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == pytest.approx(tokens, rel=0.25)


def test_exact_rules() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("word") == 1
    assert estimate_tokens("12345") == 5  # Qwen splits numbers into digits
    assert estimate_tokens("a 1 2") == estimate_tokens("a12") + 2  # a space does not go with a digit


def flattened(texts: object) -> list[str]:
    if isinstance(texts, dict):
        return flattened(list(texts.values()))
    return [text for entry in texts for text in flattened(entry)] if isinstance(texts, list) else [str(texts)]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_tokenizer_that_knows_the_texts_needs_fewer(language: str) -> None:
    """Of the right order: below one token per word or letter, above what a vocabulary made of the texts needs."""
    texts = flattened(text_bank()[language])
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=8_000, initial_alphabet=alphabet, show_progress=False)
    )
    text = "\n".join(texts)
    least, letters = len(made.encode(text).ids), sum(not char.isspace() for char in text)
    assert 0.8 * least < estimate_tokens(text) < (0.8 * letters if language == "zh" else 0.35 * letters)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_an_estimate(text: str) -> None:
    assert 0 <= estimate_tokens(text) <= 4 * len(text)
    assert estimate_tokens(text + "\n" + text) >= estimate_tokens(text)


def test_lone_surrogates_count_too() -> None:
    assert estimate_tokens("\ud800 and more") > 1


def test_histogram() -> None:
    lengths = length_histogram([0, 255, 256, 3838, 3839, 9000], [1] * 6)
    assert [(row.low, row.high, row.texts) for row in lengths.rows if row.texts] == [
        (0, 256, 2),
        (256, 512, 1),
        (2048, 4096, 2),
        (8192, None, 1),
    ]
    assert [row.share for row in lengths.rows if row.texts] == pytest.approx([2 / 6, 1 / 6, 2 / 6, 1 / 6])
    assert lengths.beyond == pytest.approx(2 / 6)  # 3838 + 258 fits, 3839 + 258 does not
    assert length_histogram([4096, 4096], [0, 1]).beyond == 0.5
    assert length_histogram([LIMIT - IMAGE_TOKENS], [1]).beyond == 0


def test_histogram_of_nothing() -> None:
    assert length_histogram([], []).beyond == 0
    assert sum(row.texts for row in length_histogram([], []).rows) == 0
