"""How much of a screenshot's text a reader can still read after draftd, and after what the vendors make of it.

scenes     which screenshots there are; ``pages`` fills their HTML from ``texts/``, ``browser`` draws it and finds its lines
variants   what is made of a screenshot: nothing, what draftd sends, the naive way; ``vendors`` knows what happens at the vendors
preparing  the real ``Preparer`` at work, with the processor time of its helper
reader     tesseract, line by line; ``score`` compares with what was written
sweep      the policy's constants, one changed at a time
report     the tables
"""
