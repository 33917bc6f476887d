"""The formats of conversations, as data: one row per family of models.

In the strings, `{bos}` and `{eos}` stand for the tokenizer's BOS and EOS; without a BOS, `{bos}` is nothing. Each
string in `tokens` is one token, everything else is text. Many tokenizers make a blank at the end of a string part of
the word behind it; `trainer.text.roundtrip` ensures that decoding returns the text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BOS, EOS = "{bos}", "{eos}"
IMAGE_START, IMAGE_PAD, IMAGE_END = "<img>", "<imgpad>", "</img>"
"""An image is IMAGE_START, one IMAGE_PAD per image token, IMAGE_END (Vary-toy, arXiv 2401.12503)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A format: `begin`, the system message, then rounds of question and answer, separated by `between`.

    The answer's text, `closing` and `end` are supervised. The tokenizer must have all of `tokens` and `end`.
    """

    tokens: tuple[str, ...] = ()
    begin: str = BOS
    system: tuple[str, str] = ("", "")  # before and after the system message
    default_system: str | None = None  # for samples without one; None: leave the whole part out
    user: tuple[str, str] = ("", "")  # before and after the question; the second includes the assistant's opening
    user_after_system: str | None = None  # replaces user[0] behind a system message; None: the same
    image: tuple[str, str] = (IMAGE_START, IMAGE_END)  # before and after the image's tokens; "": none
    after_image: str = ""  # between images that begin a question and its text (trainer.text.question)
    image_first: bool = False  # the only image of a question stands before its text
    closing: str = ""  # text between an answer and its end token; the model learns to write it
    end: str = EOS
    between: str = ""  # between an end token and the next question
    questions: bool = True  # False: only the images of a question are encoded


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLAVA_IMAGE = ("", "")  # LLaVA has no tokens around an image
_VARY_TOY = Template(
    tokens=("<|im_start|>", "<|im_end|>"),
    begin="",
    system=("<|im_start|>system\n", "<|im_end|>"),
    default_system="You should follow the instructions carefully and explain your answers in detail.",
    user=("<|im_start|>user\n", "<|im_end|><|im_start|>assistant\n"),
    end="<|im_end|>",
)
_MISTRAL = Template(system=(" [INST] ", "\n\n"), user=(" [INST] ", " [/INST] "), user_after_system="")

TEMPLATES: dict[str, Template] = {
    # Vary-tiny+, Vicuna v1 form (arXiv 2401.12503, section 3.1.2; the paper prints ASSITANT).
    "vicuna_v1": Template(system=("", " "), user=("USER: ", " ASSISTANT: "), after_image=" "),
    # Vary-toy (arXiv 2401.12503, section 3.2.3): ChatML without a newline behind <|im_end|>, and the release's system
    # message (vary/utils/conversation.py, conv_mpt).
    "chatml_vary": _VARY_TOY,
    # For the released Vary-toy's weights: its data and demo have a newline behind the image (run_qwen_vary.py).
    "vary_toy": replace(_VARY_TOY, after_image="\n"),
    # For the released Vary-tiny's weights: image, answer, newline, end, without the question. (The release also removed
    # blanks at the start of an answer and put an end token behind a cut answer; this template does neither.)
    "vary_tiny": Template(tokens=("</s>",), begin="</s>", closing="\n", end="</s>", questions=False),
    # ChatML as Qwen2 writes it (tokenizer_config.json, chat_template): a newline behind every <|im_end|>.
    "chatml": Template(
        tokens=("<|im_start|>", "<|im_end|>"),
        begin="",
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        default_system="You are a helpful assistant.",
        user=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        end="<|im_end|>",
        between="\n",
    ),
    # LLaVA-1.5 (llava/conversation.py, conv_vicuna_v1): no tokens around the image.
    "llava_v1": Template(
        system=("", " "),
        default_system=_VICUNA_SYSTEM,
        user=("USER: ", " ASSISTANT: "),
        image=_LLAVA_IMAGE,
        after_image="\n",
        image_first=True,
    ),
    # LLaVA-1.5 and 1.6 while only the connector trains (llava/train/train.py, preprocess_plain): image, caption and a
    # newline. The release ends there; here the end token follows.
    "llava_plain": Template(tokens=("<s>",), begin="<s>", image=_LLAVA_IMAGE, closing="\n", questions=False),
    # Llama 2 (llama/generation.py): the system message is part of the first question, a blank stands before </s>. The
    # blank behind <s> is the one that its tokenizer begins every text with.
    "llama2": Template(
        system=(" [INST] <<SYS>>\n", "\n<</SYS>>\n\n"),
        user=(" [INST] ", " [/INST] "),
        user_after_system="",
        closing=" ",
        between=BOS,
    ),
    # Llama 3 (llama3/llama/tokenizer.py, ChatFormat).
    "llama3": Template(
        tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        begin="<|begin_of_text|>",
        system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
        user=(
            "<|start_header_id|>user<|end_header_id|>\n\n",
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        end="<|eot_id|>",
    ),
    # Mistral 7B Instruct v0.1 and v0.2 (mistral-common, InstructTokenizerV1). They have no system message, so it stands
    # before the first question.
    "mistral": _MISTRAL,
    # LLaVA-1.6 on Mistral (llava/conversation.py, conv_mistral_instruct): a newline behind the image, a blank before
    # </s>.
    "llava_mistral": replace(_MISTRAL, image=_LLAVA_IMAGE, after_image="\n", image_first=True, closing=" "),
    # Mistral v0.3 (mistral-common, InstructTokenizerV3): the marks are control tokens, the blank is the tokenizer's.
    "mistral_v3": Template(
        tokens=("[INST]", "[/INST]"),
        system=("[INST] ", "\n\n"),
        user=("[INST] ", "[/INST] "),
        user_after_system="",
    ),
    # DeepSeek-VL (deepseek_vl/utils/conversation.py, "deepseek"; arXiv 2403.05525): no tokens around the image.
    "deepseek_vl": Template(
        system=("", "\n\n"),
        default_system="You are a helpful language and vision assistant. You are able to understand the visual content "
        "that the user provides, and assist the user with a variety of tasks using natural language.",
        user=("User: ", "\n\nAssistant: "),
        image=_LLAVA_IMAGE,
    ),
}
