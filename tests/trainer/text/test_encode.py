from __future__ import annotations

import copy
import json
import pickle
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.trainer import tokenizers_of_all_kinds as kinds
from trainer.batch import IGNORE_INDEX, Encoded, Unusable
from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.text.chat_templates import TEMPLATES
from trainer.text.encode import ConversationEncoder, load_tokenizer, token_id
from varyforge.errors import UserError
from varyforge.escape import escape
from varyforge.sample import Image, Sample, Turn

IMAGE_TOKENS = 4
IMAGE = "<img>" + "<imgpad>" * IMAGE_TOKENS + "</img>"


def images_of(tokens: int) -> ImageLayout:
    return ImageLayout(preprocess={"vary": ImagePreprocess(size=8)}, view=ViewTokens(tokens))


PICTURE = Image(data=b"x", format="jpg", width=1, height=1)


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


def encoder(template: str, max_length: int = 4096, too_long: str = "cut") -> ConversationEncoder:
    return ConversationEncoder(
        TOKENIZER,
        template=template,
        layout=images_of(IMAGE_TOKENS),
        max_length=max_length,
        too_long=too_long,  # type: ignore[arg-type]
    )


@cache
def real(kind: str, template: str) -> ConversationEncoder:
    tokenizer = kinds.with_tokens(kinds.EXACT[kind](), template)
    return ConversationEncoder(tokenizer, template=template, layout=images_of(IMAGE_TOKENS), max_length=10**6)


