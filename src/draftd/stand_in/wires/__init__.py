"""The wires of the providers: seven formats, and one table of who speaks which with what differences (``dialects``).

``wire`` says what a format is; each other module is one. The forms follow the providers' API references.
"""
