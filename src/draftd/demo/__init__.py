"""The environment of ``draftd demo``: a temporary PostgreSQL, a daemon, sample screenshots.

Tests, benchmarks and evaluations use it too.

code_word  the picture that the doctor shows to a model
daemon     ``draftd run`` as a child process
embedded   a temporary PostgreSQL
marks      where a reply's unsupported facts stand
page       the screenshots beside their drafts, as HTML
samples    the sample screenshots
scenes     the replies to them
"""
