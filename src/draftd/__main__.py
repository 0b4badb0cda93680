"""The program, as ``draftd`` and ``python -m draftd``: handles signals before it loads anything slow."""

from draftd.signals import handle_stop_signals_early


def main() -> None:
    """Run the command line."""
    handle_stop_signals_early()
    from draftd.cli import main as command_line  # noqa: PLC0415  # loading it takes a third of a second

    command_line()


if __name__ == "__main__":
    main()
