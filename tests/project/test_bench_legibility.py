from concurrent.futures import ThreadPoolExecutor

import pytest
from benchmarks.legibility import reader
from benchmarks.legibility.browser import Line
from benchmarks.legibility.pages import page_html
from benchmarks.legibility.preparing import _layout
from benchmarks.legibility.reader import Reader, line_picture
from benchmarks.legibility.scenes import SCENES, Scene
from benchmarks.legibility.score import errors, normalised
from benchmarks.legibility.variants import Variant, View, cut, naive
from benchmarks.legibility.vendors import (
    CLAUDE,
    CLAUDE_HIGH,
    GEMINI,
    OPENAI_PATCHES,
    OPENAI_TILES,
    Size,
    Vendor,
    openai_patched_size,
)
from PIL import Image, ImageDraw

from draftd.images import layout
from fix_images import encoded, make_picture
from tables import per_row


def make_line(text: str = "hello", **over: float) -> Line:
    box = {"left": 20.0, "right": 120.0, "top": 100.0, "bottom": 120.0, "em_px": 16.0} | over
    return Line(text=text, **box)


def make_variant(*stretches: tuple[float, int], width_px: int = 200) -> Variant:
    views = [
        View(picture=Image.new("RGB", (width_px, height), "white"), left=0, top=top, scale=1)
        for top, height in stretches
    ]
    return Variant(views=tuple(views), size_bytes=0)


@per_row("size", [(1092, 1092), (951, 1268), (896, 1344), (819, 1456), (784, 1568), (768, 1536)])
def test_claude_leaves_what_its_page_lists_as_the_largest_sizes(size: Size) -> None:
    assert CLAUDE.resize(size) == size


@per_row("size", [(1100, 1100), (960, 1280), (784, 1569), (1440, 900), (3840, 2160), (115, 1600)])
def test_claude_scales_a_larger_picture_to_the_largest_size_within_its_limits(size: Size) -> None:
    width_px, height_px = CLAUDE.resize(size)

    assert max(width_px, height_px) <= 1568
    assert CLAUDE.tokens(size) <= 1568
    assert width_px / height_px == pytest.approx(size[0] / size[1], rel=0.02)
    assert CLAUDE.tokens(size) > 1450 or max(width_px, height_px) == 1568


def test_the_newest_claude_sees_more() -> None:
    assert CLAUDE_HIGH.resize((2576, 1449)) == (2576, 1449)
    assert CLAUDE_HIGH.tokens((2576, 1449)) == 92 * 52


@per_row(
    ("size", "seen", "tokens"),
    [
        ((1024, 1024), (768, 768), 765),
        ((2048, 4096), (768, 1536), 1105),
        ((768, 1536), (768, 1536), 1105),
        ((300, 200), (300, 200), 255),
    ],
)
def test_openai_scales_the_short_side_to_768_and_counts_tiles(size: Size, seen: Size, tokens: int) -> None:
    assert OPENAI_TILES.resize(size) == seen
    assert OPENAI_TILES.tokens(size) == tokens


def test_openai_scales_to_whole_patches_as_the_example_of_its_page() -> None:
    assert openai_patched_size((1024, 1024)) == (1024, 1024)
    assert openai_patched_size((1800, 2400)) == (1056, 1408)
    assert OPENAI_PATCHES.tokens((1800, 2400)) == 2353  # 1,452 patches, times 1.62


@per_row(("size", "tokens"), [((384, 384), 258), ((960, 540), 258 * 6), ((3840, 2160), 258 * 15)])
def test_gemini_counts_tiles_and_takes_nothing_away(size: Size, tokens: int) -> None:
    assert GEMINI.tokens(size) == tokens
    assert GEMINI.resize(size) == size


@per_row(
    ("written", "read", "distance"),
    [
        ("", "anything", 0),
        ("same", "same", 0),
        ("kitten", "sitting", 3),
        ("abc", "", 3),
        ("abc", "something else", 3),
        ("flaw", "lawn", 2),
        ("aaa", "aa", 1),
    ],
)
def test_errors_are_the_distance_but_never_more_than_was_written(written: str, read: str, distance: int) -> None:
    assert errors(written, read) == distance


def test_what_is_the_same_to_a_human_is_the_same_to_the_score() -> None:
    assert normalised(" \u201cA\u201d \u2013\tb\u00a0\ufb01\u200f ") == '"A" - b fi'
    assert normalised("お 疲れ さま", spaces=False) == "お疲れさま"


