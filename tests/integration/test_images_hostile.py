"""Every hostile file ends as a prepared image or as a code of the contract, and leaves the helper that read it able to go on."""

import asyncio
import itertools
import json
import os
import platform
import struct
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from draftd.errors import ImageInvalid, ImageTooLarge, ImageUnsupported, RequestError
from draftd.images import Preparer, sandbox
from draftd.images.prepare import DECODER, MAX_HELPERS
from fix_hostile import (
    IEND,
    PNG_MARK,
    animation,
    bomb,
    exif_of,
    flat_png,
    gif_pieces,
    gif_with_large_frame,
    jpeg_of_scans,
    jpeg_segment,
    jpeg_with,
    jpeg_with_restarts,
    mpo,
    png_chunk,
    png_header,
    png_pieces,
    png_with,
    webp_chunks,
)
from fix_images import encoded, heic, make_decoder, make_noise, make_picture, make_png

MAX_PIXELS = 40_000_000
CANVAS = b"\0" * 4 + b"\x3f\0\0\x2f\0\0"
"""What a VP8X chunk says of 64x48 pixels."""
UNNEEDED_MODULES = {"socket", "ssl", "http", "urllib", "asyncio", "multiprocessing", "sqlite3", "pickle", "draftd"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def preparer() -> AsyncIterator[Preparer]:
    """One helper for all files: what one of them breaks, the next one meets."""
    running = Preparer(max_pixels=MAX_PIXELS, processes=1)
    yield running
    await running.aclose()


def harmful(data: bytes, at: int, bytes_: bytes) -> bytes:
    return data[:at] + bytes_ + data[at + len(bytes_) :]


def noise(image_format: str, **options: object) -> bytes:
    return encoded(make_noise(200, 150), image_format, **options)


def claiming(data: bytes, width_px: int, height_px: int) -> bytes:
    """Return a HEIC or AVIF whose boxes say that it is of another size; its codes stay as they are."""
    at = data.index(b"ispe") + 8
    return harmful(data, at, struct.pack(">II", width_px, height_px))


def avif_with_notes(count: int) -> bytes:
    """Return an AVIF whose EXIF block has very many entries; Pillow warns of each, as it writes it."""
    with warnings.catch_warnings(action="ignore"):
        return encoded(make_picture(), "AVIF", exif=exif_of([(500 + n, 2, 4_000, 8) for n in range(count)]))


def blank_frames(image_format: str, count: int) -> bytes:
    """Return an animation that shows nothing, in two shades that a decoder keeps apart."""
    shades = (Image.new("RGB", (16, 16), name) for name in itertools.cycle(("white", "#fefefe")))
    first, *rest = itertools.islice(shades, count)
    return encoded(first, image_format, save_all=True, append_images=rest, duration=20)


def scan_of(jpeg: bytes) -> int:
    return jpeg.index(b"\xff\xda") + 14


REFUSED: dict[str, tuple[Callable[[], bytes], type[RequestError]]] = {
    "a PNG with a wrong checksum": (lambda: harmful(make_png(), 29, b"\0\0\0\0"), ImageInvalid),
    "a PNG without its header": (lambda: PNG_MARK + make_png()[33:], ImageInvalid),
    "a PNG of no width": (lambda: flat_png(0, 9), ImageInvalid),
    "a PNG of no height": (lambda: flat_png(9, 0), ImageInvalid),
    "a PNG of impossible bits": (lambda: PNG_MARK + png_header(9, 9, bits=5, colour=6) + IEND, ImageInvalid),
    "a PNG of a palette that is missing": (lambda: flat_png(9, 9, colour=3)[:33] + IEND, ImageInvalid),
    "a PNG whose pixels are no zlib": (
        lambda: PNG_MARK + png_header(9, 9) + png_chunk(b"IDAT", b"\xff" * 99) + IEND,
        ImageInvalid,
    ),
    "a PNG that ends within its pixels": (lambda: noise("PNG")[:9_000], ImageInvalid),
    "a PNG of endless empty pixels": (lambda: png_pieces(png_chunk(b"IDAT"), before=True), ImageInvalid),
    "a PNG of very many chunks": (lambda: png_pieces(png_chunk(b"prIv"), before=True), ImageInvalid),
    "a PNG of very many texts behind its pixels": (
        lambda: png_pieces(png_chunk(b"tEXt", b"a\0b"), before=False),
        ImageInvalid,
    ),
    "a PNG of 12,000 by 12,000": (lambda: flat_png(12_000, 12_000), ImageTooLarge),
    "a PNG of four billion by four billion": (
        lambda: PNG_MARK + png_header(2**32 - 1, 2**32 - 1) + IEND,
        ImageTooLarge,
    ),
    "a JPEG with a broken Huffman table": (
        lambda: noise("JPEG").replace(b"\xff\xc4", b"\xff\xc4\0\x1f\0" + b"\xff" * 28, 1),
        ImageInvalid,
    ),
    "a JPEG without tables": (
        lambda: encoded(make_picture(), "JPEG").replace(b"\xff\xdb", b"\xff\xef"),
        ImageInvalid,
    ),
    "a JPEG that ends within its pixels": (lambda: noise("JPEG")[:5_000], ImageInvalid),
    "a JPEG of 1,000 scans": (lambda: jpeg_of_scans(1_000), ImageInvalid),
    "a JPEG of very many segments": (lambda: jpeg_with(jpeg_segment(0xE5) * 70_000), ImageInvalid),
    "a JPEG of arithmetic code": (
        lambda: encoded(make_picture(), "JPEG").replace(b"\xff\xc0", b"\xff\xc9"),
        ImageUnsupported,
    ),
    "a JPEG of no height": (
        lambda: encoded(make_picture(), "JPEG").replace(b"\x08\0\x30\0\x40", b"\x08\0\0\0\x40"),
        ImageInvalid,
    ),
    "a GIF with broken codes": (lambda: harmful(noise("GIF"), 900, b"\xff" * 2_000), ImageInvalid),
    "a GIF of no frame": (lambda: encoded(make_picture(mode="P"), "GIF")[:781] + b";", ImageInvalid),
    "a GIF of very many extensions": (lambda: gif_pieces(b"!\x01\0"), ImageInvalid),
    "a GIF of one very long comment": (lambda: gif_pieces(b"!\xfe" + b"\1a" * 70_000 + b"\0"), ImageInvalid),
    "a GIF of very many long comments": (lambda: gif_pieces(b"!\xfe" + b"\1a" * 9_000 + b"\0"), ImageInvalid),
    "a GIF whose frame is far larger than its screen": (lambda: gif_with_large_frame(60_000, 60_000), ImageTooLarge),
    "a WebP of a chunk too short": (lambda: webp_chunks((b"VP8 ", b"\0")), ImageInvalid),
    "a WebP of very many chunks": (
        lambda: webp_chunks((b"VP8X", CANVAS), *[(b"JUNK", b"")] * 100_000),
        ImageInvalid,
    ),
    "a WebP of another picture first": (lambda: webp_chunks((b"JUNK", b""), (b"VP8X", CANVAS)), ImageInvalid),
    "a HEIC that claims 20,000 by 20,000": (lambda: claiming(heic(), 20_000, 20_000), ImageTooLarge),
    "a HEIC that claims more pixels than it codes": (lambda: claiming(heic(), 6_000, 6_000), ImageInvalid),
    "a HEIC of no width": (lambda: claiming(heic(), 0, 48), ImageInvalid),
    "a cropped HEIC of too many pixels": (lambda: claiming(heic("tiles"), 20_000, 20_000), ImageTooLarge),
    "a HEIC that ends within its pixels": (lambda: heic()[:-60], ImageInvalid),
    "a HEIC that ends within its boxes": (lambda: heic()[:200], ImageInvalid),
    "a HEIC of nothing but its brand": (lambda: heic()[:28], ImageInvalid),
    "a HEIC of tiles that are missing": (lambda: heic("tiles").replace(b"hvc1", b"free"), ImageInvalid),
    "a HEIC of very many boxes": (lambda: heic()[:28] + b"\0\0\0\x08free" * 250_000 + heic()[28:], ImageInvalid),
    "a HEIC that holds an AV1": (
        lambda: encoded(make_picture(), "AVIF").replace(b"avif", b"heic", 1).replace(b"avif", b"heic"),
        ImageUnsupported,
    ),
    "an AVIF that claims 20,000 by 20,000": (
        lambda: claiming(encoded(make_picture(), "AVIF"), 20_000, 20_000),
        ImageTooLarge,
    ),
    "an AVIF that ends within its pixels": (lambda: noise("AVIF")[:-4_000], ImageInvalid),
    "an AVIF of nothing but its brand": (lambda: encoded(make_picture(), "AVIF")[:32], ImageInvalid),
    "a WebP with broken codes": (lambda: harmful(noise("WEBP", lossless=True), 60, b"\xff" * 900), ImageInvalid),
}

ACCEPTED: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "a PNG whose text unfolds to 60 MB": (lambda: png_with(bomb(b"zTXt")), (64, 48)),
    "a PNG whose international text unfolds to 60 MB": (lambda: png_with(bomb(b"iTXt")), (64, 48)),
    "a PNG whose colour profile unfolds to 60 MB": (lambda: png_with(bomb(b"iCCP")), (64, 48)),
    "a PNG without its end": (lambda: make_png()[:-12], (64, 48)),
    "a PNG that is a ZIP": (lambda: make_png() + b"PK\3\4" + bytes(99), (64, 48)),
    "a PNG of one column": (lambda: flat_png(1, 30_000), (1, 30_000)),
    "a PNG of one row": (lambda: flat_png(65_535, 1), (65_535, 1)),
    "an interlaced PNG": (lambda: flat_png(301, 203, interlaced=True), (301, 203)),
    "a PNG of 16 bits a channel": (lambda: flat_png(30, 20, bits=16, colour=6), (30, 20)),
    "an animated PNG": (lambda: animation("PNG", 20), (16, 16)),
    "a JPEG that is HTML": (lambda: jpeg_with(jpeg_segment(0xFE, b"<script>alert(1)</script>")), (64, 48)),
    "a JPEG of 18 MB of notes": (lambda: jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300), (64, 48)),
    "a JPEG with a megabyte of padding": (lambda: jpeg_with(b"\xff" * 1_000_000), (64, 48)),
    "a JPEG of restarts out of order": (jpeg_with_restarts, (200, 200)),
    "a JPEG of more than one picture": (mpo, (64, 48)),
    "a JPEG with appended pictures of scans": (
        lambda: encoded(make_picture(), "JPEG") + b"\xff\xda\0\2" * 1_000,
        (64, 48),
    ),
    "a GIF that is a script": (
        lambda: encoded(make_picture(mode="P"), "GIF") + b"*/=1;alert(1)",
        (64, 48),
    ),
    "a GIF of 2,000 frames": (lambda: animation("GIF", 2_000), (16, 16)),
    "a WebP of 1,000 frames": (lambda: animation("WEBP", 1_000), (16, 16)),
    "a GIF of 2,000 blank frames": (lambda: blank_frames("GIF", 2_000), (16, 16)),
    "an animated PNG of 2,000 blank frames": (lambda: blank_frames("PNG", 2_000), (16, 16)),
    "a WebP of 1,000 blank frames": (lambda: blank_frames("WEBP", 1_000), (16, 16)),
    "an AVIF of 40 frames": (lambda: animation("AVIF", 40), (16, 16)),
    "an AVIF with 65,000 notes": (lambda: avif_with_notes(65_000), (64, 48)),
    "an AVIF that claims more pixels than it codes": (
        lambda: claiming(encoded(make_picture(), "AVIF"), 6_000, 6_000),
        (6_000, 6_000),
    ),
    "an AVIF with broken codes": (lambda: noise("AVIF")[:-4_000] + b"\xff" * 4_000, (200, 150)),
    "a HEIC with broken codes": (lambda: heic()[:-120] + b"\xa5" * 120, (64, 48)),
    "a HEIC with appended pictures": (lambda: heic() + make_png() * 99, (64, 48)),
    "a HEIC that is HTML": (lambda: heic() + b"<script>alert(1)</script>", (64, 48)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused(preparer: Preparer, name: str) -> None:
    make, error = REFUSED[name]

    with pytest.raises(error, match="image"):
        await preparer.prepare(make(), time_s=30)

    assert_is_usable(preparer, is_expected="HEIC" not in name)


@pytest.mark.parametrize("name", ACCEPTED)
async def test_it_is_read(preparer: Preparer, name: str) -> None:
    make, size = ACCEPTED[name]

    prepared = await preparer.prepare(make(), time_s=30)

    assert (prepared.width_px, prepared.height_px) == size
    assert_is_usable(preparer, is_expected="HEIC" not in name)


def assert_is_usable(preparer: Preparer, *, is_expected: bool) -> None:
    """Check that the helper can read the next picture; that of a HEIC reads no other."""
    if is_expected:
        (helper,) = preparer._idle
        assert helper.alive


@pytest.mark.parametrize("error", ["TypeError", "KeyError", "AttributeError", "ZeroDivisionError", "RecursionError"])
async def test_whatever_pillow_raises_the_helper_goes_on(tmp_path: Path, error: str) -> None:
    program = make_decoder(tmp_path, f"def broken(*a, **k):\n    raise {error}\ndecoder._encode = broken")
    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)

    with pytest.raises(ImageInvalid, match="corrupt"):
        await preparer.prepare(make_png(), time_s=10)

    assert preparer._idle[0].alive
    await preparer.aclose()


