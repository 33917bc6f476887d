"""The command line of `datagen.detection`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from datagen.cli import job_parser, run_source
from datagen.detection.annotations import READERS
from datagen.detection.source import DetectionSource
from varyforge.errors import UserError, command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = job_parser(
        "datagen.detection",
        "Turns images with boxes into detection and REC conversations.",
        DetectionSource,
        examples="""
  python -m datagen.detection --coco instances_train2017.json --images train2017/ --out shards/coco
  python -m datagen.detection --coco zhiyuan_objv2_train.json --images train/ --out shards/objects365 strip_folders=2
  python -m datagen.detection --openimages train-annotations-bbox.csv --classes class-descriptions-boxable.csv \\
      --image-ids train-images-boxable-with-rotation.csv --images train/ --out shards/openimages
  python -m datagen.detection --voc VOCdevkit/VOC2012/ --out shards/voc image_set=trainval
  python -m datagen.detection --yolo dataset/ --map-classes names.yaml --out shards/own""",
    )
    add = made.add_mutually_exclusive_group(required=True).add_argument
    add("--coco", metavar="JSON", help="COCO form, Objects365 too: a file, or a folder of them")
    add("--openimages", metavar="CSV", help="boxes in OpenImages' form: a file, or a folder of them")
    add(
        "--voc",
        metavar="FOLDER",
        help="Pascal VOC form: Annotations/*.xml and JPEGImages/, or XML files anywhere below",
    )
    add("--yolo", metavar="FOLDER", help="YOLO form: data.yaml, images/ and labels/, or texts beside the images")
    made.add_argument("--images", default="", help="folder of the images (VOC, YOLO: where it is not the same)")
    made.add_argument(
        "--classes", default="", metavar="FILE", help="OpenImages' class descriptions; YOLO's class names"
    )
    made.add_argument("--image-ids", default="", metavar="CSV", help="OpenImages' image ids, for the licences")
    made.add_argument(
        "--map-classes", metavar="FILE", help="YAML or JSON: other names for classes; null leaves one out"
    )
    made.add_argument("settings", nargs="*", help="key=value")
    return made


@command
def main() -> int:
    """Parses the command line and runs the job."""
    arguments = parser().parse_intermixed_args()
    form = next(form for form in READERS if getattr(arguments, form))
    inputs: dict[str, Any] = {
        "format": form,
        "annotations": getattr(arguments, form),
        "images": arguments.images,
        "class_names": arguments.classes,
        "image_ids": arguments.image_ids,
    }
    if arguments.map_classes:
        inputs["map_classes"] = _class_map(Path(arguments.map_classes))
    return run_source(DetectionSource, inputs, arguments.settings, arguments)


def _class_map(path: Path) -> dict[str, str | None]:
    """The names in a YAML or JSON file, which is YAML too.

    Raises:
        UserError: it is not there, or holds anything else.
    """
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(names, dict) or not all(isinstance(new, str | None) for new in names.values()):
        raise UserError(f"{path}: expected class names and their new names (or null to leave a class out)")
    return {str(old): new for old, new in names.items()}


if __name__ == "__main__":
    main()
