"""Pictures of three kinds, each drawn from a seed: a scene, a page of text, a chart."""

from __future__ import annotations

import io
import random

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from tests.datagen.made_texts import ENGLISH

Picture = PIL.Image.Image


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Picture:
    """Colours and shapes of all sizes."""
    draw = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells, weight in ((3, 1.0), (6, 0.6), (12, 0.4), (40, 0.2), (160, 0.1)):
        noise = PIL.Image.fromarray(draw.integers(0, 255, size=(cells, cells, 3), dtype=np.uint8))
        total += weight * np.asarray(noise.resize(size, PIL.Image.Resampling.BICUBIC))
    return PIL.Image.fromarray((total / 2.3).astype(np.uint8))


def page(seed: int, size: tuple[int, int] = (768, 1024)) -> Picture:
    """Paragraphs in black on white, in words of their own order."""
    draw = random.Random(seed)
    made = PIL.Image.new("RGB", size, "white")
    pen, font = PIL.ImageDraw.Draw(made), PIL.ImageFont.load_default(size=14)
    words = " ".join(ENGLISH).split()
    y = 70
    while y < size[1] - 90:
        pen.text((80, y), " ".join(draw.choices(words, k=draw.choice([9, 11, 11, 11, 4]))), fill="black", font=font)
        y += draw.choice([20, 20, 20, 40])
    return made


def chart(seed: int, size: tuple[int, int] = (700, 500)) -> Picture:
    """Bars with names below, on white."""
    draw = random.Random(seed)
    made = PIL.Image.new("RGB", size, "white")
    pen, font = PIL.ImageDraw.Draw(made), PIL.ImageFont.load_default(size=16)
    pen.rectangle((80, 60, 660, 440), outline="black", width=2)
    bars = draw.randint(4, 8)
    for number in range(bars):
        left, height = 100 + 560 * number // bars, draw.randint(20, 360)
        pen.rectangle((left, 440 - height, left + 400 // bars, 440), fill=draw.choice(["navy", "teal", "orange"]))
        pen.text((left, 446), draw.choice(ENGLISH[0].split()), fill="black", font=font)
    pen.text((200, 20), " ".join(draw.choices(ENGLISH[1].split(), k=4)), fill="black", font=font)
    return made


def jpeg(picture: Picture, quality: int) -> Picture:
    """Encoded and decoded again."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return PIL.Image.open(out).convert("RGB")


def cropped(picture: Picture, left: float, top: float, right: float, bottom: float) -> Picture:
    """Without these shares of its width and height."""
    width, height = picture.size
    box = (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    return picture.crop(box)


def barred(picture: Picture, colour: str) -> Picture:
    """With bars above and below."""
    bar = picture.height // 20
    made = PIL.Image.new("RGB", (picture.width, picture.height + 2 * bar), colour)
    made.paste(picture, (0, bar))
    return made