def test_a_line_in_the_overlap_is_read_once_and_from_the_part_that_holds_it_whole() -> None:
    variant = make_variant((0, 110), (90, 110))

    assert variant.view_of(make_line(top=100, bottom=120)) is variant.views[1]


def test_a_line_at_a_cut_is_seen_in_pieces_and_a_line_between_parts_not_at_all() -> None:
    variant = make_variant((0, 111), (300, 100))

    assert variant.view_of(make_line(top=100, bottom=120)) is variant.views[0]
    assert variant.view_of(make_line(top=102, bottom=122)) is None


def test_a_vendor_that_changes_nothing_leaves_the_variant_itself() -> None:
    half = Vendor(name="half", resize=lambda size: (size[0] // 2, size[1] // 2), tokens=lambda size: size[0])
    variant = make_variant((0, 100), (90, 100))

    assert variant.through(GEMINI) is variant
    assert [(view.picture.size, view.top, view.scale) for view in variant.through(half).views] == [
        ((100, 50), 0, 0.5),
        ((100, 50), 90, 0.5),
    ]
    assert variant.tokens(half) == 400


def test_the_naive_way_is_the_whole_picture_with_a_long_edge_of_1568() -> None:
    (view,) = naive(encoded(make_picture(300, 3136))).views

    assert view.picture.size == (150, 1568)
    assert view.scale == 0.5


def test_parts_know_where_they_stand_on_the_screenshot() -> None:
    part = encoded(make_picture(50, 40), "JPEG")
    views = cut([part, part], places=[(0, 0, 0.5), (10, 30, 0.5)]).views

    assert [(view.left, view.top) for view in views] == [(0, 0), (20, 60)]
    assert [view.share_of(make_line(left=0, right=40, top=70, bottom=90)) for view in views] == [0.5, 0.5]


@per_row("scale", [0.25, 0.5, 1, 2])
@per_row("colours", [("white", "black"), ("#0a7cff", "white"), ("white", "#9aa0a6")])
def test_the_reader_gets_every_line_black_on_white_and_at_the_same_size(scale: float, colours: tuple[str, str]) -> None:
    ground, ink = colours
    picture = Image.new("RGB", (round(200 * scale), round(200 * scale)), ground)
    ImageDraw.Draw(picture).rectangle([round(edge * scale) for edge in (40, 104, 60, 116)], fill=ink)
    cut = line_picture(View(picture=picture, left=0, top=0, scale=scale), make_line())

    assert cut.size == (round((100 + 2 * 0.2 * 16) * 36 / 16) + 32, 45 + 32)
    assert cut.getpixel((0, 0)) == 255
    middle = cut.getpixel((32 + round(25 * 36 / 16), 38))
    assert isinstance(middle, int)
    assert middle < 40  # the filter's overshoot is a little darker than the ink


def test_what_is_not_shown_is_counted_apart_from_what_is_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "recognise", lambda pictures, _: ["hallo"] * len(pictures))
    lines = [make_line("hello"), make_line("unseen", top=900, bottom=920)]
    with ThreadPoolExecutor(1) as executor:
        (reading,) = Reader(language="eng", lines=lines, executor=executor).read([make_variant((0, 200))])

    assert (reading.characters, reading.errors, reading.left_out) == (5, 1, 6)
    assert (reading.error_rate, reading.left_out_share) == (1 / 5, 6 / 11)


def test_a_page_without_words_does_not_shift_the_others() -> None:
    table = 'level\tpage_num\ttext\n1\t1\t\n5\t1\tfirst\n1\t2\t\n1\t3\t\n5\t3\t"third\n5\t3\tline'

    assert reader._words(table, pages=3) == ["first", "", '"third line']


@per_row("scene", SCENES, ids=lambda scene: scene.name)
def test_every_scene_has_a_page_without_gaps(scene: Scene) -> None:
    assert "$" not in page_html(scene.page).partition("<body")[2].partition("<script>")[0]


def test_a_changed_policy_leaves_the_module_of_draftd_as_it_is() -> None:
    assert _layout({"MAX_SLICES": 3}).plan(512, 9000).slices[1:] == layout.plan(512, 9000).slices[4:]
    with pytest.raises(AttributeError):
        _layout({"NO_SUCH_CONSTANT": 1})
