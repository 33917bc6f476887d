"""Write a trained model as a folder that plain transformers loads, and compare the folder with the trained model.

    python -m trainer.export runs/toy_sft/model exported/toy

A model that is put together like LLaVA-1.5 or 1.6 uses transformers' own class. For any other model the folder contains
the model's code. Before the folder gets its name, transformers loads it in a process without varyforge and computes
prompt ids, pixels, logits and greedy tokens. If one of them differs from the trained model's, the export is refused and
the folder removed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import transformers
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from transformers import GenerationConfig

from trainer.export.check import TOLERANCE, Comparison, compare
from trainer.export.llava import Llava, LlavaNext
from trainer.export.own_code import OwnCode
from trainer.export.readme import readme
from trainer.export.trained import ExportFormat, TrainedModel
from trainer.exported import load_exported
from trainer.settings import EXPORT_FILE
from varyforge.commands import program
from varyforge.console import say, show_table
from varyforge.errors import UserError, command
from varyforge.files import atomic_folder, sha256_file

FORMATS: tuple[ExportFormat, ...] = (LlavaNext(), Llava(), OwnCode())
"""In the order in which they are tried. Every model fits the last one."""

_RECORD = "export.json"
_MAX_NEW_TOKENS = 2048  # default length of an answer; a dense page has about as many tokens


def export(source: Path, folder: Path) -> tuple[ExportFormat, list[Comparison]]:
    """Write the trained model of `source` (a run's OUT/model) to `folder` and replace an earlier export there.

    Raises:
        UserError: `source` is no trained model, `folder` holds something else than an export, or the exported model
            computes something else than the trained one.
    """
    if folder.exists() and not (folder / _RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no export; delete it or choose another DST")
    model, encoder, recipe = load_exported(source)
    trained = TrainedModel(folder=source, model=model, encoder=encoder, settings=recipe.model)
    target = next(one for one in FORMATS if one.fits(trained))
    with atomic_folder(folder, replace=True) as temp:
        _write(trained, target, temp)
        comparisons = compare(temp, target, trained)
        record = {
            "source_sha256": sha256_file(source / EXPORT_FILE),
            "transformers": transformers.__version__,
            "form": target.name,
            "tolerance": TOLERANCE,
            "compared": [asdict(case) for case in comparisons],
        }
        (temp / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        (temp / "README.md").write_text(readme(trained, target, comparisons))
    return target, comparisons


def _write(trained: TrainedModel, target: ExportFormat, folder: Path) -> None:
    """Write the folder without export.json and README.md."""
    encoder = trained.encoder
    weights = load_file(trained.folder / EXPORT_FILE)
    dtypes = sorted({tensor.dtype for tensor in weights.values()}, key=lambda dtype: dtype.itemsize)
    target.write(trained, folder, str(dtypes[-1]).removeprefix("torch."))
    renamed = {target.rename(name, trained): tensor for name, tensor in weights.items()}
    assert len(renamed) == len(weights)
    save_torch_state_dict(renamed, folder)
    tokenizer = encoder.tokenizer
    tokenizer.padding_side = "left"  # for generation from a batch
    tokenizer.init_kwargs["padding_side"] = "left"  # or transformers does not save the attribute
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(encoder.pad_id)
    tokenizer.save_pretrained(folder)
    GenerationConfig(
        do_sample=False,
        max_new_tokens=_MAX_NEW_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=encoder.end_id,
        pad_token_id=encoder.pad_id,
    ).save_pretrained(folder)


@command
def main() -> int:
    """Parse the command line, export the model and print the comparison."""
    parser = argparse.ArgumentParser(
        prog=program("trainer.export"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="MODEL", help="a trained model: OUT/model of a run")
    parser.add_argument("folder", type=Path, metavar="DST", help="folder to write; an earlier export there is replaced")
    options = parser.parse_args()
    target, comparisons = export(options.source, options.folder)
    rows = [(case.case, case.tokens, f"{case.logits:.1e}", case.levels) for case in comparisons]
    columns = ("case", "tokens", "logits: difference ÷ largest", "pixels: levels of 255")
    show_table("plain transformers against the trained model: equal ids and greedy tokens", columns, rows)
    say(f"{options.folder}: {target.name}; README.md says how to load it")
    return 0


if __name__ == "__main__":
    main()
