"""Characters of right-to-left lines in the order of reading, for `characters`."""

from __future__ import annotations

import numpy as np

from datagen.pdf.backends.letters import Characters, Flags, rtl_letters
from datagen.pdf.text.bidi import Glyph, reordered

_LEVEL = 0.97  # cosine; text at a steeper angle is turned


def in_reading_order(characters: Characters) -> tuple[Characters, Flags | None]:
    """Return the characters with right-to-left lines in the order of reading, and which (N,) have their spaces.

    None stands for a page without such lines. Spaces of such lines are part of the next character's text.
    """
    if not rtl_letters(characters.codes).any():
        return characters, None
    texts = [characters.texts.get(row) or chr(code) for row, code in enumerate(characters.codes.tolist())]
    x0, x1, y, size = characters.box[:, 0], characters.box[:, 2], characters.origin[:, 1], characters.of("size")
    columns = (x0.tolist(), x1.tolist(), y.tolist(), size.tolist(), np.cumsum(characters.starts).tolist())
    glyphs = [Glyph(*fields) for fields in zip(texts, *columns, strict=True)]
    level = [style.visible and style.direction[0] > _LEVEL for style in characters.styles]
    reading = reordered(glyphs, [level[style] for style in characters.style.tolist()])
    if reading is None:
        return characters, None
    order = np.array(reading.order)
    known = characters.texts | reading.texts
    ordered = Characters(
        codes=characters.codes[order],
        box=characters.box[order],
        origin=characters.origin[order],
        advance=characters.advance[order],
        style=characters.style[order],
        starts=np.isin(order, list(reading.starts)),
        apart=characters.apart[order],
        styles=characters.styles,
        texts={place: known[row] for place, row in enumerate(reading.order) if row in known},
    )
    return ordered, np.isin(order, list(reading.texts))