def sample(*texts: str, images: int = 0, system: str | None = None) -> Sample:
    turns = [Turn(role="system", text=system)] if system is not None else []
    turns += [Turn(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    return Sample(key="k", task="vqa", turns=tuple(turns), images=(PICTURE,) * images, source="t")


def written(encoder: ConversationEncoder, talk: Sample) -> str:
    return str(encoder.tokenizer.decode(encoder.encode(talk).input_ids.tolist()))


def said(encoded: Encoded) -> list[int]:
    return [label for label in encoded.labels.tolist() if label != IGNORE_INDEX]


def answers_of(encoder: ConversationEncoder, encoded: Encoded) -> list[list[int]]:
    """Runs of supervised ids, each up to its end token."""
    runs: list[list[int]] = [[]]
    for label in encoded.labels.tolist():
        if label == IGNORE_INDEX or runs[-1][-1:] == [encoder.end_id]:
            runs.append([])
        if label != IGNORE_INDEX:
            runs[-1].append(label)
    return [run for run in runs if run]


def test_the_forms_of_the_table() -> None:
    talk = sample("<image>Read it.", "text", "More?", "no", images=1)
    vary = "You should follow the instructions carefully and explain your answers in detail."
    polite = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    able = (
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language."
    )
    bare = "<imgpad>" * IMAGE_TOKENS
    head, foot = "<|start_header_id|>", "<|end_header_id|>\n\n"
    expected = {
        "vicuna_v1": f"</s>USER: {IMAGE} Read it. ASSISTANT: text</s>USER: More? ASSISTANT: no</s>",
        "chatml_vary": f"<|im_start|>system\n{vary}<|im_end|><|im_start|>user\n{IMAGE}Read it.<|im_end|>"
        "<|im_start|>assistant\ntext<|im_end|><|im_start|>user\nMore?<|im_end|><|im_start|>assistant\nno<|im_end|>",
        "vary_toy": f"<|im_start|>system\n{vary}<|im_end|><|im_start|>user\n{IMAGE}\nRead it.<|im_end|>"
        "<|im_start|>assistant\ntext<|im_end|><|im_start|>user\nMore?<|im_end|><|im_start|>assistant\nno<|im_end|>",
        "vary_tiny": f"</s>{IMAGE}text\n</s>no\n</s>",
        "chatml": f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}Read it."
        "<|im_end|>\n<|im_start|>assistant\ntext<|im_end|>\n<|im_start|>user\nMore?<|im_end|>\n<|im_start|>assistant\n"
        "no<|im_end|>",
        "llava_v1": f"</s>{polite} USER: {bare}\nRead it. ASSISTANT: text</s>USER: More? ASSISTANT: no</s>",
        "llama2": f"</s> [INST] {IMAGE}Read it. [/INST] text </s></s> [INST] More? [/INST] no </s>",
        "llama3": f"<|begin_of_text|>{head}user{foot}{IMAGE}Read it.<|eot_id|>{head}assistant{foot}text<|eot_id|>"
        f"{head}user{foot}More?<|eot_id|>{head}assistant{foot}no<|eot_id|>",
        "mistral": f"</s> [INST] {IMAGE}Read it. [/INST] text</s> [INST] More? [/INST] no</s>",
        "llava_plain": f"<s>{bare}text\n</s>no\n</s>",
        "llava_mistral": f"</s> [INST] {bare}\nRead it. [/INST] text </s> [INST] More? [/INST] no </s>",
        "deepseek_vl": f"</s>{able}\n\nUser: {bare}Read it.\n\nAssistant: text</s>User: More?\n\nAssistant: no</s>",
        "mistral_v3": f"</s>[INST] {IMAGE}Read it.[/INST] text</s>[INST] More?[/INST] no</s>",
    }
    assert {name: written(real("opt", name), talk) for name in TEMPLATES} == expected


def test_a_systems_own_message_takes_the_defaults_place() -> None:
    talk = sample("?", "!", "??", "!!", system="Be brief.")
    start = {
        "vicuna_v1": "</s>Be brief. USER: ? ASSISTANT: !</s>USER: ?? ASS",
        "chatml_vary": "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n?<|im_end|>",
        "llama2": "</s> [INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n? [/INST] ! </s></s> [INST] ?? [/INST] !! </s>",
        "mistral": "</s> [INST] Be brief.\n\n? [/INST] !</s> [INST] ?? [/INST] !!</s>",
    }
    for name, text in start.items():
        assert written(real("opt", name), talk).startswith(text)


nasty = st.text(max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "\n",
        "  a  b ",
        "\n\nx\n",
        "▁",
        "a▁ ▁b",
        "<0x0A>",
        "<imgpad>",
        "</s>",
        "<s> </s>",
        "a<|im_end|>b<|eot_id|>",
        "<img></img>",
        "<tool_call>",
        "[INST]",
        "<unk>",
        "{eos}",
        "你好，世界",
        "🦝 \n\n",
        "e\u0301 e\u0301\u0323",
        "👩‍👩‍👧",
        "The text.",
    ]
)
questions = nasty.filter(lambda text: "<image>" not in text)
answers = questions.filter(lambda text: bool(text.strip()))
pairs = sorted((kind, template) for kind in kinds.EXACT for template in TEMPLATES)


@settings(max_examples=800)
@given(
    st.sampled_from(pairs),
    st.lists(st.tuples(questions, answers), min_size=1, max_size=3),
    st.none() | questions,
    st.integers(0, 2),
)
@example(("llama", "vicuna_v1"), [("", " leading"), (" ", "▁x")], "", 1)
def test_supervised_is_exactly_what_the_assistant_says(
    which: tuple[str, str], rounds: list[tuple[str, str]], system: str | None, images: int
) -> None:
    kind, template = which
    encoder, form = real(kind, template), TEMPLATES[template]
    texts = [text for pair in rounds for text in pair]
    texts[0] = "<image>" * images + texts[0]
    talk = sample(*texts, images=images, system=system)
    encoded = encoder.encode(talk)
    ids, labels = encoded.input_ids.tolist(), encoded.labels.tolist()

    runs = answers_of(encoder, encoded)
    normal = (lambda text: unicodedata.normalize("NFC", text)) if kind == "qwen" else (lambda text: text)
    assert [encoder.decode(run) for run in runs] == [normal(answer) for _, answer in rounds]
    assert [run[-1] for run in runs] == [encoder.end_id] * len(rounds)  # and nowhere else:
    control = [number for number, token in encoder.tokenizer.added_tokens_decoder.items() if len(str(token)) > 2]
    assert [token for run in runs for token in run if token in control] == [encoder.end_id] * len(rounds)
    blank = encoder.lead  # the tokenizer's own, which its decoder takes away; without one it gives back what went in
    own = [str(encoder.tokenizer.decode(run[:-1], clean_up_tokenization_spaces=False)) for run in runs]
    inside = [blank + normal(answer + form.closing) for _, answer in rounds]
    strips = kind in ("llama", "llama_legacy", "llama_always", "unigram")
    assert own == [text.removeprefix(" ") if strips else text for text in inside]

    assert ids.count(encoder.image_id) == IMAGE_TOKENS * images == len(talk.images) * IMAGE_TOKENS
    assert labels[0] == IGNORE_INDEX
    assert all(label in (IGNORE_INDEX, token) for token, label in zip(ids, labels, strict=True))
    assert not encoded.truncated


