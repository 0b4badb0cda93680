"""Doubles for tests: a scriptable model server without a model, and an SQL function that plays the daemon.

The tests and benchmarks of draftd, ``draftd demo`` and apps use the same ones (``draftd stand-in``). Needs the extra
``draftd[demo]``; the SQL needs nothing. Invariant: nothing here passes for a model, every reply says that a stand-in wrote it.

server      the server and its endpoints for scripts
threaded    the server beside synchronous code
behaviour   the vocabulary of faults, and the order in which a script is played
call        one request to a model, of any wire
calllog     what was asked, and how each call ended
completion  what is answered, in no format yet
answers     fills the schema that it is given
scenes      what is said about pictures that are no samples
eyes        reads the code word in the doctor's picture
playback    sends an answer as fast and as broken as its behaviour says
wires       the formats of the providers
fake_draft  the SQL function
"""
