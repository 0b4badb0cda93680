"""Pillow alone: the same bytes, opened, converted, resized and saved as the helper does, without draftd around it."""

import io
import json
import sys
import time
from pathlib import Path

from PIL import Image

from benchmarks.images.costs import stay_on
from benchmarks.images.process import Order
from draftd.images.layout import plan


def shrink(data: bytes) -> list[bytes]:
    """Return the parts of a picture as JPEG: filter, gap, quality and slices are draftd's."""
    with Image.open(io.BytesIO(data)) as image:
        flat = image.convert("RGB")
    layout = plan(*flat.size)
    size = (layout.width_px, layout.height_px)
    small = flat.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    whole = [small.resize(layout.overview_px, Image.Resampling.LANCZOS)] if layout.overview_px else []
    return [_jpeg(picture) for picture in [*whole, *(small.crop(box) for box in layout.boxes)]]


def _jpeg(picture: Image.Image) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=85, subsampling="4:4:4")
    return sink.getvalue()


def carry_out(order: Order, folder: Path) -> dict[str, float]:
    """Read the file once, shrink it again and again, and return what that took."""
    data = (folder / order.file).read_bytes()
    shrink(data)
    wall_s, used_s = time.perf_counter(), time.process_time()
    for _ in range(order.pictures):
        shrink(data)
    return {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - used_s}


def main() -> None:
    """Carry out orders until stdin ends."""
    folder = Path(sys.argv[1])
    stay_on(2)
    for line in sys.stdin:
        print(json.dumps(carry_out(Order(**json.loads(line)), folder)), flush=True)


if __name__ == "__main__":
    main()
