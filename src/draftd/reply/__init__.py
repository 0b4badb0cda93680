"""The reply: from a claim to an outcome.

drafter         one attempt: its trace, its time limit, its outcome; its two steps are inputs and fallback
attempt         an attempt, and how its steps share its time
inputs          the first step: the row, its pictures, the messages
fallback        the second step: repeat a failed call, repair a bad answer, fall back to the next model
metered_call    one model call: its preconditions, its trace, its usage and cost
progress        publishes options as they become complete
agents          agents, loaded from prompt files when the daemon starts
prompts         the messages of a model call
reply_format    the interface to everything that depends on the result's schema
comment_reply   its only implementation: three options to choose from
model_answer    the flat JSON object that a model returns
answer          from a model's text to a result
criteria        what an answer is checked against
review          the checks of an answer: problems that reject it, and wishes that are worth one repair
resemblance     whether two replies say the same
stances         what the options commit to, and whether they leave the decision to the requester
requester       what is known of the requester beside the request: the profile, and what they sent before
relevance       which of many facts a text touches
signature       the requester's signature below a mail
voice           how a person writes, as far as it can be counted
refinement      what a refinement asks for, together with the chain of requests that it refines
carried         what a refinement takes over from the earlier drafts
partial         finds complete options in an answer that is still being written
placeholders    finds placeholders such as ``[Name]``
links           finds and removes made-up links
leaks           passages of the prompt in a text
invisible       characters that are not shown, and the text that they hide
machine_talk    texts that look like an instruction to a model
facts           a package: which facts of a reply no source has, such as prices, dates, phone numbers
language        whether a reply is in the language it should be in
platforms       everything known about platforms: names, length limits, conventions
x_length        how X counts characters
result          the result that a client reads
kept_pictures   prepared pictures, kept from one attempt to the next
"""
