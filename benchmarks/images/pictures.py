"""What is fetched. Everything is drawn from a fixed seed, so that each run reads the same bytes."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LINES = (
    "Did you see the draft of the contract?",
    "Yes, page four still has the old date.",
    "Can we ship on Friday, or do we need the review first?",
    "The review is booked for Thursday, 14:30.",
    "Then Friday works. I will tell the others.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One picture to fetch."""

    name: str
    file: str
    draw: Callable[[], bytes]


def phone_chat(width_px: int, height_px: int) -> bytes:
    """Return a chat as a phone shows it: flat areas and sharp text."""
    picture = Image.new("RGB", (width_px, height_px), "#f2f2f7")
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=42)
    for number, top_px in enumerate(range(60, height_px - 160, 170)):
        own = number % 3 == 1
        left_px = width_px // 5 if own else 40
        canvas.rounded_rectangle(
            (left_px, top_px, left_px + width_px * 3 // 4, top_px + 130), 40, fill="#0a84ff" if own else "#ffffff"
        )
        text = LINES[number % len(LINES)]
        canvas.text((left_px + 30, top_px + 20), text, font=font, fill="#ffffff" if own else "#111111")
        canvas.text((left_px + 30, top_px + 78), f"{9 + number % 12}:{number * 7 % 60:02}", font=font, fill="#8e8e93")
    return _encoded(picture, "PNG")


def desktop(width_px: int, height_px: int) -> bytes:
    """Return a page as a desktop shows it: small text in columns."""
    picture = Image.new("RGB", (width_px, height_px), "#ffffff")
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=26)
    for left_px in range(40, width_px - 600, 700):
        for number, top_px in enumerate(range(40, height_px - 40, 38)):
            canvas.text((left_px, top_px), LINES[(number + left_px) % len(LINES)], font=font, fill="#222222")
    return _encoded(picture, "PNG")


def photograph(width_px: int, height_px: int, image_format: str) -> bytes:
    """Return what a camera would: soft shapes under fine noise."""
    dice = random.Random(7)  # noqa: S311 - a picture, no secret
    shapes = Image.frombytes("RGB", (9, 16), dice.randbytes(9 * 16 * 3))
    grain = Image.frombytes("RGB", (512, 512), dice.randbytes(512 * 512 * 3))
    return _encoded(
        Image.blend(shapes.resize((width_px, height_px)), _tiled(grain, width_px, height_px), 0.06), image_format
    )


def noise(width_px: int, height_px: int) -> bytes:
    """Return a PNG that is as large as its pixels."""
    dice = random.Random(7)  # noqa: S311 - likewise
    picture = Image.frombytes("RGB", (width_px, height_px), dice.randbytes(width_px * height_px * 3))
    sink = io.BytesIO()
    picture.save(sink, "PNG", compress_level=0)
    return sink.getvalue()


def _tiled(tile: Image.Image, width_px: int, height_px: int) -> Image.Image:
    picture = Image.new("RGB", (width_px, height_px))
    for left_px in range(0, width_px, tile.width):
        for top_px in range(0, height_px, tile.height):
            picture.paste(tile, (left_px, top_px))
    return picture


def _encoded(picture: Image.Image, image_format: str) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, image_format, quality=92)
    return sink.getvalue()


CHAT = Sample(name="phone chat, PNG 1170x2532", file="chat.png", draw=lambda: phone_chat(1170, 2532))
PHOTO = Sample(name="photograph, PNG 1170x2532", file="photo.png", draw=lambda: photograph(1170, 2532, "PNG"))
DESKTOP = Sample(name="desktop, PNG 2880x1800", file="desktop.png", draw=lambda: desktop(2880, 1800))
TALL = Sample(name="scrolling chat, PNG 1170x8000", file="tall.png", draw=lambda: phone_chat(1170, 8000))
CAMERA = Sample(name="photograph, JPEG 4000x3000", file="camera.jpg", draw=lambda: photograph(4000, 3000, "JPEG"))
MEASURED = (CHAT, PHOTO, DESKTOP, TALL, CAMERA)

BODY = Sample(name="noise, PNG of 20 MiB", file="body.png", draw=lambda: noise(2640, 2640))
ROW = Sample(name="noise, PNG as a data: URL of 24 MiB", file="row.png", draw=lambda: noise(2000, 3100))
SLICES = Sample(
    name="photograph in 6 slices, JPEG 1170x13000", file="slices.jpg", draw=lambda: photograph(1170, 13_000, "JPEG")
)
LARGEST = (BODY, ROW, SLICES)
"""At the limits: what holds the event loop longest, and the most memory."""


def draw_all(folder: Path) -> None:
    """Write every picture into a folder."""
    for sample in (*MEASURED, *LARGEST):
        (folder / sample.file).write_bytes(sample.draw())