@settings(max_examples=100)
@given(st.sampled_from(pairs), st.lists(st.tuples(questions, answers), min_size=1, max_size=3))
def test_the_prompt_is_what_training_saw_before_the_answer(
    which: tuple[str, str], rounds: list[tuple[str, str]]
) -> None:
    encoder, talk = real(*which), sample(*(text for pair in rounds for text in pair))
    encoded, prompt = encoder.encode(talk), encoder.prompt(talk)
    ids = encoded.input_ids.tolist()
    assert ids[: len(prompt)] == prompt
    assert ids[len(prompt) :] == answers_of(encoder, encoded)[-1]


def test_spans_read_as_the_whole_text_does() -> None:
    """An answer begins with the same ids as in the conversation tokenised as one text, as the models' makers did."""
    talk = sample("What is this?", "The text of the page.")
    for kind in ("llama", "llama_legacy", "llama_always"):
        encoder = real(kind, "vicuna_v1")
        whole = encoder.tokenizer("USER: What is this? ASSISTANT: The text of the page.", add_special_tokens=False)
        assert encoder.encode(talk).input_ids.tolist()[1:-1] == whole.input_ids, kind
    encoder = real("qwen", "chatml")
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    whole = encoder.tokenizer(
        f"{system}<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\nThe text of the page.<|im_end|>"
    )
    assert encoder.encode(talk).input_ids.tolist() == whole.input_ids


def test_the_released_tiny_model_is_given_its_row() -> None:
    """`</s>`, the image, the text, a newline, `</s>`: ids as the release has them, position 259 of 256 image tokens."""
    tokenizer = kinds.with_tokens(kinds.opt(), "vary_tiny")
    encoder = ConversationEncoder(tokenizer, template="vary_tiny", layout=images_of(256), max_length=4096)
    encoded = encoder.encode(sample("<image>Provide the OCR results of this image.", "The text.", images=1))
    ids = encoded.input_ids.tolist()
    assert (ids[0], ids[258], ids[-1]) == (tokenizer.bos_token_id, token_id(tokenizer, "</img>"), encoder.end_id)
    assert tokenizer.decode(ids[259:-1]) == "The text.\n"
    assert said(encoded) == ids[259:]
    assert encoder.decode(ids[259:]) == "The text."
    assert encoder.decode(ids[259:-1]) == "The text.\n"  # not finished: what the model wrote, as it wrote it


IN_THE_DATA = ("<image>\nWhat?", "<image>What?", "What?\n<image>", "In <image> what?", "<image>\n\nWhat?")


@pytest.mark.parametrize(
    ("text", "row"),
    zip(IN_THE_DATA, ("{}\nWhat?", "{}\nWhat?", "What?\n{}", "In {} what?", "{}\n\nWhat?"), strict=True),
)
def test_vary_toy_has_the_newline_of_the_release(text: str, row: str) -> None:
    """The release replaces `<image>` where it stands, and its data have a newline behind an image at the start."""
    encoder = real("qwen", "vary_toy")
    system = "You should follow the instructions carefully and explain your answers in detail."
    whole = encoder.tokenizer(
        f"<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{row.format(IMAGE)}<|im_end|>"
        "<|im_start|>assistant\nA page.<|im_end|>"
    )
    assert encoder.encode(sample(text, "A page.", images=1)).input_ids.tolist() == whole.input_ids


