"""What a screenshot costs from its URL to the data URL in the model's request, beside bare Pillow.

pictures   what is fetched: drawn chats, a desktop, photographs, and what is as large as may be
server     the web server, in a process of its own
subject    draftd's way, in a process of its own: fetcher, helpers, loader and prompt as the daemon uses them
floor      Pillow alone, in a process of its own: open, convert, resize, save, with draftd's filter and parameters
process    the three as the benchmark sees them: start, order, stop
costs      CPU time of a process and its helpers, memory, the longest callback of an event loop
plan       how much of everything, quick and full
report     the tables
"""
