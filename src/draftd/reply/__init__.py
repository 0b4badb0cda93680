"""The reply: from a claimed request to a finished draft.

drafter         the steps of an attempt and how they share its time
prompts         prompt files, and the messages made from them
model_answer    the flat object that a model is asked for
answer          from a model's text to a ``Result``: what counts, and what is wrong with the rest
partial         which replies can be shown before the last one is written
placeholders    gaps such as ``[Name]`` that make a reply unsendable
links           links that nobody showed
platforms       all that is known of the platforms: names, aliases, lengths
x_length        how X counts
result          the result that a client reads
kept_pictures   prepared pictures, from one attempt to the next
"""
