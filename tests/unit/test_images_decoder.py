import pytest

from draftd.images.decoder import TooManyPixels, render
from fix_images import encoded, make_picture


def test_a_webp_with_too_many_pixels_is_refused_before_a_decoder_sees_it() -> None:
    header_only = encoded(make_picture(301, 17), "WEBP")[:30]

    with pytest.raises(TooManyPixels):
        render(header_only, image_format="WEBP", max_pixels=301 * 17 - 1, long_edge_px=1568)
