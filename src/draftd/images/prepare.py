"""From the bytes of an image to the JPEG parts for a model.

Owns the pool of helper processes, and the meaning of their replies and exits. ``decoder`` runs in the helpers and is never
imported here.

Invariants: this process decodes no byte of a picture; a helper that did not finish its picture is killed and never reused.
"""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageTooLarge, ImageUnsupported
from draftd.images.formats import SNIFFED_BYTES, sniff
from draftd.images.helper import Helper, HelperDied, HelperProtocolError, Reply
from draftd.images.layout import PICTURE_PIXELS

DECODER = Path(__file__).with_name("decoder.py")
MAX_HELPERS = 2
DECODE_S = 30.0
"""Wall-clock time for one picture; the helper's CPU time limit is below it."""
OWN_HELPER = "HEIF"
"""The format whose decoder gets a process for each picture (docs/adr/0022)."""
MAX_PICTURES_PER_HELPER = 256
"""How many pictures a compromised decoder could see. A new process also ends the fragmentation of its address space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One picture as the model receives it."""

    data: bytes = field(repr=False)
    """JPEG, without metadata."""
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An image, decoded and split into parts."""

    width_px: int
    height_px: int
    """Of the original, after orientation."""
    parts: tuple[Part, ...]
    truncated: bool
    """Whether the parts do not show the whole picture."""
    tiled: bool = False
    """Whether the first part is the whole, and the others are its tiles, row by row."""
    one_of_several: bool = False
    """Whether the file has further frames or pictures, which were left out."""


class Preparer:
    """Turns images into parts, in a small pool of helper processes.

    Args:
        max_pixels: maximum size of an image, in pixels.
        processes: maximum number of helpers; if None, two, or one on a single core. Each starts when it is first needed.
        long_edge_px: maximum long edge of a picture that is sent whole.
        program: the helper's program.
    """

    def __init__(
        self, *, max_pixels: int, processes: int | None = None, long_edge_px: int = 1568, program: Path = DECODER
    ) -> None:
        self._limits = {"max_pixels": max_pixels, "long_edge_px": long_edge_px}
        self._program = program
        self._slots = asyncio.Semaphore(processes or min(MAX_HELPERS, len(os.sched_getaffinity(0))))
        self._idle: list[Helper] = []
        self._ending: set[Helper] = set()

    async def prepare(self, data: bytes | memoryview, *, time_s: float, part_pixels: int = PICTURE_PIXELS) -> Prepared:
        """Decode an image and split it into parts.

        Args:
            data: the bytes as fetched.
            time_s: time limit in seconds, including the wait for a helper.
            part_pixels: maximum size of a picture that is sent whole, in pixels.

        Raises:
            ImageUnsupported: the format is not accepted.
            ImageInvalid: not an image, or broken, or its decoder crashed or exceeded its full time limit.
            ImageTooLarge: over the limit of pixels or memory.
            ImageFetchFailed: no helper was free in time, too little time was left, or the helper was killed from outside.
            InternalError: no helper could be started.
        """
        header: dict[str, str | int] = {
            "format": sniff(bytes(data[:SNIFFED_BYTES])),
            "part_pixels": part_pixels,
            **self._limits,
        }
        deadline_s = time.monotonic() + time_s
        try:
            async with asyncio.timeout(max(time_s, 0)):
                await self._slots.acquire()
        except TimeoutError as error:
            raise ImageFetchFailed("no image helper was free in time") from error
        try:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise ImageFetchFailed("no time was left to decode the image")
            return await self._decode(header, memoryview(data), time_s=left_s)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Kill every helper and wait for its end."""
        while self._idle:
            self._discard(self._idle.pop())
        while self._ending:
            await self._ending.pop().ended()

    async def _decode(self, header: dict[str, str | int], data: memoryview, *, time_s: float) -> Prepared:
        # With the full time limit, the picture is at fault; with the rest of a slow attempt, it may not be.
        allowed_s, is_to_blame = min(time_s, DECODE_S), time_s >= DECODE_S
        try:
            async with asyncio.timeout(allowed_s):
                return await self._try(header, data)
        except TimeoutError as error:
            if not is_to_blame:
                raise ImageFetchFailed("no time was left to decode the image") from error
            raise ImageInvalid(f"decoding the image took more than {allowed_s:.1f} s") from error

    async def _try(self, header: dict[str, str | int], data: memoryview, *, fresh: bool = False) -> Prepared:
        alone = header["format"] == OWN_HELPER
        helper = await (self._start(OWN_HELPER) if alone else self._start() if fresh else self._take())
        # A reused helper may crash, or run out of memory, because of an earlier picture.
        was_used = helper.pictures > 0
        try:
            reply, bodies = await self._run_on(helper, header, data)
        except HelperDied as error:
            exit_code = await helper.ended()
            # The CPU time limit is per picture, so earlier pictures are not the cause.
            if was_used and exit_code != -signal.SIGXCPU:
                return await self._try(header, data, fresh=True)
            raise _error_for_exit(None if isinstance(error, HelperProtocolError) else exit_code) from error
        if was_used and reply.outcome == "memory":
            return await self._try(header, data, fresh=True)
        return _prepared(reply, bodies, max_pixels=self._limits["max_pixels"])

    async def _run_on(
        self, helper: Helper, header: dict[str, str | int], data: memoryview
    ) -> tuple[Reply, list[bytes]]:
        reusable = False
        try:
            reply, bodies = await helper.decode(header, data)
            may_go_on = reply.outcome != "memory" and helper.pictures < MAX_PICTURES_PER_HELPER
            reusable = may_go_on and header["format"] != OWN_HELPER
        finally:
            if reusable:
                self._idle.append(helper)
            else:
                self._discard(helper)
        return reply, bodies

    async def _take(self) -> Helper:
        while self._idle:
            helper = self._idle.pop()
            if helper.alive:
                return helper
            self._discard(helper)
        return await self._start()

    async def _start(self, *arguments: str) -> Helper:
        helper = await Helper.start(self._program, *arguments)
        is_ready = False
        try:
            await helper.ready()
            is_ready = True
        finally:
            if not is_ready:
                self._discard(helper)
        return helper

    def _discard(self, helper: Helper) -> None:
        helper.kill()
        self._ending = {other for other in self._ending if other.alive} | {helper}


def _prepared(reply: Reply, bodies: list[bytes], *, max_pixels: int) -> Prepared:
    match reply.outcome:
        case "pixels":
            raise ImageTooLarge(
                f"the image has more than {max_pixels / 1e6:g} megapixels", details={"limit": max_pixels}
            )
        case "memory":
            raise ImageTooLarge("decoding the image takes too much memory")
        case "unsupported":
            raise ImageUnsupported("the image uses a variant of its format that is not accepted")
        case "invalid":
            raise ImageInvalid("the image is truncated or corrupt")
    return Prepared(
        width_px=reply.width_px,
        height_px=reply.height_px,
        parts=tuple(
            Part(data=body, width_px=part.width_px, height_px=part.height_px)
            for part, body in zip(reply.parts, bodies, strict=True)
        ),
        truncated=reply.truncated,
        tiled=reply.tiled,
        one_of_several=reply.one_of_several,
    )


def _error_for_exit(exit_code: int | None) -> ImageInvalid | ImageFetchFailed:
    if exit_code == -signal.SIGKILL:
        # By the kernel's OOM killer or by an operator; no picture can cause this.
        return ImageFetchFailed("the image helper was killed")
    if exit_code == -signal.SIGXCPU:
        return ImageInvalid("decoding the image took too much CPU time")
    return ImageInvalid("the decoder crashed on the image")
