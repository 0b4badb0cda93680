"""draftd: screenshots in, three ready replies out, with PostgreSQL as the message bus."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("draftd")
