"""The tests' tiny world, made here: documents, pictures with boxes, conversations, and shard sets of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share two cores
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # under nohup or `&`: children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

from datagen.chat.source import ChatSource
from datagen.detection.source import DetectionSource
from datagen.examples.chats import write_chats
from datagen.examples.documents import write_documents
from datagen.examples.shapes import write_detection
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource

settings.register_profile("beside other load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside other load")

JOB = JobSettings(units_per_shard=8, validation_share=0.2)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PDFs, English and Chinese."""
    folder = tmp_path_factory.mktemp("documents")
    write_documents(folder, documents=8)
    return folder


@pytest.fixture(scope="session")
def pdf_shards(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of pages, small pictures."""
    out = tmp_path_factory.mktemp("shards") / "pdf"
    run_job(PdfSource(paths=[str(documents)], short_side_px=256), out, JOB, LocalRunner())
    return out


@pytest.fixture(scope="session")
def detection_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of pictures with boxes."""
    folder = tmp_path_factory.mktemp("detection")
    coco = write_detection(folder, images=12)
    out = tmp_path_factory.mktemp("shards") / "detection"
    source = DetectionSource(format="coco", annotations=str(coco), images=str(folder / "images"))
    run_job(source, out, JOB, LocalRunner())
    return out


@pytest.fixture(scope="session")
def chat_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of conversations."""
    folder = tmp_path_factory.mktemp("chat")
    write_chats(folder, chats=40)
    out = tmp_path_factory.mktemp("shards") / "chat"
    run_job(ChatSource(paths=[str(folder)]), out, JOB, LocalRunner())
    return out
