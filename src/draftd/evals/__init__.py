"""Evaluations: cases drafted by a real daemon, compared with their labels, judged, and reported.

Owns ``draftd eval``, but for its command line. It drafts like a client and judges through the one door to the models; it decides
nothing about drafts. It is an extra (``draftd[eval]``): a daemon needs none of it.

cases          reads cases.json and its screenshots
lock           notices when a held-out case was edited
plan           what is to be evaluated, and whether that makes sense
evaluation     the order of things
surroundings   what is started for it: stand-in, database, daemon
prompt_files   the prompt under test, and the one it is compared with
drafting       drafts a case through the daemon
labels         how a result agrees with its labels
criteria       what a reply is judged by
judging        what a judge is asked, and how its answer is read
judge          the calls of the judge
stand_in       stands in for the model and the judge
pictures       the screenshots for the judge and the report
results        the form of results.json
figures        the counts
baseline       whether an evaluation is worse than an earlier one
report         the HTML report
"""
