"""The command line `python -m datagen.detection`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datagen.cli import job_command, job_parser
from datagen.detection.annotations.reader import Reader
from datagen.detection.source import READERS, DetectionSource
from varyforge.boxes import clean_label
from varyforge.console import warn
from varyforge.errors import UserError

parser = job_parser(
    "datagen.detection",
    "Turns images with boxes into conversations for detection and referring expression comprehension (REC).",
    DetectionSource,
    examples="""
  python -m datagen.detection --coco instances_train2017.json --images train2017/ --out shards/coco
  python -m datagen.detection --coco zhiyuan_objv2_train.json --images train/ --out shards/objects365 strip_folders=2
  python -m datagen.detection --openimages train-annotations-bbox.csv --classes class-descriptions-boxable.csv \\
      --image-ids train-images-boxable-with-rotation.csv --images train/ --out shards/openimages
  python -m datagen.detection --voc VOCdevkit/VOC2012/ --out shards/voc image_set=trainval
  python -m datagen.detection --yolo dataset/ --map-classes names.yaml --out shards/own
  python -m datagen.detection --parquet cppe-5/data/ --out shards/cppe5""",
)
add = parser.add_mutually_exclusive_group(required=True).add_argument
add("--coco", metavar="JSON", help="COCO format, also of Objects365: a file or a folder of them")
objects = "image and objects (bbox, category), as on the Hugging Face hub: a file or a folder of Parquet or JSON Lines"
add("--objects", "--parquet", metavar="FILE", help=objects)
add("--openimages", metavar="CSV", help="boxes in OpenImages format: a file or a folder of them")
add("--voc", metavar="FOLDER", help="Pascal VOC format: Annotations/*.xml and JPEGImages/, or XML at any depth")
add("--yolo", metavar="FOLDER", help="YOLO format: data.yaml, images/ and labels/, or text files beside the images")
parser.add_argument("--images", default="", help="folder of the images (VOC, YOLO: if it is another folder)")
names = "class descriptions of OpenImages, class names of YOLO and of class numbers in records"
parser.add_argument("--classes", default="", dest="class_names", metavar="FILE", help=names)
parser.add_argument("--image-ids", default="", metavar="CSV", help="image ids of OpenImages, with the licences")
parser.add_argument("--map-classes", metavar="FILE", help="YAML or JSON: new names of classes; null drops a class")
parser.add_argument("settings", nargs="*", help="key=value")


def _inputs(arguments: argparse.Namespace) -> dict[str, Any]:
    format = next(format for format in READERS if getattr(arguments, format))
    inputs = {"format": format, "annotations": getattr(arguments, format)}
    if arguments.map_classes:
        new_names = _read_class_map(Path(arguments.map_classes))
        reader = READERS[format](
            annotations=inputs["annotations"], images=arguments.images, class_names=arguments.class_names
        )
        _warn_of_unused(new_names, reader, arguments.map_classes)
        inputs["map_classes"] = new_names
    return inputs


def _warn_of_unused(new_names: Mapping[str, str | None], reader: Reader, file: str) -> None:
    """Warn of names in a class map that the data set does not have."""
    known = reader.known_classes()
    unused = [name for name in new_names if clean_label(name) not in known] if known else []
    if unused:
        names = ", ".join(sorted(known)[:10])
        warn(f"{file}: no class is called {', '.join(map(repr, unused))[:200]}; the first of {len(known)} are {names}")


def _read_class_map(path: Path) -> dict[str, str | None]:
    """Read the new class names from a YAML or JSON file. All words stay as they are written, but an unquoted null.

    Raises:
        UserError: the file is missing or has other content.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(node, node)]
    if not all(isinstance(part, yaml.ScalarNode) for pair in pairs for part in pair):
        raise UserError(f"{path}: expected class names and their new names (null drops a class)")
    return {old.value: None if new.tag == "tag:yaml.org,2002:null" else new.value for old, new in pairs}


main = job_command(parser, DetectionSource, _inputs)

if __name__ == "__main__":
    main()
