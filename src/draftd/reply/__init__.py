"""The reply: from a claim to an outcome.

drafter         an attempt: its trace, its time, its end; its two steps are inputs and asking
attempt         one try at one request, and how its steps share its time
inputs          the first step: the row, its pictures, the messages
asking          the second: a call repeated, an answer repaired, the next model asked
metered_call    one model call: what must hold before it, and its trace, usage and cost
progress        options shown as they become ready
agents          agents as prompt files, checked when the daemon starts
prompts         the messages of a model call
reply_format    what depends on the result's schema, as an interface
comment_reply   the one implementation of it: three options to choose from
model_answer    the flat object that a model is asked for
answer          from a model's text to a result: what counts, and what is wrong with the rest
partial         which replies can be shown before the last one is written
placeholders    gaps such as ``[Name]`` that make a reply unsendable
links           links that nobody showed
platforms       all that is known of the platforms: names, aliases, lengths
x_length        how X counts
result          the result that a client reads
kept_pictures   prepared pictures, from one attempt to the next
"""
