"""Writes a trained model as a folder that plain transformers loads, and holds the folder to the trained model.

    python -m trainer.export runs/toy_sft/model exported/toy

transformers' own class of the model is used where it has one (LLaVA-1.5 and 1.6); any other model gets its code into
the folder. Before the folder gets its name, transformers loads it in a process without varyforge: ids of prompts,
pixels, logits and greedy tokens must be those of the trained model, or the export is refused and nothing is left.
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

from trainer.export.check import TOLERANCE, Compared, compare
from trainer.export.formats import FORMS
from trainer.export.readme import readme
from trainer.export.trained import Form, Trained
from trainer.exported import load_exported
from trainer.settings import EXPORT_FILE
from varyforge.console import say, show_table
from varyforge.errors import UserError, command
from varyforge.files import atomic_folder, sha256_file

_RECORD = "export.json"
_MAX_NEW_TOKENS = 2048  # of an answer, where the caller says nothing; a dense page has about as many


def export(source: Path, folder: Path) -> tuple[Form, list[Compared]]:
    """Writes the trained model of `source` (a run's OUT/model) to `folder`; an earlier export there is replaced.

    Raises:
        UserError: `source` is no trained model, something else is at `folder`, or what was written does not compute
            what the trained model does.
    """
    _check_free(folder)
    model, encoder, recipe = load_exported(source)
    trained = Trained(folder=source, model=model, encoder=encoder, settings=recipe.model)
    form = choose(trained)
    with atomic_folder(folder, replace=True) as temp:
        _write(trained, form, temp)
        compared = compare(temp, form, trained)
        record = {
            "source_sha256": sha256_file(source / EXPORT_FILE),
            "transformers": transformers.__version__,
            "form": form.name,
            "tolerance": TOLERANCE,
            "compared": [asdict(case) for case in compared],
        }
        (temp / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        (temp / "README.md").write_text(readme(trained, form, compared))
    return form, compared


def choose(trained: Trained) -> Form:
    """The first form that a model fits; UserError says why none does."""
    reasons = []
    for form in FORMS:
        reason = form.misfit(trained)
        if reason is None:
            return form
        reasons.append(f"{form.name}: {reason}")
    raise UserError(f"export: {trained.folder}: " + "; ".join(reasons))


def _write(trained: Trained, form: Form, folder: Path) -> None:
    """Everything but the record of the check and README.md."""
    encoder = trained.encoder
    weights = load_file(trained.folder / EXPORT_FILE)
    dtypes = sorted({tensor.dtype for tensor in weights.values()}, key=lambda dtype: dtype.itemsize)
    form.write(trained, folder, str(dtypes[-1]).removeprefix("torch."))
    renamed = {form.rename(name, trained): tensor for name, tensor in weights.items()}
    assert len(renamed) == len(weights)
    save_torch_state_dict(renamed, folder)
    tokenizer = encoder.tokenizer
    tokenizer.padding_side = "left"  # to generate from a batch
    tokenizer.init_kwargs["padding_side"] = "left"  # without which transformers does not save the attribute
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


def _check_free(folder: Path) -> None:
    if folder.exists() and not (folder / _RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no export; delete it or choose another name")


@command
def main() -> int:
    """Parses the command line, exports, shows what was compared."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="MODEL", help="a trained model: OUT/model of a run")
    parser.add_argument("folder", type=Path, metavar="DST", help="folder to write; an earlier export there is replaced")
    given = parser.parse_args()
    form, compared = export(given.source, given.folder)
    rows = [(case.case, case.tokens, f"{case.logits:.1e}", case.levels) for case in compared]
    columns = ("case", "tokens", "logits: difference ÷ largest", "pixels: levels of 255")
    show_table("plain transformers against the trained model: equal ids and greedy tokens", columns, rows)
    say(f"{given.folder}: {form.name}; README.md says how to load it")
    return 0


if __name__ == "__main__":
    main()
