"""What every ring of tests shares: the fixtures stand in ``fix_*.py``, one theme each."""

pytest_plugins = ["fix_database", "fix_daemon"]
