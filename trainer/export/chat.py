"""Chat templates of the trainer as the Jinja templates that transformers reads."""

from __future__ import annotations

import json

from trainer.text.chat_templates import BOS, EOS, IMAGE_PAD, Template
from trainer.text.encode import ConversationEncoder

_MACROS = (
    # `mark` and `edge` are empty unless VaryforgeProcessor, in a folder with code, sets them.
    "{%- set mark = mark | default('') -%}{%- set edge = edge | default('') -%}"
    "{%- macro words(content) -%}{%- if content is string -%}{{- mark + content + mark -}}{%- else -%}"
    "{%- for part in content if part.type == 'text' -%}{{- mark + part.text + mark -}}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}"
)


def chat_template(encoder: ConversationEncoder, *, begin: bool = True) -> str:
    """Return Jinja that writes a conversation as `encoder.prompt` does, and an image as one IMAGE_PAD in its marks.

    The opening of an answer follows each question with `add_generation_prompt` or without, because it is a part of the
    question's format. A blank at the end of this opening is written with the answer if the tokenizer has it there.

    `begin` says whether to write the text before the first turn. Some tokenizers add this text by themselves.
    """
    template, lead = encoder.template, encoder.lead

    def literal(text: str) -> str:
        tokenizer = encoder.tokenizer
        return json.dumps(text.replace(BOS, tokenizer.bos_token or "").replace(EOS, tokenizer.eos_token or ""))

    opening = literal(template.begin if begin else "")
    image = literal(template.image[0] + IMAGE_PAD + template.image[1])
    behind_system = template.user[0] if template.user_after_system is None else template.user_after_system
    system, default = [literal(part) for part in template.system], template.default_system
    say_default = (
        ""
        if default is None
        else f"{{%- else -%}}{{{{- {system[0]} + mark + {literal(default)} + mark + {system[1]} -}}}}"
        f"{{%- set state.opening = {literal(behind_system)} -%}}"
    )
    question = (
        _question(image, template)
        if template.questions
        else (
            "{%- if message.content is not string -%}{%- for part in message.content if part.type == 'image' -%}"
            f"{{{{- {image} -}}}}{{%- endfor -%}}{{%- endif -%}}"
        )
    )
    return (
        f"{_MACROS}{{%- set state = namespace(opening={literal(template.user[0])}) -%}}{{{{- {opening} -}}}}"
        "{%- if messages and messages[0].role == 'system' -%}"
        f"{{{{- {system[0]} + words(messages[0].content) + {system[1]} -}}}}"
        f"{{%- set state.opening = {literal(behind_system)} -%}}{say_default}{{%- endif -%}}"
        "{%- for message in messages -%}{%- if message.role == 'user' -%}{{- state.opening -}}"
        f"{question}{{{{- {literal(template.user[1].removesuffix(lead))} + edge -}}}}"
        f"{{%- set state.opening = {literal(template.between + template.user[0])} -%}}"
        "{%- elif message.role == 'assistant' -%}"
        f"{{{{- {literal(lead)} + words(message.content) + {literal(template.closing)} + {literal(template.end)} -}}}}"
        "{%- endif -%}{%- endfor -%}"
    )


def _question(image: str, template: Template) -> str:
    """Return the Jinja of a question, with its texts as in `trainer.text.question`. `image` is a Jinja literal."""
    after = json.dumps(template.after_image)
    separator = (
        "{%- if state.leads and part.text and not part.text[0].isspace() -%}"
        f"{{{{- {after} -}}}}"
        "{%- endif -%}"
        "{%- if part.text -%}{%- set state.leads = false -%}{%- endif -%}"
        if template.after_image
        else ""
    )
    in_place = (
        "{%- set state.leads = message.content[0].type == 'image' -%}{%- for part in message.content -%}"
        f"{{%- if part.type == 'image' -%}}{{{{- {image} -}}}}{{%- elif part.type == 'text' -%}}{separator}"
        "{{- mark + part.text + mark -}}{%- endif -%}{%- endfor -%}"
    )
    moved = (
        "{%- if message.content | selectattr('type', 'equalto', 'image') | list | length == 1 -%}"
        "{%- set text = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join -%}"
        f"{{{{- {image} + ({after} if text.strip() else '') + mark + text.strip() + mark -}}}}"
        f"{{%- else -%}}{in_place}{{%- endif -%}}"
    )
    return (
        "{%- if message.content is string -%}{{- words(message.content) -}}{%- else -%}"
        f"{moved if template.image_first else in_place}{{%- endif -%}}"
    )


def control_tokens(encoder: ConversationEncoder) -> list[str]:
    """Return the texts that the chat template writes as one token each."""
    template, tokenizer = encoder.template, encoder.tokenizer
    texts = [*template.tokens, template.end, *template.image, IMAGE_PAD, tokenizer.bos_token, tokenizer.eos_token]
    return sorted({text for text in texts if text and text != EOS})
