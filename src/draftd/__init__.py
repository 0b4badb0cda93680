"""draftd: screenshots in, three ready replies out, with PostgreSQL as the message bus."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        # Looking it up takes longer than Python's own start, and signals are heard only after this module (draftd.signals).
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415  # see above

            return version("draftd")
        raise AttributeError(f"module 'draftd' has no attribute {name!r}")


__all__ = ["__version__"]