async def test_no_more_helpers_run_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "began")
    program = make_decoder(
        tmp_path,
        f"began = os.open({str(tmp_path / 'began')!r}, os.O_WRONLY)\n"
        "def wait(data, **options):\n"
        "    os.write(began, b'x')\n"
        "    time.sleep(600)\n"
        "decoder._lower = lambda limit, value: None\n"
        "decoder.render = wait",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)
    reader = os.open(tmp_path / "began", os.O_RDWR)
    places = min(MAX_HELPERS, len(os.sched_getaffinity(0)))
    waiting = [asyncio.create_task(preparer.prepare(make_png(), time_s=60)) for _ in range(places + 2)]
    for _ in range(places):
        assert await asyncio.to_thread(os.read, reader, 1) == b"x"

    assert preparer._slots.locked()
    assert len(list_children()) == places

    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await preparer.aclose()
    os.close(reader)
    assert list_children() == []


def list_children() -> list[int]:
    """Return the children of this process that run a changed decoder."""
    found = []
    for pid in (Path("/proc/self/task") / str(os.getpid()) / "children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            if b"changed_decoder" in (Path("/proc") / pid / "cmdline").read_bytes():
                found.append(int(pid))
    return found


def frame(data: bytes, image_format: str) -> bytes:
    limits = {"format": image_format, "max_pixels": MAX_PIXELS, "long_edge_px": 1568, "part_pixels": 1_000_000}
    head = json.dumps({"size": len(data), **limits}).encode()
    return struct.pack(">I", len(head)) + head + data


async def test_a_helper_loads_no_module_that_it_does_not_need(tmp_path: Path) -> None:
    program = make_decoder(
        tmp_path, "import atexit\natexit.register(lambda: print(*sys.modules, sep=chr(10), file=sys.stderr))"
    )
    frames = b"".join(frame(encoded(make_picture(), name), name) for name in ("PNG", "JPEG", "WEBP", "GIF", "AVIF"))

    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-I", str(program)], input=frames, capture_output=True, env={}, check=True
    )

    assert done.stdout.count(b'"outcome": "ok"') == 5
    modules = done.stderr.decode().split()
    assert {name.split(".")[0] for name in modules} & UNNEEDED_MODULES == set()
    plugins = {name for name in modules if name.endswith("ImagePlugin")}
    assert plugins == {f"PIL.{name}ImagePlugin" for name in ("Png", "Jpeg", "Gif", "WebP", "Avif", "Tiff")}
    assert not any("heif" in name for name in modules)