@pytest.mark.parametrize("text", IN_THE_DATA)
def test_llava_has_its_own_ids_wherever_the_image_stands(text: str) -> None:
    """LLaVA moves the image to the front (preprocess_multimodal) and tokenises the texts around it one by one."""
    question = "<image>\n" + text.replace("<image>", "").strip()
    for kind, name in (("llama_legacy", "llava_v1"), ("llama_legacy", "llava_mistral")):
        encoder = real(kind, name)
        form = TEMPLATES[name]
        system = form.system[0] + form.default_system + form.system[1] if form.default_system else ""
        prompt = (system + form.user[0] + question + form.user[1]).strip(" ")  # the tokenizer adds the first blank
        before, behind = (
            encoder.tokenizer(part, add_special_tokens=False).input_ids for part in prompt.split("<image>")
        )
        image = [encoder.image_id] * IMAGE_TOKENS
        ids = encoder.prompt(sample(text, "A page.", images=1))
        assert ids == [encoder.tokenizer.bos_token_id, *before, *image, *behind], name


def test_several_images_stay_where_they_are() -> None:
    talk = sample("<image><image>Which?", "A.", "Or <image>\nthis?", "B.", images=3)
    bare = "<imgpad>" * IMAGE_TOKENS
    assert written(real("opt", "vary_toy"), talk).count(f"{IMAGE}{IMAGE}\nWhich?") == 1
    assert f"{bare}{bare}\nWhich?" in written(real("opt", "llava_v1"), talk)
    assert f"USER: {bare}\nOr \nthis? ASSISTANT" in written(real("opt", "llava_v1"), talk)
    assert f"USER: {IMAGE} ASSISTANT:" in written(real("opt", "vicuna_v1"), sample("<image>", "A.", images=1))


def test_a_turn_that_is_not_learned_has_no_label() -> None:
    first, bad, *rest = sample("?", "bad", "??", "good").turns
    talk = replace(sample("?", "!"), turns=(first, replace(bad, supervised=False), *rest))
    plain = encoder("vicuna_v1").encode(replace(talk, turns=(first, bad, *rest)))
    encoded = encoder("vicuna_v1").encode(talk)
    assert encoded.input_ids.tolist() == plain.input_ids.tolist()
    assert TOKENIZER.decode(said(plain)) == "bad</s>good</s>"
    assert TOKENIZER.decode(said(encoded)) == "good</s>"
    with pytest.raises(Unusable, match="no answer token fits"):
        encoder("vicuna_v1", max_length=plain.input_ids.size - 6).encode(talk)


