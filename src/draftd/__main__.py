"""The program, as ``draftd`` and as ``python -m draftd``: signals are heard before anything is loaded that takes time."""

from draftd.signals import handle_stop_signals_early


def main() -> None:
    """Run the command line."""
    handle_stop_signals_early()
    from draftd.cli import main as command_line  # noqa: PLC0415  # loading it takes a third of a second

    command_line()


if __name__ == "__main__":
    main()
