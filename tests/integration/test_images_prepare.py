import asyncio
import io
import os
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from benchmarks.images.costs import helpers_cpu_s, longest_callback
from PIL import Image

from draftd.errors import ImageFetchFailed, ImageInvalid, ImageTooLarge, ImageUnsupported, InternalError, Kind
from draftd.images import Part, Prepared, Preparer
from draftd.images.decoder import ADDRESS_SPACE_BYTES, CPU_S
from fix_images import BLUE, RED, encoded, heic, make_decoder, make_noise, make_picture, make_png

WHITE = (255, 255, 255)
MAX_PIXELS = 40_000_000


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def preparer() -> AsyncIterator[Preparer]:
    """Shared, because a helper takes longer to start than to read a small picture."""
    running = Preparer(max_pixels=MAX_PIXELS)
    yield running
    await running.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def fresh() -> AsyncIterator[Preparer]:
    running = Preparer(max_pixels=MAX_PIXELS)
    yield running
    await running.aclose()


def opened(part: Part) -> Image.Image:
    picture = Image.open(io.BytesIO(part.data))
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    assert picture.size == (part.width_px, part.height_px)
    return picture


def colour(picture: Image.Image, x: float, y: float) -> tuple[int, ...]:
    found = picture.getpixel((int(x * picture.width), int(y * picture.height)))
    assert isinstance(found, tuple)
    return found


def assert_near(found: tuple[int, ...], wanted: tuple[int, int, int], within: int = 12) -> None:
    assert all(abs(one - other) <= within for one, other in zip(found, wanted, strict=True)), f"{found} for {wanted}"


def only_part(prepared: Prepared) -> Image.Image:
    (part,) = prepared.parts
    return opened(part)


def grey_16_bit(value: int) -> bytes:
    return encoded(Image.new("I;16", (8, 8), value))


