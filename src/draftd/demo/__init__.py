"""What the demo, the tests and the benchmarks share: a stand-in model, a PostgreSQL, sample screenshots.

Nothing here is needed by a daemon in service; no module outside this package and the ``demo`` command imports it.
"""
