"""draftd's way: fetched over HTTP, prepared in helpers, made into the messages of a model call."""

import argparse
import asyncio
import base64
import gc
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from benchmarks.images.costs import Longest, children, forget_peak, helpers_cpu_s, longest_callback, peak_bytes, stay_on
from benchmarks.images.process import PATIENCE_S, Order
from draftd.daemon.parts import IMAGE_BUDGET_BYTES
from draftd.images import ByteBudget, Fetcher, ImageLoader, Preparer
from draftd.reply.agents import Agent
from draftd.reply.prompts import render
from draftd.request import Options, Request

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 40_000_000
WARMING = 4
"""Before it is counted: enough to start two helpers."""
AGENT = Agent(name="benchmark", version="1", params={}, text="Reply.")
REQUEST = Request(image_urls=(), context=None, options={}, parent=None)


@asynccontextmanager
async def loading(helpers: int | None) -> AsyncIterator[ImageLoader]:
    """Set up the loader as the daemon does, with this machine's own web server allowed."""
    loader = ImageLoader(
        fetcher=Fetcher(max_bytes=MAX_BYTES, allow_private=["127.0.0.1"]),
        preparer=Preparer(max_pixels=MAX_PIXELS, processes=helpers),
        budget=ByteBudget(IMAGE_BUDGET_BYTES),
    )
    try:
        yield loader
    finally:
        await loader.aclose()


async def make_ready(loader: ImageLoader, url: str) -> None:
    """Bring one picture from its URL to what is handed to litellm, as the drafter does."""
    async with AsyncExitStack() as reservations:
        pictures = await loader.load([url], reservations=reservations, time_s=PATIENCE_S)
        await asyncio.to_thread(render, AGENT, request=REQUEST, options=Options(), pictures=pictures)


async def carry_out(order: Order, loader: ImageLoader, folder: Path, base_url: str) -> dict[str, float]:
    """Make pictures ready, so many at a time, and return what that took."""
    url = _data_url(folder / order.file) if order.as_data_url else base_url + order.file
    await _make_all_ready(loader, url, WARMING, WARMING)
    before_bytes = forget_peak()
    with longest_callback() if order.watched else nullcontext(Longest()) as longest:
        wall_s, own_s, helpers_s = time.perf_counter(), time.process_time(), helpers_cpu_s()
        await _make_all_ready(loader, url, order.pictures, order.in_flight)
        wall_s = time.perf_counter() - wall_s
        own_s, helpers_s = time.process_time() - own_s, helpers_cpu_s() - helpers_s
    return {
        "wall_s": wall_s,
        "cpu_s": own_s + helpers_s,
        "own_cpu_s": own_s,
        "helper_cpu_s": helpers_s,
        "callback_wall_s": longest.wall_s,
        "callback_cpu_s": longest.cpu_s,
        "memory_bytes": peak_bytes() - before_bytes,
        "helper_bytes": max(map(peak_bytes, children()), default=0),
    }


async def _make_all_ready(loader: ImageLoader, url: str, pictures: int, in_flight: int) -> None:
    left = iter(range(pictures))

    async def work() -> None:
        for _ in left:
            await make_ready(loader, url)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())


def _data_url(file: Path) -> str:
    return f"data:image/{file.suffix[1:]};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--helpers", type=int)
    arguments = parser.parse_args()
    stay_on(arguments.cores)
    gc.freeze()  # as the daemon does
    async with loading(arguments.helpers) as loader:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = Order(**json.loads(line))
            print(json.dumps(await carry_out(order, loader, arguments.folder, arguments.base_url)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