ESCAPES = {
    "file": "open('/etc/hostname')",
    "socket": "__import__('_socket').socket()",
    "pipe": "os.pipe()",
    "module": "import sqlite3",
    "file in the place of a pipe": "os.close(2) or open('/etc/hostname')",
    "socket in the place of a pipe": "os.close(0) or __import__('_socket').socket()",
}


async def expect_refused(program: Path) -> None:
    """Let both kinds of helpers try what they must not: they say ``pixels`` where the kernel refused it."""
    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)
    for data in (make_png(), heic()):
        with pytest.raises(ImageTooLarge):
            await preparer.prepare(data, time_s=10)
    await preparer.aclose()


@pytest.mark.parametrize("way", ESCAPES)
async def test_a_helper_cannot_open_anything(tmp_path: Path, way: str) -> None:
    program = make_decoder(
        tmp_path,
        "import _socket\n"
        "def escape(data, **options):\n"
        "    try:\n"
        f"        {ESCAPES[way]}\n"
        "    except OSError as error:\n"
        "        return {'outcome': 'pixels' if error.errno == 24 else 'ok'}, []\n"
        "    return {'outcome': 'ok'}, []\n"
        "decoder.render = escape",
    )
    await expect_refused(program)


REACHES = {
    "a signal": "libc.kill(os.getppid(), 0)",
    "a debugger": "libc.ptrace(16, os.getppid(), None, None)",
    "its memory, to read": "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
    "a process of its own": "libc.fork()",
    "another program": "libc.execve(b'/bin/true', None, None)",
    "the interface of 32 bits": "libc.syscall(0x4000_0000 + 39)",
    "a file, to delete it": "libc.unlink(MINE)",
}
MORE_REACHES = {
    "a signal to a thread": "libc.tgkill(os.getppid(), os.getppid(), 0)",
    "a signal with a value": "libc.sigqueue(os.getppid(), 0, None)",
    "its memory, to write": "libc.process_vm_writev(os.getppid(), None, 0, None, 0, 0)",
    "a signal by way of a pipe": "libc.fcntl(0, 8, os.getppid())",
    "its limits": "libc.prlimit(os.getppid(), 0, None, ctypes.byref((ctypes.c_ulong * 2)()))",
    "its priority": "libc.setpriority(0, os.getppid(), 0)",
    "its processors": "libc.sched_setaffinity(os.getppid(), 8, ctypes.byref(ctypes.c_ulong(2**64 - 1)))",
    "a file, to move it": "libc.rename(MINE, MINE + b'2')",
    "a file, to empty it": "libc.truncate(MINE, 0)",
    "a file, to show it to others": "libc.chmod(MINE, 0o777)",
    "a directory of its own": "libc.mkdir(MINE + b'2', 0o700)",
    "shared memory": "libc.shmget(0, 4096, 0o1600)",
    "the keys of its user": "libc.syscall(decoder.sandbox._REFUSED['keyctl'][platform.machine() == 'aarch64'], 0, -4, 0)",
}


