"""Drawn conversations to judge drafts by: the cases with their pictures, and injection attacks with clean look-alikes.

cases       one file per case in ``cases/``, its picture, and the list of all that ``draftd eval`` reads
attacks     200 attacks, made of the words in ``injection/``
lookalikes  100 messages that look like attacks and are none, likewise
talks       the everyday conversations that both stand in
scene       one conversation to draw
pages       its HTML: ``bubbles``, ``rows``, ``feed``, ``mail`` and ``lists`` draw one kind of place each, styled by ``looks/``
elements    what the pages are made of
drawing     Chromium draws many pages at once; the pictures are made small
draw        the command that draws them
played      a model that a person plays
refined     drafts cases and refines the drafts, as ``refinements.toml`` asks
"""
