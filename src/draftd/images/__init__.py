"""The images of a request: fetched by draftd alone, decoded in a helper process, cut into parts for the model.

loader       all of it, for one request
budget       how many image bytes this process may hold
fetch        from a URL to bytes
gate         which addresses a URL may lead to
urls         parses URLs, and refuses ambiguous ones
resolver     from names to addresses
addresses    which addresses are public
connection   connects to checked addresses only, and limits what is read
formats      what kind of picture the bytes are
containers   the pieces of a file that make up its picture
prepare      from bytes to the JPEG parts that a model sees
layout       the scale and the parts, from the size alone
boxes        what a HEIC or AVIF says of itself
hdr          how the brightness of HDR is shown
helper       the helper process, seen from here
decoder      the program that runs in it: scales and cuts
kernel       how it gives up its privileges
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