def huge_png(width_px: int, height_px: int) -> bytes:
    """Return a PNG of one colour and of any size, without ever holding it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze = zlib.compressobj(1)
    row = bytes(1 + width_px)
    rows = b"".join(squeeze.compress(row) for _ in range(height_px)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("AVIF", {"quality": 95}),
    ],
)
async def test_every_accepted_format_becomes_a_jpeg(
    preparer: Preparer, image_format: str, options: dict[str, int]
) -> None:
    prepared = await preparer.prepare(encoded(make_picture(), image_format, **options), time_s=10)

    picture = only_part(prepared)
    assert (prepared.width_px, prepared.height_px, prepared.truncated) == (64, 48, False)
    assert_near(colour(picture, 0.2, 0.2), RED)
    assert_near(colour(picture, 0.8, 0.8), BLUE)


@pytest.mark.parametrize(
    ("orientation", "red_at"),
    [(1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (0, 1)), (5, (0, 0)), (6, (1, 0)), (7, (1, 1)), (8, (0, 1))],
)
async def test_the_orientation_is_applied(preparer: Preparer, orientation: int, red_at: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(make_picture(), "JPEG", quality=95, exif=exif)

    prepared = await preparer.prepare(data, time_s=10)

    size = (64, 48) if orientation < 5 else (48, 64)
    assert (prepared.width_px, prepared.height_px) == size
    picture = only_part(prepared)
    assert_near(colour(picture, 0.2 + 0.6 * red_at[0], 0.2 + 0.6 * red_at[1]), RED)
    assert_near(colour(picture, 0.8 - 0.6 * red_at[0], 0.8 - 0.6 * red_at[1]), BLUE)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "AVIF"])
async def test_the_orientation_is_applied_whatever_the_format(preparer: Preparer, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    prepared = await preparer.prepare(encoded(make_picture(), image_format, exif=exif), time_s=10)

    assert (prepared.width_px, prepared.height_px) == (48, 64)
    assert_near(colour(only_part(prepared), 0.8, 0.2), RED, within=30)


@pytest.mark.parametrize(
    ("name", "size", "red_at", "blue_at"),
    [
        ("plain", (64, 48), (0.2, 0.2), (0.8, 0.8)),
        ("tiles", (640, 480), (0.2, 0.2), (0.8, 0.8)),
        ("turned", (48, 64), (0.8, 0.2), (0.2, 0.8)),
        ("several", (64, 48), (0.2, 0.2), (0.8, 0.8)),
    ],
)
async def test_a_heic_becomes_a_jpeg(
    preparer: Preparer,
    name: str,
    size: tuple[int, int],
    red_at: tuple[float, float],
    blue_at: tuple[float, float],
) -> None:
    prepared = await preparer.prepare(heic(name), time_s=10)

    picture = only_part(prepared)
    assert (prepared.width_px, prepared.height_px, prepared.truncated) == (*size, False)
    assert prepared.one_of_several is (name == "several")
    assert_near(colour(picture, *red_at), RED, within=30)
    assert_near(colour(picture, *blue_at), BLUE, within=30)


async def test_a_clear_or_grey_heic_is_shown_on_white(preparer: Preparer) -> None:
    clear = only_part(await preparer.prepare(heic("clear"), time_s=10))
    grey = only_part(await preparer.prepare(heic("grey"), time_s=10))

    assert_near(colour(clear, 0.8, 0.8), WHITE)
    assert_near(colour(clear, 0.2, 0.2), RED, within=30)
    assert len({round(value / 9) for value in colour(grey, 0.2, 0.2)}) == 1


def hdr_avif(transfer: int) -> bytes:
    """Return an AVIF of black, mid grey and white bars that says how bright its values are meant."""
    bars = Image.new("RGB", (90, 30))
    for number, value in enumerate((0, 92, 148)):  # of PQ: none, 20 and 203 cd/m2
        bars.paste((value,) * 3, (30 * number, 0, 30 * number + 30, 30))
    return encoded(bars, "AVIF", quality=100, subsampling="4:4:4").replace(
        b"nclx\0\1\0\x0d", b"nclx\0\x09\0" + bytes([transfer])
    )


async def test_the_white_of_an_hdr_screenshot_is_white(preparer: Preparer) -> None:
    """A tenth of the light of white is 89 in sRGB. What is brighter than white has no more to show."""
    of_ten_bits = only_part(await preparer.prepare(heic("hdr"), time_s=10))
    avif = only_part(await preparer.prepare(hdr_avif(16), time_s=10))
    ordinary = only_part(await preparer.prepare(hdr_avif(13), time_s=10))

    for x, value in ((0.12, 0), (0.37, 89), (0.62, 255), (0.87, 255)):
        assert_near(colour(of_ten_bits, x, 0.5), (value,) * 3)
    for x, value in ((0.17, 0), (0.5, 89), (0.83, 255)):
        assert_near(colour(avif, x, 0.5), (value,) * 3)
    assert_near(colour(ordinary, 0.83, 0.5), (148, 148, 148))


async def test_each_heic_has_a_process_of_its_own(fresh: Preparer) -> None:
    await fresh.prepare(heic(), time_s=10)
    await fresh.prepare(heic(), time_s=10)

    assert fresh._idle == []
    await fresh.prepare(make_png(), time_s=10)
    await fresh.prepare(heic(), time_s=10)
    assert [helper.pictures for helper in fresh._idle] == [1]


AS_NOBODY = """
lower = decoder._lower
def lower_as_nobody(limit, value):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    lower(limit, value)
decoder._lower = lower_as_nobody
"""
"""Root is bound by no limit of processes and threads; a daemon is not root."""


async def test_a_heic_is_read_whoever_the_daemon_runs_as(tmp_path: Path) -> None:
    preparer = Preparer(max_pixels=MAX_PIXELS, program=make_decoder(tmp_path, AS_NOBODY))

    assert (await preparer.prepare(heic(), time_s=10)).width_px == 64
    await preparer.aclose()


async def test_without_a_filter_no_heic_is_read_because_its_decoder_could_start_processes(tmp_path: Path) -> None:
    program = make_decoder(tmp_path, f"{AS_NOBODY}\ndecoder.sandbox.restrict = lambda **_: False")
    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)

    with pytest.raises(ImageUnsupported):
        await preparer.prepare(heic(), time_s=10)
    assert (await preparer.prepare(make_png(), time_s=10)).width_px == 64
    await preparer.aclose()


async def test_a_turned_capture_is_sliced_as_it_is_seen(preparer: Preparer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    prepared = await preparer.prepare(encoded(make_picture(4000, 800), "JPEG", exif=exif), time_s=10)

    assert (prepared.width_px, prepared.height_px) == (800, 4000)
    assert [part.width_px for part in prepared.parts] == [768, 768, 768]


async def test_a_broken_exif_does_not_break_the_picture(preparer: Preparer) -> None:
    data = encoded(make_picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 20)

    assert (await preparer.prepare(data, time_s=10)).width_px == 64


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
async def test_transparency_becomes_white(preparer: Preparer, image_format: str) -> None:
    picture = make_picture(mode="RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda value: 255 * (value > 127)))

    seen = only_part(await preparer.prepare(encoded(picture, image_format), time_s=10))

    assert_near(colour(seen, 0.2, 0.1), WHITE)
    assert_near(colour(seen, 0.8, 0.9), BLUE, within=25)


async def test_a_transparent_palette_becomes_white(preparer: Preparer) -> None:
    picture = make_picture().quantize(2)
    background = picture.getpixel((60, 40))

    for image_format in ("PNG", "GIF"):
        data = encoded(picture, image_format, transparency=background)
        seen = only_part(await preparer.prepare(data, time_s=10))
        assert_near(colour(seen, 0.8, 0.8), WHITE)
        assert_near(colour(seen, 0.2, 0.2), RED, within=25)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
async def test_few_colours_are_still_a_picture(preparer: Preparer, mode: str) -> None:
    seen = only_part(await preparer.prepare(encoded(make_picture(mode=mode)), time_s=10))

    assert colour(seen, 0.2, 0.2) != colour(seen, 0.8, 0.8)


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (300, 1), (32_896, 128), (65_535, 255)])
async def test_sixteen_bits_are_scaled_not_clipped(preparer: Preparer, value: int, grey: int) -> None:
    seen = only_part(await preparer.prepare(grey_16_bit(value), time_s=10))

    assert_near(colour(seen, 0.5, 0.5), (grey, grey, grey), within=2)


async def test_print_colours_become_screen_colours(preparer: Preparer) -> None:
    data = encoded(make_picture(mode="CMYK"), "JPEG", quality=95)

    assert_near(colour(only_part(await preparer.prepare(data, time_s=10)), 0.2, 0.2), RED)


async def test_the_first_frame_of_an_animation_counts(preparer: Preparer) -> None:
    frames = [Image.new("RGB", (32, 32), BLUE)]
    for image_format in ("GIF", "WEBP", "PNG"):
        data = encoded(Image.new("RGB", (32, 32), RED), image_format, save_all=True, append_images=frames, duration=50)
        assert_near(colour(only_part(await preparer.prepare(data, time_s=10)), 0.5, 0.5), RED)


def frames(image_format: str, *pictures: Image.Image) -> bytes:
    first, *rest = pictures
    return encoded(first, image_format, save_all=True, append_images=rest, duration=20)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF"])
async def test_of_an_animation_the_first_frame_that_is_not_blank_counts(preparer: Preparer, image_format: str) -> None:
    blank, green = Image.new("RGB", (64, 48), "white"), Image.new("RGB", (64, 48), "green")
    other = make_picture().transpose(Image.Transpose.ROTATE_180)

    prepared = await preparer.prepare(frames(image_format, blank, green, make_picture(), other), time_s=10)

    assert prepared.one_of_several
    assert not prepared.truncated
    assert_near(colour(only_part(prepared), 0.2, 0.2), RED, within=30)
    assert_near(colour(only_part(prepared), 0.8, 0.8), BLUE, within=30)


async def test_of_several_pictures_of_a_heic_the_first_that_is_not_blank_counts(preparer: Preparer) -> None:
    prepared = await preparer.prepare(heic("blank_first"), time_s=10)

    assert prepared.one_of_several
    assert_near(colour(only_part(prepared), 0.2, 0.2), RED, within=30)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF"])
async def test_of_an_animation_that_shows_nothing_the_first_frame_counts(preparer: Preparer, image_format: str) -> None:
    prepared = await preparer.prepare(
        frames(image_format, *(Image.new("RGB", (64, 48), name) for name in ("white", "green"))), time_s=10
    )

    assert prepared.one_of_several
    assert_near(colour(only_part(prepared), 0.5, 0.5), WHITE)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "JPEG"])
async def test_a_single_picture_leaves_nothing_out(preparer: Preparer, image_format: str) -> None:
    assert not (await preparer.prepare(encoded(make_picture(), image_format), time_s=10)).one_of_several


async def test_no_metadata_leaves_the_house(preparer: Preparer) -> None:
    exif = Image.Exif()
    exif[0x010E] = "private description"
    data = encoded(make_picture(), "JPEG", exif=exif, comment="private comment", icc_profile=b"private profile" * 20)
    assert b"private" in data

    (part,) = (await preparer.prepare(data, time_s=10)).parts

    assert b"private" not in part.data
    assert b"Exif" not in part.data


async def test_a_scrolling_capture_is_sliced_in_order(preparer: Preparer) -> None:
    picture = Image.linear_gradient("L").resize((1170, 8000)).convert("RGB")

    prepared = await preparer.prepare(encoded(picture, compress_level=1), time_s=10)

    assert (prepared.width_px, prepared.height_px, prepared.truncated) == (1170, 8000, False)
    pictures = [opened(part) for part in prepared.parts]
    assert [seen.width for seen in pictures] == [768] * 4
    tops = [colour(seen, 0.5, 0)[0] for seen in pictures]
    assert tops == sorted(tops)
    assert tops[1] < colour(pictures[0], 0.5, 0.999)[0]


async def test_a_screen_too_wide_to_be_read_whole_comes_whole_and_in_tiles_row_by_row(preparer: Preparer) -> None:
    prepared = await preparer.prepare(encoded(make_picture(3_840, 2_160)), time_s=20)

    whole, *tiles = prepared.parts
    assert (prepared.tiled, prepared.truncated) == (True, False)
    assert opened(whole).size == (1568, 882)
    assert_near(colour(opened(whole), 0.25, 0.25), RED)
    # The red quarter reaches into the overlap: all over the first tile, the left edge of the second, the top of the third.
    seen = [(colour(opened(part), 0.02, 0.5), colour(opened(part), 0.5, 0.02)) for part in tiles]
    expected = [(RED, RED), (RED, BLUE), (BLUE, RED), (BLUE, BLUE)]
    for found, wanted in zip(sum(seen, ()), sum(expected, ()), strict=True):
        assert_near(found, wanted, within=25)


async def test_a_very_long_capture_says_that_it_is_truncated(preparer: Preparer) -> None:
    prepared = await preparer.prepare(encoded(make_picture(300, 20_000)), time_s=10)

    assert (len(prepared.parts), prepared.truncated) == (6, True)


@pytest.mark.parametrize("size", [(1, 2), (2, 1568), (1568, 1), (9, 20)])
async def test_a_narrow_picture_may_take_more_as_its_blocks_are_filled_up(
    preparer: Preparer, size: tuple[int, int]
) -> None:
    noise = Image.frombytes("RGB", size, bytes(255 * (one & 1) for one in os.urandom(size[0] * size[1] * 3)))

    assert (await preparer.prepare(encoded(noise), time_s=10)).parts


async def test_a_part_takes_no_more_than_a_byte_a_pixel(preparer: Preparer) -> None:
    noise = Image.frombytes("RGB", (400, 300), os.urandom(400 * 300 * 3))

    (part,) = (await preparer.prepare(encoded(noise), time_s=10)).parts

    assert len(encoded(noise, "JPEG", quality=85, subsampling="4:4:4")) > 400 * 300 * 3 / 2
    assert len(part.data) <= 400 * 300 + 1024


async def test_a_bomb_is_refused_by_its_header(preparer: Preparer) -> None:
    with pytest.raises(ImageTooLarge, match="40 megapixels"):
        await preparer.prepare(huge_png(12_000, 12_000), time_s=10)


async def test_a_webp_is_refused_by_its_header_before_its_canvas_is_allocated(preparer: Preparer) -> None:
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    data = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas

    with pytest.raises(ImageTooLarge, match="pixels"):
        await preparer.prepare(data, time_s=10)


async def test_a_bomb_that_hides_behind_a_small_gif_screen_is_refused(preparer: Preparer) -> None:
    data = bytearray(encoded(make_picture(mode="P"), "GIF"))
    frame = data.index(b",\0\0\0\0\x40\0\x30\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 60_000, 60_000)

    with pytest.raises(ImageTooLarge, match="pixels"):
        await preparer.prepare(bytes(data), time_s=10)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
async def test_a_truncated_file_is_invalid(preparer: Preparer, image_format: str, share: float) -> None:
    data = encoded(make_noise(200, 150), image_format)

    with pytest.raises(ImageInvalid):
        await preparer.prepare(data[: int(len(data) * share)], time_s=10)


async def test_other_kinds_never_reach_a_helper(fresh: Preparer) -> None:
    with pytest.raises(ImageUnsupported):
        await fresh.prepare(encoded(make_picture(), "BMP"), time_s=10)
    with pytest.raises(ImageUnsupported, match="SVG"):
        await fresh.prepare(b"<?xml version='1.0'?><!-- " + b"licence " * 80 + b"--><svg>", time_s=10)
    with pytest.raises(ImageInvalid):
        await fresh.prepare(b"<html>", time_s=10)

    assert fresh._idle == []


async def test_one_helper_serves_picture_after_picture(fresh: Preparer) -> None:
    for _ in range(3):
        await fresh.prepare(make_png(), time_s=10)

    (helper,) = fresh._idle
    assert helper.pictures == 3


async def test_a_helper_knows_nothing_of_its_parent_and_is_confined(
    fresh: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    await fresh.prepare(make_png(), time_s=10)

    process = Path(f"/proc/{fresh._idle[0]._process.pid}")
    limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
    files = {file.name: str(file.readlink()).split(":")[0] for file in (process / "fd").iterdir()}
    assert (process / "environ").read_bytes() == b""
    assert (process / "cwd").readlink() == Path("/")
    assert files == {"0": "pipe", "1": "pipe", "2": "/dev/null"}
    assert limits["Max address space"] == str(ADDRESS_SPACE_BYTES)
    for forbidden in ("Max core file size", "Max file size", "Max processes", "Max open files"):
        assert limits[forbidden] == "0"
    assert int(limits["Max cpu time"]) <= CPU_S + 2
    status = (process / "status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    assert (process / "oom_score_adj").read_text() == "1000\n"


async def test_each_picture_has_processor_time_of_its_own(tmp_path: Path) -> None:
    program = make_decoder(
        tmp_path,
        "def spend(data, **options):\n"
        "    began = time.process_time()\n"
        "    while time.process_time() - began < 0.45:\n"
        "        pass\n"
        "    return render(data, **options)\n"
        "decoder.CPU_S = 2\n"
        "decoder.render = spend",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    for _ in range(5):
        await preparer.prepare(make_png(), time_s=20)

    assert preparer._idle[0].pictures == 5
    await preparer.aclose()


async def test_the_event_loop_goes_on_while_a_large_picture_is_read(preparer: Preparer) -> None:
    data = encoded(make_noise(3840, 2160), compress_level=0)
    await preparer.prepare(make_png(), time_s=10)
    before_s = helpers_cpu_s()
    with longest_callback() as longest:
        await preparer.prepare(data, time_s=20)

    assert longest.cpu_s < (helpers_cpu_s() - before_s) / 10


async def test_a_decoder_that_dies_costs_one_picture(tmp_path: Path) -> None:
    program = make_decoder(
        tmp_path,
        "import ctypes\n"
        "def die_on_gif(data, **options):\n"
        "    if options['image_format'] == 'GIF':\n"
        "        ctypes.string_at(0)\n"
        "    return render(data, **options)\n"
        "decoder.render = die_on_gif",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    for _ in range(2):
        with pytest.raises(ImageInvalid, match="the decoder crashed") as caught:
            await preparer.prepare(encoded(make_picture(), "GIF"), time_s=10)
        assert caught.value.kind is Kind.FINAL
        assert (await preparer.prepare(make_png(), time_s=10)).width_px == 64
    await preparer.aclose()


async def test_a_helper_that_somebody_kills_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    # Of its own accord it could not: the filter of system calls is left out.
    program = make_decoder(
        tmp_path,
        "decoder.sandbox.restrict = lambda **_: None\ndecoder.render = lambda *_, **__: os.kill(os.getpid(), 9)",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    with pytest.raises(ImageFetchFailed, match="killed") as caught:
        await preparer.prepare(make_png(), time_s=10)

    assert caught.value.kind is Kind.RETRY
    await preparer.aclose()


async def test_an_idle_helper_that_was_killed_costs_nothing(fresh: Preparer) -> None:
    await fresh.prepare(make_png(), time_s=10)
    fresh._idle[0]._process.kill()

    assert (await fresh.prepare(make_png(), time_s=10)).width_px == 64


async def test_a_cancelled_picture_takes_its_helper_with_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "began")
    program = make_decoder(
        tmp_path,
        f"began = os.open({str(tmp_path / 'began')!r}, os.O_RDWR)\n"
        "def hang_on_gif(data, **options):\n"
        "    if options['image_format'] == 'GIF':\n"
        "        os.write(began, str(os.getpid()).encode())\n"
        "        time.sleep(600)\n"
        "    return render(data, **options)\n"
        "decoder.render = hang_on_gif",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)
    hanging = asyncio.create_task(preparer.prepare(encoded(make_picture(), "GIF"), time_s=60))
    reader = os.open(tmp_path / "began", os.O_RDWR)
    pid = int(await asyncio.to_thread(os.read, reader, 20))
    os.close(reader)

    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging

    assert (await preparer.prepare(make_png(), time_s=10)).width_px == 64
    await preparer.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_decoder_that_hangs_is_ended_by_the_clock(tmp_path: Path) -> None:
    program = make_decoder(tmp_path, "decoder.render = lambda data, **options: time.sleep(600)")
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    # The attempt's rest was too short, so the picture is not to blame; the whole time of a decoder would be final.
    with pytest.raises(ImageFetchFailed, match="no time was left") as caught:
        await preparer.prepare(make_png(), time_s=0.5)

    assert caught.value.kind is Kind.RETRY
    await preparer.aclose()


async def test_a_picture_that_takes_all_the_time_there_is_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("draftd.images.prepare.DECODE_S", 0.5)
    program = make_decoder(tmp_path, "decoder.render = lambda data, **options: time.sleep(600)")
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    with pytest.raises(ImageInvalid, match=r"took more than 0\.5 s") as caught:
        await preparer.prepare(make_png(), time_s=20)

    assert caught.value.kind is Kind.FINAL
    await preparer.aclose()


async def test_a_decoder_that_spins_is_ended_by_its_processor_time_and_not_tried_again(tmp_path: Path) -> None:
    program = make_decoder(
        tmp_path,
        "def spin_on_gif(data, **options):\n"
        "    while options['image_format'] == 'GIF':\n"
        "        pass\n"
        "    return render(data, **options)\n"
        "decoder.CPU_S = 1\n"
        "decoder.render = spin_on_gif",
    )
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)
    await preparer.prepare(make_png(), time_s=20)
    (helper,) = preparer._idle

    with pytest.raises(ImageInvalid, match="CPU time"):
        await preparer.prepare(encoded(make_picture(), "GIF"), time_s=20)

    assert preparer._ending == {helper}
    await preparer.aclose()


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("PNG", {"compress_level": 1}),
        *(
            pytest.param(*one, marks=pytest.mark.long)
            for one in (("JPEG", {}), ("WEBP", {"method": 0, "quality": 1}), ("GIF", {}))
        ),
    ],
)
async def test_a_picture_that_does_not_fit_into_memory_is_too_large(
    tmp_path: Path, image_format: str, options: dict[str, int]
) -> None:
    program = make_decoder(tmp_path, "decoder.ADDRESS_SPACE_BYTES = 100 << 20")
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)

    with pytest.raises(ImageTooLarge, match="memory"):
        await preparer.prepare(encoded(Image.new("L", (5_000, 5_000)), image_format, **options), time_s=10)

    assert (await preparer.prepare(make_png(), time_s=10)).width_px == 64
    await preparer.aclose()


async def test_the_wait_for_a_helper_ends_with_the_time(tmp_path: Path) -> None:
    program = make_decoder(tmp_path, "decoder.render = lambda data, **options: time.sleep(600)")
    preparer = Preparer(max_pixels=MAX_PIXELS, processes=1, program=program)
    first = asyncio.create_task(preparer.prepare(make_png(), time_s=60))
    await asyncio.sleep(0)

    with pytest.raises(ImageFetchFailed, match="no image helper was free") as caught:
        await preparer.prepare(make_png(), time_s=0.05)

    assert caught.value.kind is Kind.RETRY
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await preparer.aclose()


async def test_a_helper_that_does_not_start_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    preparer = Preparer(max_pixels=MAX_PIXELS, program=make_decoder(tmp_path, "sys.exit(1)"))

    with pytest.raises(InternalError, match="did not start"):
        await preparer.prepare(make_png(), time_s=10)
    await preparer.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        "{'outcome': 'excellent'}",
        "{'outcome': 'ok', 'width_px': -1}",
        "{'outcome': 'ok', 'parts': [{'size': 1 << 40, 'width_px': 1, 'height_px': 1}]}",
        "{'outcome': 'ok', 'parts': [{'size': 1, 'width_px': 1, 'height_px': 1}] * 7}",
        "{'outcome': 'ok', 'parts': [{'size': 2_000, 'width_px': 9, 'height_px': 9}]}",
        "{'outcome': 'ok', 'width_px': 9, 'height_px': 9}",
        "{'outcome': 'ok', 'x': 'x' * 100_000}",
    ],
)
async def test_a_helper_that_talks_nonsense_is_not_believed(tmp_path: Path, reply: str) -> None:
    program = make_decoder(tmp_path, f"decoder.render = lambda data, **options: ({reply}, [bytes(2_000)])")
    preparer = Preparer(max_pixels=MAX_PIXELS, program=program)

    with pytest.raises(ImageInvalid):
        await preparer.prepare(make_png(), time_s=10)

    assert preparer._idle == []
    await preparer.aclose()
