"""Facts of a reply that no source has: numbers, amounts, dates, times, phone numbers, addresses, handles and links.

Owns what counts as a fact and which forms of one say the same; ``review`` decides what a fact without a source means for a reply,
and ``links`` removes made-up links. Local, without a model call.

witness        looks up the facts of replies
known          what a set of sources states, and which facts that supports
days           days that are named by another day: "tomorrow", "Thursday"
languages      which languages a source may be in
finder         finds the facts of a text, by one scanner after the other
search         one pass over a text: what the scanners share
phones         phone numbers
addresses      e-mail addresses, handles, links
dates          dates, months, weekdays
times          times of day
figures        amounts, durations, other numbers, names with numbers
minor          numbers that state too little to need a source
weight         what a wrong fact would cost: a repair, or a mark
fact           a fact, and the form in which texts are searched
meanings       what a written number, date or time may mean
vocabulary     the words that facts are made of, in eight languages
number_words   rewrites numbers in words as digits
number_tables  the words of numbers
"""

from draftd.reply.facts.fact import FactKind
from draftd.reply.facts.weight import Weight
from draftd.reply.facts.witness import Unsupported, Witness

__all__ = ["FactKind", "Unsupported", "Weight", "Witness"]
