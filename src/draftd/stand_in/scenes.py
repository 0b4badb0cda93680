"""What the stand-in says about a picture that is no sample, and about one without a message."""

from draftd.demo.scenes import COMMON, Scene

ANY_PICTURE: Scene = {
    **COMMON,
    "platform": "other",
    "platform_name": "unknown",
    "content_type": "other",
    "summary": "A picture that the stand-in does not know; no model looked at it.",
    "me": "",
    "author": "the author",
    "gist": "says something that the stand-in cannot read",
    "expects": "statement",
    "short_angle": "says thanks",
    "short": "Stand-in reply: thank you, got it.",
    "medium_angle": "asks for a date",
    "medium": "Stand-in reply: happy to help with this. By which day do you need an answer from me?",
    "detailed_angle": "proposes next steps",
    "detailed": (
        "Stand-in reply: I read this twice and would start small. First we agree on what done means, then one of us "
        "writes it down, and after that we compare notes. If a call is easier, propose a time and I will bring an "
        "outline."
    ),
    "reading": ["The stand-in reads no text from pictures."],
    "confidence": "low",
}

NO_MESSAGE: Scene = {
    **ANY_PICTURE,
    "summary": "The picture shows no message.",
    "author": "",
    "gist": "",
    "expects": "nothing",
    "reply_needed": "no",
    "short_angle": "",
    "short": "",
    "medium_angle": "",
    "medium": "",
    "detailed_angle": "",
    "detailed": "",
    "short_translation": "",
    "medium_translation": "",
    "detailed_translation": "",
    "reading": [],
    "confidence": "high",
    "shown": "nothing",
}
