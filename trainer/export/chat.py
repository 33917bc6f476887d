"""A row of `trainer.text.chat_templates` as the Jinja chat template that `transformers` reads."""

from __future__ import annotations

import json

from trainer.text.chat_templates import BOS, EOS, IMAGE_PAD
from trainer.text.encode import ConversationEncoder

_MACROS = (
    # `mark` and `edge` are empty unless the processor of a folder with code sets them; see VaryforgeProcessor.
    "{%- set mark = mark | default('') -%}{%- set edge = edge | default('') -%}"
    "{%- macro words(content) -%}{%- if content is string -%}{{- mark + content + mark -}}{%- else -%}"
    "{%- for part in content if part.type == 'text' -%}{{- mark + part.text + mark -}}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}"
)


def chat_template(encoder: ConversationEncoder, *, begin: bool = True) -> str:
    """Jinja that writes a conversation as `encoder.prompt` does, an image as one IMAGE_PAD between its marks.

    `begin` False leaves out what stands at the beginning of all, for tokenizers that put it there by themselves.

    Behind a question stands the opening of an answer, `add_generation_prompt` or not: it is a part of the question's
    form. A blank at the end of what stands before an answer is left to the answer where the tokenizer has it there.
    """
    form, lead = encoder.template, encoder.lead

    def literal(text: str) -> str:
        tokenizer = encoder.tokenizer
        return json.dumps(text.replace(BOS, tokenizer.bos_token or "").replace(EOS, tokenizer.eos_token or ""))

    opening = literal(form.begin if begin else "")
    image = literal(form.image[0] + IMAGE_PAD + form.image[1] + form.after_image)
    behind_system = form.user[0] if form.user_after_system is None else form.user_after_system
    system, default = [literal(part) for part in form.system], form.default_system
    say_default = (
        ""
        if default is None
        else f"{{%- else -%}}{{{{- {system[0]} + mark + {literal(default)} + mark + {system[1]} -}}}}"
        f"{{%- set state.opening = {literal(behind_system)} -%}}"
    )
    question = (
        "{%- if message.content is string -%}{{- words(message.content) -}}{%- else -%}"
        f"{{%- for part in message.content -%}}{{%- if part.type == 'image' -%}}{{{{- {image} -}}}}"
        "{%- elif part.type == 'text' -%}{{- mark + part.text + mark -}}{%- endif -%}{%- endfor -%}{%- endif -%}"
        if form.questions
        else "{%- if message.content is not string -%}{%- for part in message.content if part.type == 'image' -%}"
        f"{{{{- {image} -}}}}{{%- endfor -%}}{{%- endif -%}}"
    )
    return (
        f"{_MACROS}{{%- set state = namespace(opening={literal(form.user[0])}) -%}}{{{{- {opening} -}}}}"
        "{%- if messages and messages[0].role == 'system' -%}"
        f"{{{{- {system[0]} + words(messages[0].content) + {system[1]} -}}}}"
        f"{{%- set state.opening = {literal(behind_system)} -%}}{say_default}{{%- endif -%}}"
        "{%- for message in messages -%}{%- if message.role == 'user' -%}{{- state.opening -}}"
        f"{question}{{{{- {literal(form.user[1].removesuffix(lead))} + edge -}}}}"
        f"{{%- set state.opening = {literal(form.between + form.user[0])} -%}}"
        "{%- elif message.role == 'assistant' -%}"
        f"{{{{- {literal(lead)} + words(message.content) + {literal(form.closing)} + {literal(form.end)} -}}}}"
        "{%- endif -%}{%- endfor -%}"
    )


def control_tokens(encoder: ConversationEncoder) -> list[str]:
    """What the chat template writes that is one token each."""
    form, tokenizer = encoder.template, encoder.tokenizer
    found = [*form.tokens, form.end, *form.image, IMAGE_PAD, tokenizer.bos_token or "", tokenizer.eos_token or ""]
    return sorted({token for token in found if token and token != EOS})
