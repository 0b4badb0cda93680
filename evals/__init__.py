"""Drawn conversations to judge drafts by: the cases with their pictures, and injection attacks with clean look-alikes.

cases      one file per case (what is drawn, what is known of it), its picture, and ``cases.json``, which ``draftd eval`` reads
injection  the attacks and look-alikes as a specification; ``attacks`` and ``lookalikes`` make cases of it
scene      one conversation, from its file
pages      its HTML; ``bubbles``, ``rows``, ``feed``, ``mail`` and ``lists`` draw one kind of place each, styled by ``looks``
drawing    Chromium draws many pages at once; the pictures are made small
draw       the command
"""
