"""Escaping of text that looks like a control token, so that no tokenizer takes data for one.

A word joiner (U+2060, which has no width) goes behind the opening bracket: `<|im_end|>` becomes `<⁠|im_end|>`. Escaping
is reversible for every text, also for one with such sequences in it. Turns of a sample are escaped. The trainer removes
the joiners where it tokenises text with control tokens switched off.
"""

from __future__ import annotations

import re

JOINER = "\u2060"

_NAMES = (
    r"image|images|img|imgpad|im_start|im_end|im_patch|im_col_sep|video|audio|ref|box|quad|patch|crop"
    r"|s|bos|eos|pad|unk|mask|cls|sep|eod|eot|eop|eoc|eom|sop|end_of_text|endoftext|start_of_turn|end_of_turn"
    r"|start_of_image|end_of_image|image_soft_token|image_newline|image_placeholder|begin_of_image|tool_call|tool_response"
    r"|think|gmask|user|bot|assistant|system|human|fim_prefix|fim_middle|fim_suffix|fim_pad|reponame|img_context"
    r"|vision_start|vision_end|image_pad|0x[0-9a-f]{2}|(?:image|unused|extra_id|loc|seg|special|reserved|custom)[_-]?\d+"
)
_SQUARE = (
    r"INST|CLS|SEP|PAD|UNK|MASK|BOS|EOS|IMG|gMASK|sMASK|SYSTEM_PROMPT|IMG_BREAK|IMG_END|TOOL_CALLS|AVAILABLE_TOOLS"
    r"|TOOL_RESULTS|TOOL_CONTENT|unused\d+|control_\d+"
)
_CONTROL = re.compile(  # what stands between the bars holds no other opening bracket: each is a match of its own
    rf"<{JOINER}*(?="
    rf"(?i:/?(?:{_NAMES})/?>)"  # <image>, </s>, <extra_id_7>
    r"|\|[^\s<>|\[][^<>|\[\n]{0,63}\|>"  # <|im_end|>, <|begin of text|>
    r"|｜[^<>｜\[\n]{1,64}｜>"  # <｜end▁of▁sentence｜>
    r"|</?SYS>>)"
    rf"|\[{JOINER}*(?=/?(?:{_SQUARE})\])"
)


def escape(text: str) -> str:
    """Escape everything in `text` that could be taken for a control token or a sample's image marker.

    That is `<|…|>` and `<｜…｜>` with any content, and by name the control tokens of the OPT, GPT, BERT, T5, Llama,
    Mistral, Qwen, Gemma, GLM, DeepSeek and LLaVA families. Other tags, such as HTML's, stay unless they have such a
    name (`<s>`).
    """
    return _CONTROL.sub(lambda match: match[0][0] + JOINER + match[0][1:], text) if "<" in text or "[" in text else text


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _CONTROL.sub(lambda match: match[0].replace(JOINER, "", 1), text) if JOINER in text else text
