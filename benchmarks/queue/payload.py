"""What every contender stores for every request: a finished draft of 1.2 KB."""

import json
from typing import Final

TEXTS = {
    "short": "Yes, we ship on Friday. The release notes go out the evening before.",
    "medium": "Yes, Friday holds. Two of the three blockers are closed, the third is in review and will be merged today. "
    "Could you send me the list of customers who asked for early access?",
    "detailed": "Yes, Friday holds. Two of the three blockers are closed, and the last one is in review and will be merged "
    "today, so that tomorrow is free for the dress rehearsal. I propose: the freeze on Wednesday at noon, the rehearsal on "
    "Thursday morning, the announcement on Friday at ten. If you send me the list of customers who asked for early access, "
    "I will write to them myself.",
}
RESULT: Final = {
    "schema_version": 1,
    "platform": "linkedin",
    "platform_name": "LinkedIn",
    "content_type": "post",
    "language": "en",
    "summary": "A colleague asks under a post about the release whether the team will ship on Friday as it was planned.",
    "me": "the signed-in user, top right",
    "replying_to": {"author": "Jane Doe", "gist": "asks whether the team ships on Friday", "expects": "decision"},
    "reply_needed": "yes",
    "options": [
        {"length": length, "angle": angle, "stance": stance, "text": TEXTS[length], "unsupported": []}
        for length, angle, stance in (
            ("short", "confirms Friday", "accept"),
            ("medium", "asks for the list", "open"),
            ("detailed", "offers a plan", "accept"),
        )
    ],
    "other_targets": [],
    "unsent_text": None,
    "missing": ["the release date"],
    "confidence": "high",
    "warnings": [],
}
RESULT_JSON: Final = json.dumps(RESULT)
