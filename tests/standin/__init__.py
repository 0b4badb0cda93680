"""A scriptable stand-in for a model provider, for tests and benchmarks: OpenAI's chat completions over HTTP.

``server`` is the server, ``threaded`` runs it beside synchronous code, ``behaviour`` is the vocabulary of faults.
It never passes for a model: every reply says that a stand-in wrote it.
"""
