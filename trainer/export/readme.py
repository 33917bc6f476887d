"""The README.md of an exported folder."""

from __future__ import annotations

from collections.abc import Sequence

import transformers

from trainer.export.check import TOLERANCE, Comparison
from trainer.export.trained import ExportFormat, TrainedModel


def readme(trained: TrainedModel, target: ExportFormat, comparisons: Sequence[Comparison]) -> str:
    """Return a model card: how to load the model, its prompts and images, the comparison, and the licence's gap."""
    settings, layout = trained.settings, trained.model.layout
    parts = " + ".join([*(f"{name} ({part.type})" for name, part in settings.vision.items()), settings.language.type])
    images = "\n".join(f"- {name}: {how}" for name, how in layout.preprocess.items())
    tiling = "whole" if settings.tiling is None else settings.tiling.type
    worst = max(case.logits for case in comparisons)
    controls = (
        "`apply_chat_template(…, tokenize=True)` takes what looks like a control token in a user's text for text, as "
        "in training. A text that was rendered first and then given to the processor, or the tokenizer alone, does not."
        if target.pixel_tolerance == 0
        else "A control token that is written out in a user's text (`</s>`, `<imgpad>`) is taken for one; in training "
        "it was text. Remove such from what users write."
    )
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
---

# {parts}

Trained and exported with varyforge; loaded by plain transformers as `{target.name}`.

```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder
{target.load_lines}
content = [{{"type": "image", "image": Image.new("RGB", (640, 480))}}, {{"type": "text", "text": "What is this?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
)
ids = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

## Prompts

Conversations are written as `{settings.language.template}` (chat_template.jinja). {controls}

## Images

Tiling: {tiling}. An image of 640 x 480 px becomes {layout.num_tokens((480, 640))} tokens. Pixels, by encoder:

{images}

EXIF rotation is applied by transformers when it opens a file; in training images are upright already.

## How exact

At export time the folder was loaded by transformers {transformers.__version__} without varyforge and compared with the
trained model: ids of prompts and greedy tokens are equal, logits in fp32 differ by at most {worst:.1e} of the largest
(allowed: {TOLERANCE:.0e}), pixels by at most {max(case.levels for case in comparisons)} of 255 levels (Pillow backend).
export.json has each case.

## Licence and data

Not stated by the export. The weights come under the terms of what they were trained from (encoders, language model)
and on; fill this in before you publish the folder.
"""
