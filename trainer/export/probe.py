"""Load an exported folder with plain transformers and write its results: `python probe.py FOLDER`.

cases.json in the current folder has the cases: a name and a batch of conversations, whose images are files beside it.
Their results, NAME.safetensors beside it, have the processor's inputs, the logits of the last tokens and the greedy
answer. The process cannot import varyforge, so a folder that loads here also loads where varyforge is not installed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def compute(folder: str) -> None:
    """Write the results of all cases to the current folder."""
    import torch  # noqa: PLC0415  # after `main` has set the environment
    from safetensors.torch import save_file  # noqa: PLC0415
    from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415

    torch.set_flush_denormal(True)
    plan = json.loads(Path("cases.json").read_bytes())
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, output_loading_info=True
    )
    model, report = loaded
    for problem, names in report.items():  # transformers only warns, and the tensor may affect no logit
        if names:
            raise ValueError(f"{problem.replace('_', ' ')}: {sorted(map(str, names))[0]}, {len(names)} in all")
    model.eval()
    for case in plan["cases"]:
        conversations = case["conversations"]
        options: dict[str, Any] = {"tokenize": True, "add_generation_prompt": True, "return_dict": True}
        if len(conversations) > 1 and case["native"]:
            options["processor_kwargs"] = {"padding": True}
        inputs = processor.apply_chat_template(conversations, return_tensors="pt", **options)
        outputs = dict(inputs)
        with torch.no_grad():
            outputs["logits"] = model(**inputs).logits[:, -plan["logits"] :].contiguous()
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=plan["new_tokens"])
        outputs["answers"] = ids[:, inputs["input_ids"].shape[1] :].contiguous()
        save_file(outputs, f"{case['name']}.safetensors")


def main() -> None:
    """Block imports of varyforge and access to the network, then compute."""
    for package in ("varyforge", "trainer", "datagen", "pipelines"):
        sys.modules[package] = None  # type: ignore[assignment]  # its import fails
    with tempfile.TemporaryDirectory() as modules:  # to which transformers copies a folder's code
        os.environ |= {"HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        compute(sys.argv[1])


if __name__ == "__main__":
    main()
