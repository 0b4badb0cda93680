"""The images of a request: fetched by draftd alone, decoded in a helper process, cut into parts for the model.

``fetch`` (behind ``gate``) gets the bytes; ``formats`` says what they are; ``prepare`` has a ``helper`` process decode them, in
which ``decoder`` scales and cuts them as ``layout`` says; ``loader`` does it all for a request within ``budget``.
"""

from draftd.images.budget import ByteBudget, Reservation
from draftd.images.fetch import Fetched, Fetcher, is_data_url
from draftd.images.loader import ImageLoader, Picture
from draftd.images.prepare import Part, Prepared, Preparer

__all__ = [
    "ByteBudget",
    "Fetched",
    "Fetcher",
    "ImageLoader",
    "Part",
    "Picture",
    "Prepared",
    "Preparer",
    "Reservation",
    "is_data_url",
]
