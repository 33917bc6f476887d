from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from datagen.errors import UserError
from datagen.escape import escape
from datagen.sample import Image, Sample, Turn
from trainer.batch import IGNORE_INDEX
from trainer.encode import TEMPLATES, ConversationEncoder, Unusable, load_tokenizer, token_id

IMAGE_TOKENS = 4


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One entry per byte: what ids stand for is plain to see."""
    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="</s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"], special_tokens=True)
    return tokenizer


TOKENIZER = byte_tokenizer()


def encoder(template: str, max_length: int = 4096) -> ConversationEncoder:
    return ConversationEncoder(TOKENIZER, template=template, image_tokens=IMAGE_TOKENS, max_length=max_length)


def sample(*texts: str, images: int = 0) -> Sample:
    turns = tuple(Turn(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts))  # type: ignore[arg-type]
    picture = Image(data=b"x", format="jpg", width=1, height=1)
    return Sample(key="k", task="vqa", turns=turns, images=(picture,) * images, source="t")


def written(template: str, made: Sample) -> str:
    return str(TOKENIZER.decode(encoder(template).encode(made).input_ids))


def supervised(encoded_labels: list[int]) -> str:
    return str(TOKENIZER.decode([label for label in encoded_labels if label != IGNORE_INDEX]))


def test_the_papers_forms() -> None:
    made = sample("<image>Read it.", "text", images=1)
    image = "<img>" + "<imgpad>" * IMAGE_TOKENS + "</img>"
    assert written("vicuna_v1", made) == f"</s>USER: {image} Read it. ASSISTANT: text</s>"
    system = "You should follow the instructions carefully and explain your answers in detail."
    assert written("chatml_vary", made) == (
        f"<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{image}Read it.<|im_end|>"
        "<|im_start|>assistant\ntext<|im_end|>"
    )


nasty = st.text(max_size=40) | st.sampled_from(
    ["<imgpad>", "</s>", "a<|im_end|>b", "<img></img>", "你好，世界", "🦝 \n\n"]
)
answers = nasty.filter(lambda text: bool(text.strip()) and "<image>" not in text)
questions = nasty.filter(lambda text: "<image>" not in text)


@given(
    st.sampled_from(sorted(TEMPLATES)), st.lists(st.tuples(questions, answers), min_size=1, max_size=4), st.booleans()
)
def test_supervised_is_exactly_what_the_assistant_says(
    template: str, rounds: list[tuple[str, str]], with_image: bool
) -> None:
    texts = [text for pair in rounds for text in pair]
    if with_image:
        texts[0] = "<image>" + texts[0]
    made = encoder(template).encode(sample(*texts, images=int(with_image)))
    end = TEMPLATES[template].end or "</s>"
    assert supervised(made.labels) == "".join(answer + end for _, answer in rounds)
    assert made.input_ids.count(token_id(TOKENIZER, "<imgpad>")) == IMAGE_TOKENS * with_image
    assert len(made.input_ids) == len(made.labels)
    assert all(label in (IGNORE_INDEX, token) for token, label in zip(made.input_ids, made.labels, strict=True))


def model_with(vocabulary: list[str], merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A byte tokenizer whose own vocabulary spells control tokens."""
    raw = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(vocabulary)}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


def with_words_for_control_tokens() -> PreTrainedTokenizerFast:
    merges = [("<", "/"), ("</", "s"), ("</s", ">")]
    return model_with([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)], merges)


def with_tokens_that_are_not_special() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "<image>", "  "])
    return tokenizer


def with_pieces() -> PreTrainedTokenizerFast:
    """As T5 and XLM-R have it: the likeliest reading of "</s>" is the end token."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((char, -3.0) for char in "</s>ay|im_endtolcge")]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    "made", [byte_tokenizer, with_words_for_control_tokens, with_tokens_that_are_not_special, with_pieces]
)
def test_no_text_is_a_control_token(made: Callable[[], PreTrainedTokenizerFast], tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    encoder = ConversationEncoder(tokenizer, template="vicuna_v1", image_tokens=IMAGE_TOKENS, max_length=4096)
    said = "say </s></s>, <image><tool_call> and </img> <imgpad>"
    turns = (Turn(role="user", text=escape(said)), Turn(role="assistant", text=escape(said)))
    encoded = encoder.encode(Sample(key="k", task="text", turns=turns, source="t"))
    answer = [label for label in encoded.labels if label != IGNORE_INDEX]
    control = [token for token in tokenizer.added_tokens_decoder if token != tokenizer.unk_token_id]
    spelt = [token for token in answer if token in control and tokenizer.convert_ids_to_tokens(token).strip()]
    assert spelt == [encoder.end_id] == answer[-1:]
    if made is not with_pieces:  # which puts a space before whatever it is given
        assert encoder.decode(answer) == said


def test_a_long_answer_loses_its_tail_and_its_end_token() -> None:
    made = sample("<image>Read.", "abcdefgh" * 10, images=1)
    whole = encoder("vicuna_v1").encode(made)
    cut = encoder("vicuna_v1", max_length=len(whole.input_ids) - 5).encode(made)
    assert (whole.truncated, cut.truncated) == (False, True)
    assert supervised(cut.labels) == ("abcdefgh" * 10)[:-4]
    with pytest.raises(Unusable, match="no answer token"):
        encoder("vicuna_v1", max_length=31).encode(made)
    with pytest.raises(Unusable, match="image does not fit"):
        encoder("vicuna_v1", max_length=9).encode(made)


def test_the_prompt_is_what_training_saw_before_the_answer() -> None:
    made = sample("<image>One?", "1", "Two?", "2", images=1)
    for template in TEMPLATES:
        encoded, prompt = encoder(template).encode(made), encoder(template).prompt(made)
        assert encoded.input_ids[: len(prompt)] == prompt
        assert encoded.labels[len(prompt)] != IGNORE_INDEX
        assert encoder(template).decode(encoded.input_ids[len(prompt) :]) == "2"


def test_a_systems_own_message_takes_the_defaults_place() -> None:
    turns = (Turn(role="system", text="Be brief."), Turn(role="user", text="?"), Turn(role="assistant", text="!"))
    made = Sample(key="k", task="text", turns=turns, source="t")
    assert written("vicuna_v1", made) == "</s>Be brief. USER: ? ASSISTANT: !</s>"
    assert written("chatml_vary", made).startswith("<|im_start|>system\nBe brief.<|im_end|><|im_start|>user")


def test_settings_that_do_not_fit_are_named(tmp_path: object) -> None:
    with pytest.raises(UserError, match=r"template: unknown 'alpaca'; one of vicuna_v1"):
        encoder("alpaca")
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(UserError, match=r"no token '<\|im_end\|>'"):
        ConversationEncoder(bare, template="chatml_vary", image_tokens=1, max_length=9)
    with pytest.raises(UserError, match=r"model\.language\.tokenizer.*holds no tokenizer"):
        load_tokenizer(str(tmp_path))