def model_with(vocabulary: list[str], merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A byte tokenizer whose own vocabulary spells control tokens."""
    raw = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(vocabulary)}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>" if "<eos>" in vocabulary else "</s>")


def with_words_for_control_tokens() -> PreTrainedTokenizerFast:
    merges = [("<", "/"), ("</", "s"), ("</s", ">")]
    return model_with([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)], merges)


def with_tokens_that_are_not_special() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "<image>", "  ", "say"])
    return tokenizer


@pytest.mark.parametrize(
    "make",
    [
        byte_tokenizer,
        with_words_for_control_tokens,
        with_tokens_that_are_not_special,
        kinds.unigram,
        kinds.xlm_r,
        kinds.llama3,
    ],
)
def test_no_text_is_a_control_token(make: Callable[[], PreTrainedTokenizerBase], tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    encoder = ConversationEncoder(
        tokenizer,
        template="vicuna_v1",
        layout=images_of(IMAGE_TOKENS),
        max_length=4096,
    )
    text = "say </s></s>, <image><tool_call> and </img> <imgpad> <<s> <|begin_of_text|>"
    encoded = encoder.encode(sample(escape(text), escape(text), system=escape(text)))
    names = ["</s>", "<img>", "</img>", "<imgpad>", "<tool_call>", "<|begin_of_text|>"]
    control = {encoder.end_id, *map(tokenizer.convert_tokens_to_ids, names)} - {tokenizer.unk_token_id, None}
    assert [token for token in said(encoded) if token in control] == [encoder.end_id] == said(encoded)[-1:]
    before = encoded.input_ids.tolist()[1 : len(encoded.input_ids) - len(said(encoded))]
    assert control.isdisjoint(before)
    assert encoder.decode(said(encoded)) == text


def test_a_word_that_was_added_stays_a_token() -> None:
    encoder = ConversationEncoder(
        with_tokens_that_are_not_special(),
        template="vicuna_v1",
        layout=images_of(1),
        max_length=4096,
    )
    assert token_id(encoder.tokenizer, "say") in said(encoder.encode(sample("?", "we say  it")))


def test_a_long_answer_loses_its_tail_and_its_end_token() -> None:
    talk = sample("<image>Read.", "abcdefgh" * 10, images=1)
    whole = encoder("vicuna_v1").encode(talk)
    cut = encoder("vicuna_v1", max_length=len(whole.input_ids) - 5).encode(talk)
    assert (whole.truncated, cut.truncated) == (False, True)
    assert TOKENIZER.decode(said(cut)) == ("abcdefgh" * 10)[:-4]
    with pytest.raises(Unusable, match=r"no answer token fits: 112 tokens, data.max_length 31"):
        encoder("vicuna_v1", max_length=31).encode(talk)
    with pytest.raises(Unusable, match="an image does not fit"):
        encoder("vicuna_v1", max_length=9).encode(talk)
    with pytest.raises(Unusable, match=r"too long: 112 tokens, data.max_length 111"):
        encoder("vicuna_v1", max_length=111, too_long="drop").encode(talk)
    with pytest.raises(
        UserError, match=r"data.max_length 111: sample 'k' has 112 tokens; raise it, or set data.too_long"
    ):
        encoder("vicuna_v1", max_length=111, too_long="error").encode(talk)
    for policy in ("drop", "error"):
        assert not encoder("vicuna_v1", max_length=112, too_long=policy).encode(talk).truncated


@given(st.integers(1, 200), st.lists(st.tuples(st.integers(0, 2), answers), min_size=1, max_size=3))
def test_a_cut_leaves_images_whole_and_something_to_learn(limit: int, rounds: list[tuple[int, str]]) -> None:
    talk = sample(
        *(text for images, answer in rounds for text in ("<image>" * images + "?", answer)),
        images=sum(images for images, _ in rounds),
    )
    whole = encoder("chatml").encode(talk)
    try:
        cut = encoder("chatml", max_length=limit).encode(talk)
    except Unusable:
        return
    length = len(cut.input_ids)
    assert length <= limit and cut.truncated == (len(whole.input_ids) > limit)
    assert np.array_equal(cut.input_ids, whole.input_ids[:length]) and np.array_equal(cut.labels, whole.labels[:length])
    assert (cut.input_ids == encoder("chatml").image_id).sum() == IMAGE_TOKENS * len(talk.images)
    assert (cut.labels != IGNORE_INDEX).sum() == (whole.labels[:limit] != IGNORE_INDEX).sum() > 0


def test_an_image_that_lacks_one_place_does_not_fit() -> None:
    talk = sample("One?", "1", "<image>", "2", images=1)
    ids = encoder("chatml").encode(talk).input_ids.tolist()
    end = ids.index(token_id(TOKENIZER, "</img>")) + 1
    cut = encoder("chatml", max_length=end).encode(talk)
    assert len(cut.input_ids) == end and TOKENIZER.decode(said(cut)) == "1<|im_end|>"
    with pytest.raises(Unusable, match="an image does not fit"):
        encoder("chatml", max_length=end - 1).encode(talk)


def test_a_question_whose_answer_is_cut_goes_too() -> None:
    talk = sample("One?", "1", "Two?", "2")
    text = "</s>USER: One? ASSISTANT: 1</s>"
    assert written(encoder("vicuna_v1", max_length=len(text) - 6 + 5), talk) == text
    cut = encoder("vicuna_v1", max_length=len(text)).encode(talk)
    assert cut.truncated and TOKENIZER.decode(said(cut)) == "1</s>"


def test_tokenizers_that_change_every_text_are_refused() -> None:
    for make, change in (
        (kinds.t5, "letters and digits .*come"),
        (kinds.bert, "letters and digits .*the quick brown fox"),
    ):
        tokenizer = kinds.with_tokens(make(), "vicuna_v1")
        with pytest.raises(
            UserError, match=rf"tokenizer: '.*' does not give text back as it was: {change}.* byte-level BPE"
        ):
            ConversationEncoder(tokenizer, template="vicuna_v1", layout=images_of(1), max_length=9)


def test_answers_that_a_tokenizer_cannot_write_are_not_trained_on() -> None:
    tokenizer = kinds.with_tokens(kinds.xlm_r(), "vicuna_v1")
    encoder = ConversationEncoder(tokenizer, template="vicuna_v1", layout=images_of(1), max_length=4096)
    assert any("emoji (the tokenizer does not know '🦝'" in line for line in encoder.warnings)
    assert real("llama", "vicuna_v1").warnings == real("qwen", "chatml").warnings == []
    for text, why in (
        ("你好，世界", "does not know '世', '界'"),
        ("▁", "writes a blank as '▁'"),
        ("＜/s＞", "normaliser makes"),
    ):
        with pytest.raises(Unusable, match=why):
            encoder.encode(sample("?", f"say {text}"))
    assert encoder.decode(said(encoder.encode(sample("世界?", "你好")))) == "你好"


def test_a_file_that_asks_for_cutting_or_padding_is_not_followed() -> None:
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    here = ConversationEncoder(tokenizer, template="vicuna_v1", layout=images_of(1), max_length=4096)
    assert here.decode(said(here.encode(sample("?", "a long answer")))) == "a long answer"
    tokenizer("</s>")  # others may use the tokenizer as they please
    assert said(here.encode(sample("?", "</s>"))).count(here.end_id) == 1


@pytest.mark.parametrize("kind", ["llama_legacy", "qwen"])
def test_an_encoder_travels_to_workers(kind: str) -> None:
    talk, here = sample("a </s> b", " say </s>\n", system="x"), real(kind, "chatml")
    there = pickle.loads(pickle.dumps(here))
    assert there.encode(talk).input_ids.tolist() == here.encode(talk).input_ids.tolist()


def test_a_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    kinds.opt().save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["merges"].append(["not there", "at all"])
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"a broken tokenizer: .*not there.* Copy its folder again") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"template: unknown 'alpaca'; one of vicuna_v1"):
        encoder("alpaca")
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(UserError, match=r"no token '<\|im_start\|>', '<\|im_end\|>', '<img>', .* it fits no template"):
        ConversationEncoder(bare, template="chatml_vary", layout=images_of(1), max_length=9)
    with pytest.raises(UserError, match=r"no token eos_token, '<img>'"):
        ConversationEncoder(bare, template="vicuna_v1", layout=images_of(1), max_length=9)
    with pytest.raises(
        UserError, match=r"no token '<\|begin_of_text\|>'.*'llama3' needs; it fits vicuna_v1, chatml_vary"
    ):
        encoder("llama3")
    html = model_with([*sorted(pre_tokenizers.ByteLevel.alphabet()), "</s>", "<eos>"], [])  # where </s> is a word
    with pytest.raises(UserError, match=r"no token '</s>', '<img>'"):
        ConversationEncoder(html, template="vary_tiny", layout=images_of(1), max_length=9)
    marked = kinds.with_tokens(kinds.llama(), "mistral_v3")
    with pytest.raises(UserError, match=r"'mistral' writes '\[INST\]' as text, .* control token.* fits .*mistral_v3"):
        ConversationEncoder(marked, template="mistral", layout=images_of(1), max_length=9)
    with pytest.raises(UserError, match=r"model\.language\.tokenizer.*holds no tokenizer"):
        load_tokenizer(str(tmp_path))
