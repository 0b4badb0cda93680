"""What the vendors do to a picture before their model sees it, and what they charge for it.

The rules are the vendors' own, as their pages documented them (read as stored copies, November 2026). No vendor names its
filter; ``variants`` resizes with Pillow's bicubic one.

Anthropic, "Images and vision": a token is a patch of 28x28 pixels, counted upwards at the edges. A picture with a long edge
    over 1,568 px or more than 1,568 tokens is scaled down to the largest size within both; the newest models allow 2,576 px
    and 4,784 tokens ("high resolution"; both figures as reported by users of the API, the stored page had lost them). The older
    wording (about 1,600 tokens, tokens = width * height / 750) comes to the same sizes.
OpenAI, "Images and vision", models that see tiles, detail ``high``: fitted into 2,048x2,048, then the short side scaled down to
    768 px; 85 tokens and 170 for each tile of 512x512 (GPT-4o, GPT-4.1; other models charge other numbers for the same
    tiles). That a smaller picture is not scaled up is our reading; the page leaves it open.
OpenAI, the same page, models that see patches of 32x32: a picture with more than 1,536 patches is scaled down until it has
    no more, by the page's formula; a patch is a token, times 1.62 for the mini models. Newer models allow more patches.
Google, "Image understanding": up to 384x384 a picture costs 258 tokens; a larger one is cut into square tiles with an edge of
    its short side / 1.5, but 256 to 768 px, each scaled to 768x768 for 258 tokens (the bounds from memory). Gemini 3 and
    later charge by a setting of the request instead, and do not document their sizes: they are not modelled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What one vendor's models do to a picture of a given width and height."""

    name: str
    resize: Callable[[Size], Size]
    """The size at which the model sees it."""
    tokens: Callable[[Size], int]
    """Of a picture as it is sent."""


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _patches(size: Size, edge_px: int) -> int:
    return math.ceil(size[0] / edge_px) * math.ceil(size[1] / edge_px)


def anthropic_size(size: Size, *, long_edge_px: int, max_tokens: int) -> Size:
    """Return the largest size of the same shape within both limits."""
    scale = min(1.0, long_edge_px / max(size))
    scaled = _scaled(size, scale)
    while _patches(scaled, 28) > max_tokens:
        # One pixel less on the long edge at a time: the page promises the largest size that fits.
        scale = (max(scaled) - 1) / max(size)
        scaled = _scaled(size, scale)
    return scaled


def anthropic_tokens(size: Size, *, long_edge_px: int, max_tokens: int) -> int:
    """Return the number of patches after the resize."""
    return _patches(anthropic_size(size, long_edge_px=long_edge_px, max_tokens=max_tokens), 28)


def openai_tiled_size(size: Size) -> Size:
    """Return the size after both steps of detail ``high``."""
    fitted = _scaled(size, min(1.0, 2048 / max(size)))
    return _scaled(fitted, min(1.0, 768 / min(fitted)))


def openai_tiled_tokens(size: Size) -> int:
    """Return the base and the tiles of 512 px."""
    return 85 + 170 * _patches(openai_tiled_size(size), 512)


def openai_patched_size(size: Size) -> Size:
    """Return the size at which 1,536 patches cover the picture."""
    if _patches(size, 32) <= 1536:
        return size
    scale = math.sqrt(1536 * 32 * 32 / (size[0] * size[1]))
    columns, rows = (max(1.0, edge * scale / 32) for edge in size)
    return _scaled(size, scale * min(math.floor(columns) / columns, math.floor(rows) / rows))


def openai_patched_tokens(size: Size) -> int:
    """Return the patches times the factor of the mini models."""
    return math.ceil(1.62 * min(1536, _patches(openai_patched_size(size), 32)))


def _gemini_tile(size: Size) -> int:
    return min(768, max(256, math.floor(min(size) / 1.5)))


def gemini_size(size: Size) -> Size:
    """Return the size itself: a tile is never larger than 768 px, and scaling it up adds nothing to read."""
    return size


def gemini_tokens(size: Size) -> int:
    """Return 258 for each tile."""
    return 258 if max(size) <= 384 else 258 * _patches(size, _gemini_tile(size))


def _anthropic(name: str, *, long_edge_px: int, max_tokens: int) -> Vendor:
    return Vendor(
        name=name,
        resize=partial(anthropic_size, long_edge_px=long_edge_px, max_tokens=max_tokens),
        tokens=partial(anthropic_tokens, long_edge_px=long_edge_px, max_tokens=max_tokens),
    )


CLAUDE = _anthropic("Claude", long_edge_px=1568, max_tokens=1568)
CLAUDE_HIGH = _anthropic("Claude, high resolution", long_edge_px=2576, max_tokens=4784)
OPENAI_TILES = Vendor(name="OpenAI, tiles", resize=openai_tiled_size, tokens=openai_tiled_tokens)
OPENAI_PATCHES = Vendor(name="OpenAI, patches", resize=openai_patched_size, tokens=openai_patched_tokens)
GEMINI = Vendor(name="Gemini", resize=gemini_size, tokens=gemini_tokens)

VENDORS = (CLAUDE, CLAUDE_HIGH, OPENAI_TILES, OPENAI_PATCHES, GEMINI)
