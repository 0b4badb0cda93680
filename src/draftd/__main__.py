"""The program, as ``draftd`` and as ``python -m draftd``: signals are heard before anything is loaded that takes time."""

from draftd.signals import obey_from_the_start


def main() -> None:
    """Run the command line."""
    obey_from_the_start()
    from draftd.cli import main as command_line  # noqa: PLC0415  # loading it takes a third of a second

    command_line()


if __name__ == "__main__":
    main()