@pytest.mark.skipif(not sandbox.filter_program(platform.machine()), reason="no filter for this machine")
@pytest.mark.parametrize("way", [*REACHES, *(pytest.param(one, marks=pytest.mark.long) for one in MORE_REACHES)])
async def test_a_helper_reaches_nothing_beyond_itself(tmp_path: Path, way: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("the daemon's")
    program = make_decoder(
        tmp_path,
        "import ctypes, platform\n"
        f"MINE = {bytes(mine)!r}\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def reach(data, **options):\n"
        f"    refused = {(REACHES | MORE_REACHES)[way]} == -1 and ctypes.get_errno() == 1\n"
        "    return {'outcome': 'pixels' if refused else 'invalid'}, []\n"
        "decoder.render = reach",
    )
    await expect_refused(program)


async def test_a_helper_in_the_midst_of_a_picture_dies_with_its_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "began")
    helper = make_decoder(
        tmp_path,
        f"began = os.open({str(tmp_path / 'began')!r}, os.O_WRONLY)\n"
        "def hang(data, **options):\n"
        "    os.write(began, str(os.getpid()).encode())\n"
        "    time.sleep(600)\n"
        "decoder._lower = lambda limit, value: None\n"
        "decoder.render = hang",
    )
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio, pathlib, sys\n"
        "from draftd.images import Preparer\n"
        f"preparer = Preparer(max_pixels=1000, program=pathlib.Path({str(helper)!r}))\n"
        f"asyncio.run(preparer.prepare({make_png(9, 9)!r}, time_s=60))\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, str(parent))
    reader = os.open(tmp_path / "began", os.O_RDWR)
    pid = int(await asyncio.to_thread(os.read, reader, 20))
    ended = os.pidfd_open(pid)

    process.kill()
    await process.wait()

    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(ended, gone.set)
    await asyncio.wait_for(gone.wait(), 10)
    asyncio.get_running_loop().remove_reader(ended)
    assert gone.is_set()
    os.close(ended)
    os.close(reader)


async def test_a_helper_obeys_its_decoder_and_nothing_beside_it(tmp_path: Path) -> None:
    """An isolated program imports from neither its own folder nor the one it was started in."""
    for name in ("json.py", "struct.py", "PIL.py"):
        (tmp_path / name).write_text("raise SystemExit('taken over')")
    program = tmp_path / "decoder.py"
    program.write_text(DECODER.read_text())
    for name in ("boxes.py", "containers.py", "hdr.py", "layout.py", "sandbox.py"):
        (tmp_path / name).write_text(DECODER.with_name(name).read_text())

    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)
    assert (await preparer.prepare(make_png(), time_s=10)).width_px == 64
    await preparer.aclose()
