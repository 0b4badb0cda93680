"""What the demo, the tests and the benchmarks share: a stand-in model, a PostgreSQL, sample screenshots.

No daemon in production needs it; only the ``demo`` command imports it.

answerer   the model server
embedded   a temporary PostgreSQL
samples    the sample screenshots
scenes     the replies to them
"""
