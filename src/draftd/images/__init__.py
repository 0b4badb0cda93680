"""The images of a request: fetched by draftd only, decoded in a helper process, split into parts for the model.

loader       loads all images of a request
budget       limits the image bytes that this process holds
fetch        from a URL to bytes
gate         which addresses may be fetched from
urls         parses URLs and refuses ambiguous ones
resolver     from names to addresses
addresses    which addresses are public
headers      what is sent to hosts that keep pictures private
connection   connects only to checked addresses, and limits what is read
formats      detects the format from the first bytes
containers   extracts the pieces of a file that make up its picture
boxes        reads the size and the transfer function from HEIC and AVIF
hdr          maps HDR brightness to an ordinary screen
prepare      from bytes to the JPEG parts for a model
layout       chooses scale and parts from the size alone
helper       the daemon's side of a helper process
decoder      the program of the helper process: scales and crops
sandbox      gives up the helper's privileges
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
