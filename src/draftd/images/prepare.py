"""From the bytes of an image to the JPEG parts that a model sees.

Owns the pool of helper processes, and the meaning of their answers and exits. ``decoder`` does the decoding; it runs in the
helpers and is never imported here.

Invariants: no byte of a picture is decoded in this process; a helper that did not finish its picture, for whatever reason, is
killed and never asked again.
"""

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageTooLarge, ImageUnsupported
from draftd.images.formats import SNIFFED_BYTES, sniff
from draftd.images.helper import Helper, HelperDied, HelperLied, Reply
from draftd.images.layout import PICTURE_PIXELS

DECODER = Path(__file__).with_name("decoder.py")
MAX_HELPERS = 2
DECODE_S = 30.0
"""Wall time for one picture; the helper's CPU time limit is below it."""
OWN_HELPER = "HEIF"
"""The format whose decoder gets a process for each picture (docs/adr/0022)."""
MAX_PICTURES_PER_HELPER = 256
"""What a decoder that was taken over may see of others; a new process also undoes the fragmentation of its address space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One picture as the model gets it."""

    data: bytes = field(repr=False)
    """JPEG, without metadata."""
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An image, read and cut into parts."""

    width_px: int
    height_px: int
    """Of the original, upright."""
    parts: tuple[Part, ...]
    truncated: bool
    """Whether the middle of a very long picture was left out."""
    tiled: bool = False
    """Whether the first part is the whole, and the others are its tiles, row by row."""
    one_of_several: bool = False
    """Whether the file has further frames or pictures, which were left out."""


class Preparer:
    """Turns images into parts, in a small pool of helper processes.

    Args:
        max_pixels: the largest image.
        processes: how many helpers at most; two, or one on a single core, if None. Each starts when it is first needed.
        long_edge_px: of a picture that is sent whole.
        program: what a helper runs.
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
        """Read an image and cut it into parts.

        Args:
            data: the bytes as fetched.
            time_s: seconds left, for the wait for a helper and the decoding.
            part_pixels: the most that a picture which is sent whole may have.

        Raises:
            ImageUnsupported: an image of another kind.
            ImageInvalid: not an image, broken, or its decoder crashed or took too long (which may be tried again if
                the time was short for any picture).
            ImageTooLarge: over the limit of pixels or of memory.
            ImageFetchFailed: no helper was free in time, or it was killed by somebody else.
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
                raise ImageFetchFailed("there was no time left to decode the image")
            return await self._decode(header, memoryview(data), time_s=left_s)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """End every helper and wait for it."""
        while self._idle:
            self._discard(self._idle.pop())
        while self._ending:
            await self._ending.pop().ended()

    async def _decode(self, header: dict[str, str | int], data: memoryview, *, time_s: float) -> Prepared:
        # If it had the full time, the picture is to blame; with what a slow attempt left, it may not be.
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
        # A helper that has worked before may die, or run out of memory, because of an earlier picture.
        worn = helper.pictures > 0
        try:
            reply, bodies = await self._ask(helper, header, data)
        except HelperDied as error:
            exit_code = await helper.ended()
            # CPU time is counted per picture, so no other picture used any of it.
            if worn and exit_code != -signal.SIGXCPU:
                return await self._try(header, data, fresh=True)
            raise _autopsy(None if isinstance(error, HelperLied) else exit_code) from error
        if worn and reply.outcome == "memory":
            return await self._try(header, data, fresh=True)
        return _prepared(reply, bodies, max_pixels=self._limits["max_pixels"])

    async def _ask(self, helper: Helper, header: dict[str, str | int], data: memoryview) -> tuple[Reply, list[bytes]]:
        reusable = False
        try:
            reply, bodies = await helper.ask(header, data)
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


def _autopsy(exit_code: int | None) -> ImageInvalid | ImageFetchFailed:
    if exit_code == -signal.SIGKILL:
        # By the kernel when memory ran out, or by an operator: no picture can do that.
        return ImageFetchFailed("the image helper was killed")
    if exit_code == -signal.SIGXCPU:
        return ImageInvalid("decoding the image took too much CPU time")
    return ImageInvalid("the decoder crashed on the image")
