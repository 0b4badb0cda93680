"""The environment of ``draftd demo``: a stand-in model, a temporary PostgreSQL, sample screenshots.

Tests and benchmarks use it too; in the product, only the ``demo`` command imports it.

answerer   the stand-in model server
embedded   a temporary PostgreSQL
page       the screenshots beside their drafts, as HTML
samples    the sample screenshots
scenes     the replies to them
"""
