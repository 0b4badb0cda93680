"""One helper process: its start, its end, and the protocol on its two pipes.

Owns the daemon's side of the pipes; ``decoder`` is the other side. Replies are validated like any external input.
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
"""Written at a time: the pipe's transport copies what it cannot write at once, and no memory is reserved for the copy."""


class _PartHeader(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    size: Annotated[int, Field(ge=1, le=16 * 1024 * 1024)]
    width_px: Annotated[int, Field(ge=1, le=65_535)]
    height_px: Annotated[int, Field(ge=1, le=65_535)]

    @model_validator(mode="after")
    def _has_a_byte_a_pixel_at_most(self) -> Self:
        # The memory reserved for a request's messages relies on this. JPEG pads blocks at the edges.
        block_px = _JPEG_BLOCK_PX
        blocks = -(-self.width_px // block_px) * -(-self.height_px // block_px)
        if self.size > blocks * block_px**2 + JPEG_HEADER_BYTES:
            raise ValueError("more bytes than pixels")
        return self


class Reply(BaseModel):
    """A helper's reply about a picture; the parts' bytes follow."""

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
    """A helper exited without a reply."""


class HelperProtocolError(HelperDied):
    """A helper violated the protocol; this process then kills it."""


class Helper:
    """One helper process; it decodes one picture at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pictures = 0

    @classmethod
    async def start(cls, program: Path, *arguments: str) -> "Helper":
        """Start a process that inherits only the two pipes.

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
            InternalError: it does not report; this is not a picture's fault.
        """
        try:
            async with asyncio.timeout(START_S):
                await self._read_header()
        except (HelperDied, TimeoutError) as error:
            raise InternalError("the image helper did not start") from error

    async def decode(self, header: dict[str, str | int], data: memoryview) -> tuple[Reply, list[bytes]]:
        """Send one picture and return the reply with the parts' bytes.

        Raises:
            HelperDied: the helper exited without a reply.
        """
        self.pictures += 1
        await self._send(header, data)
        try:
            reply = Reply.model_validate_json(await self._read_header())
            return reply, [await self._stdout.readexactly(part.size) for part in reply.parts]
        except ValidationError as error:
            raise HelperProtocolError from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise HelperDied from error

    @property
    def alive(self) -> bool:
        """Whether the process is running, as far as known."""
        return self._process.returncode is None

    def kill(self) -> None:
        """Kill the process."""
        # Not Process.kill(), which polls first and so may steal the exit code from asyncio's watcher.
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for the end of a killed or dead process and return its exit code, negative for a signal."""
        # Drain its output: a full buffer keeps the pipe open, and wait() from returning.
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
                raise HelperProtocolError
            return await self._stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise HelperDied from error

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        return self._process.stdout
