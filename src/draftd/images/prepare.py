"""From the bytes of an image to the JPEG parts that a model sees.

Owns the helper processes and what their ends mean; the decoding itself is ``decoder``'s, which runs in them and is
never imported here. Magic bytes decide what a picture is, never the name or the Content-Type.

Invariants: no byte of a picture is decoded in this process; a helper that did not finish its picture, for whatever
reason, is killed and never asked again; what a helper says is checked like any other foreign input.
"""

import asyncio
import json
import os
import signal
import struct
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageTooLarge, ImageUnsupported, InternalError
from draftd.images.layout import JPEG_HEADER_BYTES, MAX_SLICES, PICTURE_PIXELS

DECODER = Path(__file__).with_name("decoder.py")
MAX_HELPERS = 2
DECODE_S = 30.0
"""The clock for one picture; the helper's limit of processor time is below it."""
START_S = 10.0
MAX_PICTURES_PER_HELPER = 256
"""A fresh process now and then undoes what fragmentation did to its address space."""

_LENGTH = struct.Struct(">I")
_MAX_HEADER_BYTES = 64 * 1024
_JPEG_BLOCK_PX = 8
_PIECE_BYTES = 256 * 1024

SNIFFED_BYTES = 1024
_ACCEPTED = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"))
_KNOWN = (
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"qoif", "QOI"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)


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


