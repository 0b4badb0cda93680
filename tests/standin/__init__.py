"""A scriptable stand-in for model providers, for tests and benchmarks: their wires over HTTP.

``server`` is the server, ``threaded`` runs it beside synchronous code, ``behaviour`` is the vocabulary of faults, ``wires`` are
the formats of the providers (OpenAI's chat completions unless another is asked for).
It never passes for a model: every reply says that a stand-in wrote it.
"""
