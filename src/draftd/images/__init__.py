"""The images of a request: fetched by draftd alone, decoded in a helper process, cut into parts for the model.

``fetch`` (behind ``gate``) gets the bytes, ``prepare`` decodes them in ``decoder``, which scales and cuts them as ``layout``
says; ``loader`` does both for a request within ``budget``.
"""

from draftd.images.budget import ByteBudget, Reservation
from draftd.images.fetch import Fetched, Fetcher
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
]
