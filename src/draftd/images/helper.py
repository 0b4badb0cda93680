"""One helper process: how it is started, asked and ended, and the protocol on its two pipes.

Owns the daemon's side of the pipes; ``decoder`` runs at the other end. A helper's answers are validated like any external input.
"""

import asyncio
import json
import os
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from draftd.errors import InternalError
from draftd.images.layout import JPEG_HEADER_BYTES, MAX_SLICES

START_S = 10.0

_LENGTH = struct.Struct(">I")
_MAX_HEADER_BYTES = 64 * 1024
_JPEG_BLOCK_PX = 8
_PIECE_BYTES = 256 * 1024
"""Of a picture on its way to the helper: the pipe's transport copies what it cannot write at once, beyond the picture's room."""


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


class Reply(BaseModel):
    """A helper's answer about a picture; the bodies of its parts follow."""

    model_config = ConfigDict(strict=True, frozen=True)

    outcome: Literal["ok", "invalid", "unsupported", "pixels", "memory"]
    width_px: Annotated[int, Field(ge=0)] = 0
    height_px: Annotated[int, Field(ge=0)] = 0
    truncated: bool = False
    tiled: bool = False
    one_of_several: bool = False
    parts: Annotated[list[_PartHeader], Field(max_length=MAX_SLICES)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _shows_what_was_read(self) -> Self:
        if self.outcome == "ok" and not self.parts:
            raise ValueError("a picture without parts")
        return self


class HelperDied(Exception):
    """A helper ended instead of answering."""


class HelperLied(HelperDied):
    """A helper broke the protocol; this process then ends it."""


class Helper:
    """One helper process; it answers one picture at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pictures = 0

    @classmethod
    async def start(cls, program: Path, *arguments: str) -> "Helper":
        """Start a process, with nothing of this one but the two pipes.

        Raises:
            InternalError: the system refused.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(program),
                *arguments,
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
        """Wait until the helper reports that its limits are set.

        Raises:
            InternalError: it does not report; no picture is to blame.
        """
        try:
            async with asyncio.timeout(START_S):
                await self._read_header()
        except (HelperDied, TimeoutError) as error:
            raise InternalError("the image helper did not start") from error

    async def ask(self, header: dict[str, str | int], data: memoryview) -> tuple[Reply, list[bytes]]:
        """Send one picture and return the answer.

        Raises:
            HelperDied: the helper ended without one.
        """
        self.pictures += 1
        await self._send(header, data)
        try:
            reply = Reply.model_validate_json(await self._read_header())
            return reply, [await self._stdout.readexactly(part.size) for part in reply.parts]
        except ValidationError as error:
            raise HelperLied from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise HelperDied from error

    @property
    def alive(self) -> bool:
        """Whether the process is still running, as far as known."""
        return self._process.returncode is None

    def kill(self) -> None:
        """End the process at once; it has nothing to save."""
        # Not Process.kill(): it polls first, and takes the exit code of a helper that just died from asyncio's watcher.
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for the end of a killed or dead process and return its exit code, negative for a signal."""
        # Read what it still wrote: a full buffer keeps the pipe open, and wait() from returning.
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
            raise HelperDied from error

    async def _read_header(self) -> bytes:
        try:
            (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
            if length > _MAX_HEADER_BYTES:
                raise HelperLied
            return await self._stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise HelperDied from error

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        return self._process.stdout
