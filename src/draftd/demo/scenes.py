"""The demo's replies to the sample screenshots.

Every reply says that a stand-in wrote it. The three replies of a scene differ in content and increase in length, up to 1,000
characters.
"""

from collections.abc import Mapping
from typing import Any

from draftd.demo.samples import EMAIL, LINKEDIN_POST, PHONE_CHAT

Scene = Mapping[str, Any]
"""Property of the answer's schema → value."""

COMMON: Scene = {
    "shown": "message",
    "language": "en",
    "reply_needed": "yes",
    "warnings": [],
    "unsent_text": "",
    "quoted": [],
    "reply_language": "en",
    "expects": "question",
    "short_stance": "none",
    "medium_stance": "none",
    "detailed_stance": "none",
    "other_targets": [],
    "missing": [],
    "confidence": "high",
    "short_translation": "Stand-in translation: the short reply would stand here in your language.",
    "medium_translation": "Stand-in translation: the medium reply would stand here in your language, question and all.",
    "detailed_translation": (
        "Stand-in translation: the detailed reply would stand here in your language, with its question and its plan,"
        " as long as the text that it translates."
    ),
}

SAMPLE_SCENES: Mapping[str, Scene] = {
    LINKEDIN_POST.name: {
        **COMMON,
        "platform": "linkedin",
        "platform_name": "LinkedIn",
        "content_type": "post",
        "summary": "Mara Lindqvist asks other teams what made their on-call handover better.",
        "me": "the signed-in user",
        "author": "Mara Lindqvist",
        "gist": "asks which one change improved the on-call handover most",
        "quoted": ["Monday", "40 minutes"],
        "short_angle": "names one change",
        "short": "Stand-in reply: a written log instead of a call. We would not go back.",
        "medium_angle": "shares a result, asks back",
        "medium": (
            "Stand-in reply: for us it was moving the handover into a written log with a few headings. Alerts that "
            "nobody owned became visible within days. Do you keep yours beside the runbooks?"
        ),
        "detailed_angle": "describes the whole routine",
        "detailed": (
            "Stand-in reply: we had the same Monday meeting, and half of it was searching for links. Since spring "
            "the person going off call writes a log as things happen: what fired, what was done, what is still open."
            " The next one reads it alone, asks in the thread, and we only talk when something is open. Handover "
            "went from forty minutes to a few, and the log turned into the best source for our reviews. One caution: "
            "without a fixed template it decays into a diary within a month."
        ),
        "reading": [
            "What is the one change that made your on-call handover better?",
            "Our Monday handover takes 40 minutes and we still miss things.",
        ],
    },
    EMAIL.name: {
        **COMMON,
        "platform": "email",
        "platform_name": "Email",
        "content_type": "email",
        "summary": "Tomas Brandl proposes Thursday at 14:00 for the quarterly review and asks for the figures before.",
        "me": "Ines Okafor, the recipient",
        "author": "Tomas Brandl",
        "gist": "asks whether Thursday 14:00 works and for the figures by Wednesday",
        "quoted": ["Thursday 14:00", "Wednesday"],
        "short_stance": "accept",
        "medium_stance": "accept",
        "detailed_stance": "accept",
        "short_angle": "confirms Thursday",
        "short": "Stand-in reply: Thursday at 14:00 works. You will have the figures on Wednesday evening.",
        "medium_angle": "confirms, asks about cost split",
        "medium": (
            "Stand-in reply: Hello Tomas, Thursday at 14:00 suits me. I will send the figures on Wednesday evening. "
            "Should the freight costs be shown by site, or is the total enough for the review?"
        ),
        "detailed_angle": "confirms and proposes agenda",
        "detailed": (
            "Stand-in reply: Hello Tomas, thank you for setting this up. Thursday at 14:00 is in my calendar. The "
            "figures follow on Wednesday evening; two invoices from the Linz site are still open, and I will mark "
            "them as estimates. For the hour itself I suggest that we take the paper prices first, because "
            "everything else depends on them, then the freight costs, and keep the last minutes for the outlook."
            " If Petra should see the draft beforehand, tell me and I will include her. Kind regards, Ines"
        ),
        "missing": ["whether Petra should receive the draft"],
        "reading": [
            "Would Thursday at 14:00 work for the review of the third quarter?",
            "Could you send me the figures by Wednesday, so that I can read them before?",
        ],
    },
    PHONE_CHAT.name: {
        **COMMON,
        "platform": "sms",
        "platform_name": "Messages",
        "content_type": "direct_message",
        "summary": "Jonas plans a weekend at the lake and asks for the tent and a time.",
        "me": "right-hand bubbles",
        "author": "Jonas",
        "gist": "asks for the big tent and when to pick you up",
        "quoted": ["friday"],
        "short_stance": "accept",
        "medium_stance": "accept",
        "detailed_stance": "accept",
        "short_angle": "yes, after seven",
        "short": "Stand-in reply: yes to the tent! Not before seven though.",
        "medium_angle": "agrees, checks the stove",
        "medium": (
            "Stand-in reply: the big tent is dry and packed. I get off work late, so pick me up at seven? Do you "
            "still have my gas stove from last summer?"
        ),
        "detailed_angle": "offers a full plan",
        "detailed": (
            "Stand-in reply: count me in. I bring the big tent, two lamps and the coffee pot. Work keeps me until "
            "the evening, so seven at my door is realistic, and we would still reach the lake before dark. Could "
            "you look after the firewood and ask Lena about the cool box? If the rain comes after all, I vote"
            " for packing up early and pancakes at my place."
        ),
        "reading": [
            "can you bring the big tent? mine only fits two and it smells of wet dog",
            "and when should I pick you up on friday?",
        ],
    },
}