class _PartHeader(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    size: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)]
    width_px: Annotated[int, Field(ge=1, le=65_535)]
    height_px: Annotated[int, Field(ge=1, le=65_535)]

    @model_validator(mode="after")
    def _has_a_byte_a_pixel_at_most(self) -> Self:
        # What the room that is set aside for a request's messages relies on. JPEG fills the blocks at the edges up.
        block_px = _JPEG_BLOCK_PX
        blocks = -(-self.width_px // block_px) * -(-self.height_px // block_px)
        if self.size > blocks * block_px**2 + JPEG_HEADER_BYTES:
            raise ValueError("more bytes than pixels")
        return self


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    outcome: Literal["ok", "invalid", "unsupported", "pixels", "memory"]
    width_px: Annotated[int, Field(ge=0)] = 0
    height_px: Annotated[int, Field(ge=0)] = 0
    truncated: bool = False
    tiled: bool = False
    parts: Annotated[list[_PartHeader], Field(max_length=MAX_SLICES)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _shows_what_was_read(self) -> Self:
        if self.outcome == "ok" and not self.parts:
            raise ValueError("a picture without parts")
        return self


class _HelperDied(Exception):
    """A helper ended instead of answering."""


class _HelperLied(_HelperDied):
    """A helper spoke nonsense; it is this process that ends it then."""


class _Helper:
    """One helper process; it answers one picture at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pictures = 0

    @classmethod
    async def start(cls, program: Path) -> "_Helper":
        """Start a process, with nothing of this one but the two pipes.

        Raises:
            InternalError: the system refused.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(program),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={},
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            raise InternalError("the image helper could not be started") from error
        return cls(process)

    async def ready(self) -> None:
        """Wait until it says that its limits stand.

        Raises:
            InternalError: it does not say so; no picture is to blame.
        """
        try:
            async with asyncio.timeout(START_S):
                await self._read_header()
        except (_HelperDied, TimeoutError) as error:
            raise InternalError("the image helper did not start") from error

    async def ask(self, header: dict[str, str | int], data: memoryview) -> tuple[_Reply, list[bytes]]:
        """Send one picture and return the answer.

        Raises:
            _HelperDied: there was none.
        """
        self.pictures += 1
        await self._send(header, data)
        try:
            reply = _Reply.model_validate_json(await self._read_header())
            return reply, [await self._stdout.readexactly(part.size) for part in reply.parts]
        except ValidationError as error:
            raise _HelperLied from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _HelperDied from error

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as is known."""
        return self._process.returncode is None

    def kill(self) -> None:
        """End the process at once; it has nothing to save."""
        # Not Process.kill(): it polls first, and takes the exit code of a helper that just died from asyncio's watcher.
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for the end of a killed or dead process and return its exit code, negative for a signal."""
        # What it still wrote must be read: a full buffer keeps the pipe, and with it wait(), from ending.
        with suppress(ConnectionError):
            await self._stdout.read()
        return await self._process.wait()

    async def _send(self, header: dict[str, str | int], data: memoryview) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        head = json.dumps({**header, "size": len(data)}).encode()
        try:
            self._process.stdin.write(_LENGTH.pack(len(head)) + head)
            for start in range(0, len(data), _PIECE_BYTES):
                self._process.stdin.write(data[start : start + _PIECE_BYTES])
                await self._process.stdin.drain()
        except ConnectionError as error:
            raise _HelperDied from error

    async def _read_header(self) -> bytes:
        try:
            (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
            if length > _MAX_HEADER_BYTES:
                raise _HelperLied
            return await self._stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _HelperDied from error

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        return self._process.stdout


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
        self._idle: list[_Helper] = []
        self._ending: set[_Helper] = set()

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
        """End every helper and wait until it has gone."""
        while self._idle:
            self._discard(self._idle.pop())
        while self._ending:
            await self._ending.pop().ended()

    async def _decode(self, header: dict[str, str | int], data: memoryview, *, time_s: float) -> Prepared:
        # With the full time the picture is to blame; with the rest of a slow attempt it may not be.
        allowed_s, is_to_blame = min(time_s, DECODE_S), time_s >= DECODE_S
        try:
            async with asyncio.timeout(allowed_s):
                return await self._try(header, data)
        except TimeoutError as error:
            if not is_to_blame:
                raise ImageFetchFailed("no time was left to decode the image") from error
            raise ImageInvalid(f"decoding the image took more than {allowed_s:.1f} s") from error

    async def _try(self, header: dict[str, str | int], data: memoryview, *, fresh: bool = False) -> Prepared:
        helper = await (self._start() if fresh else self._take())
        # A helper that has worked before can die, or be short of memory, for what came before this picture.
        worn = helper.pictures > 0
        try:
            reply, bodies = await self._ask(helper, header, data)
        except _HelperDied as error:
            exit_code = await helper.ended()
            # Processor time is counted anew for each picture, so none of it went to another.
            if worn and exit_code != -signal.SIGXCPU:
                return await self._try(header, data, fresh=True)
            raise _autopsy(None if isinstance(error, _HelperLied) else exit_code) from error
        if worn and reply.outcome == "memory":
            return await self._try(header, data, fresh=True)
        return _prepared(reply, bodies, max_pixels=self._limits["max_pixels"])

    async def _ask(self, helper: _Helper, header: dict[str, str | int], data: memoryview) -> tuple[_Reply, list[bytes]]:
        reusable = False
        try:
            reply, bodies = await helper.ask(header, data)
            reusable = reply.outcome != "memory" and helper.pictures < MAX_PICTURES_PER_HELPER
        finally:
            if reusable:
                self._idle.append(helper)
            else:
                self._discard(helper)
        return reply, bodies

    async def _take(self) -> _Helper:
        while self._idle:
            helper = self._idle.pop()
            if helper.alive:
                return helper
            self._discard(helper)
        return await self._start()

    async def _start(self) -> _Helper:
        helper = await _Helper.start(self._program)
        is_ready = False
        try:
            await helper.ready()
            is_ready = True
        finally:
            if not is_ready:
                self._discard(helper)
        return helper

    def _discard(self, helper: _Helper) -> None:
        helper.kill()
        self._ending = {other for other in self._ending if other.alive} | {helper}


def sniff(data: bytes) -> str:
    """Return Pillow's name of an accepted format, by the magic bytes alone; ``SNIFFED_BYTES`` of a file are enough.

    Raises:
        ImageUnsupported: a known kind of image that is not accepted.
        ImageInvalid: anything else.
    """
    for magic, name in _ACCEPTED:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    other = next((name for magic, name in _KNOWN if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = _BRANDS.get(data[8:12])
    if _looks_like_svg(data):
        other = "SVG"
    if other:
        raise ImageUnsupported(f"{other} is not accepted; PNG, JPEG, WebP and GIF are")
    raise ImageInvalid("the bytes are not an image")


def _looks_like_svg(data: bytes) -> bool:
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head


def _prepared(reply: _Reply, bodies: list[bytes], *, max_pixels: int) -> Prepared:
    match reply.outcome:
        case "pixels":
            raise ImageTooLarge(f"the image has more than {max_pixels} pixels")
        case "memory":
            raise ImageTooLarge("decoding the image takes too much memory")
        case "unsupported":
            raise ImageUnsupported("the image is of a variety of its format that is not accepted")
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
    )


def _autopsy(exit_code: int | None) -> ImageInvalid | ImageFetchFailed:
    if exit_code == -signal.SIGKILL:
        # By the kernel that was short of memory, or by an operator: no picture can do that.
        return ImageFetchFailed("the image helper was killed")
    if exit_code == -signal.SIGXCPU:
        return ImageInvalid("decoding the image took too much processor time")
    return ImageInvalid("the decoder died on the image")
