"""What the texts of providers mean: one table, read from the top, the first match counts.

Providers disagree about the status of nearly every failure, so their words go before it. A row is a meaning and the wordings
that have it, as regular expressions without regard to case. A wording stands above the wider ones that it would also match:
"content that is not allowed by our safety system" above "image … not allowed". tests/unit/test_wordings.py has the texts with
their sources; a new wording comes with one.
"""

import re
from enum import Enum


class Meaning(Enum):
    """What a text says has happened."""

    LOOPING = "the model repeated itself without end"
    BAD_GENERATION = "this one answer was not what was asked for"
    REFUSED = "this request's content is not allowed"
    IMAGE = "the provider cannot read a picture of this request"
    TOO_LONG = "this request is too large"
    KEY = "the key is missing or wrong"
    QUOTA = "money or quota is exhausted"
    ACCOUNT = "the account, organization or region may not use the model"
    MODEL = "the model does not exist, or is not served this way"
    BLIND = "the model takes no pictures"
    SETUP = "something is missing where draftd or its gateway runs"
    STREAM = "this account or model may not stream"
    FORMAT = "the answer's format cannot be asked for this way"
    ABOUT_FORMAT = "the text names the answer's format; in a refusal, that is what is refused"
    CEILING = "more output tokens were allowed than the model can write"
    PARAMETER = "a parameter is not taken"
    ABOUT_POLICY = "the text names a policy; in a refusal, the content is what is refused"
    RATE_LIMIT = "too many requests or tokens within a time"
    BUSY = "too much to do at the moment"


ONLY_IN_REFUSALS = frozenset({Meaning.ABOUT_FORMAT, Meaning.ABOUT_POLICY, Meaning.PARAMETER, Meaning.CEILING})
"""These words stand in outages too, and mean nothing there."""

_PARAMETERS = r"(?:temperature|top_p|top_k|min_p|seed|reasoning_effort|thinking|verbosity|service_tier|\w+_penalty)"

TABLE: tuple[tuple[Meaning, tuple[str, ...]], ...] = (
    (
        Meaning.LOOPING,
        ("the model is repeating the same chunk",),
    ),
    (
        Meaning.BAD_GENERATION,
        (
            "failed_generation",
            "json_validate_failed",
            "tool_use_failed",
            "failed to (?:generate|validate) json",
        ),
    ),
    (
        Meaning.KEY,
        (
            "api_key client option must be set",
            "missing credentials",
            "api_key_invalid",
            r"(?:missing|no|invalid|incorrect|wrong) (?:[\w-]+ )?(?:x-)?api[ _-]?key",
            "api[ _-]?key (?:is )?(?:not valid|required|missing|not found|expired|invalid|disabled|revoked|blocked)",
            "unable to locate credentials",
            "security token included in the request is (?:invalid|expired)",
            "default credentials were not found",
            "authentication fails",
        ),
    ),
    # Whatever they are suspended for: it may be content.
    (
        Meaning.ACCOUNT,
        (
            (
                r"(?:account|organi[sz]ation|project|workspace|tenant|subscription)\b[^.]{0,60}"
                "(?:suspended|restricted|deactivated|disabled|banned|terminated|on hold|not active)"
            ),
        ),
    ),
    # Content, in words that name it.
    (
        Meaning.REFUSED,
        (
            "content violates (?:usage|safety) guidelines",
            "safety_check_type",
            "response was blocked",
            "not allowed by our safety system",
            "rejected (?:as a result of|by) (?:our|the) safety system",
            "content exists risk",
            "data_?inspection_?failed",
            "may contain inappropriate content",
            "responsibleaipolicyviolation",
            "content_policy_violation",
            "content[ _]management[ _]policy",
            "content_filter",
            "output blocked by content filtering policy",
            "(?:input|prompt|request|message|content)s? (?:was|were|has been|have been|is) flagged",
            "requires moderation",
            "(?:blocked|rejected|violated?) (?:by|for|due to) [^.]{0,40}(?:guardrail|safety|moderation|content filter)",
            "guardrail[^.]{0,60}(?:violat|block|interven|reject|failed|triggered|raised)",
            "violated [^.]{0,40}(?:guardrail|content safety|moderation)",
            "(?:prompt|response|request)[^.]{0,30} blocked[^.]{0,40}(?:safety|prohibited|recitation|blocklist)",
            "prohibited_content",
            "sensitive (?:content|words?|information)[^.]{0,40}(?:detected|found|blocked)",
            "sensitive_words_detected",
            "violates? (?:our|openai'?s|the) (?:usage|content)[ -]polic",
            "limited access to this content for safety reasons",
            "cybersecurity risk",
            "blocked entity detected",
            "presidio",
        ),
    ),
    (
        Meaning.QUOTA,
        (
            "insufficient[ _]?(?:quota|credits?|balance|funds)",
            "credit balance is too low",
            "billing hard limit",
            "out of (?:credits|funds|budget)",
            "exceeded your current quota",
            "quota (?:has been )?(?:exhausted|exceeded)",
            "exceeded (?:your|the|its) [^.]{0,40}quota",
            r"reached your specified (?:\w+ )?(?:api )?usage limits?",
            "budget_exceeded",
            "exceeded[ _]?budget",
            "budget has been exceeded",
            "over budget",
            "crossed budget",
            "exceeded budget",
            "servicequotaexceeded",
            "service quota",
            "(?:spending|spend|usage|monthly|key) limit (?:has been )?(?:reached|exceeded)",
            "requires more credits",
            "can only afford",
            "purchase (?:more )?credits",
            "top up",
            "run out of (?:credits|funds)",
            "arrearage",
            "enable billing",
        ),
    ),
    (
        Meaning.ACCOUNT,
        (
            "user location is not supported",
            "unsupported_country",
            "country, region,? or territory not supported",
            "not available in your (?:country|region|location)",
            "does not have (?:access|permission)",
            "do(?:es)?n'?t have access",
            "not authori[sz]ed to (?:perform|access|invoke|use)",
            "accept the (?:terms|license|eula)",
            "requires? (?:terms|acceptance)",
            "model_terms_required",
            "matching your (?:guardrail|data policy)",
            "guardrail restrictions and data policy",
            "data policy",
            "has not been used in project",
            "key not allowed to access model",
            "not allowed to access model",
        ),
    ),
    (
        Meaning.STREAM,
        (
            "'stream' does not support true",
            "must be verified to stream",
        ),
    ),
    (
        Meaning.FORMAT,
        (
            "output_(?:format|config)[^|]{0,60}(?:extra inputs|not (?:permitted|supported|available)|unsupported)",
            (
                r"(?:not|n.t|cannot) support(?:ed)? (?:\w+ ){0,3}"
                r"(?:output format|structured outputs?|tools\b|tool (?:use|choice|call)|"
                "function calling|guided|json mode|json schema|response_format|grammar)"
            ),
            "support (?:tool use|the provided 'tool_choice')",
            "(?:schema|grammar)[^.|]{0,40}(?:too (?:complex|large|many|deep)|compilation|timed? ?out)",
            r"(?:failed to|cannot|unable to) (?:\w+ ){0,3}(?:parse|compile|initialize) (?:\w+ ){0,3}(?:grammar|json schema)",
            "must contain the word 'json'",
            "invalid format: ",
        ),
    ),
    # The limit of output tokens is named in these, too.
    (
        Meaning.TOO_LONG,
        (
            "maximum context length is",
            "request too large",
            r"tokens? \+ `?max_new_tokens`? must be",
            "(?:messages|completion|length) of the messages",
        ),
    ),
    (
        Meaning.RATE_LIMIT,
        (
            "rate[ _-]?limit (?:of|reached|exceeded|error)",
            "too many requests",
            "(?:tokens|requests) per (?:minute|day|hour|second)",
        ),
    ),
    (
        Meaning.CEILING,
        (
            "max(?:_completion|_output|_new)?_?tokens[^|]{0,30}(?:is )?too (?:large|high|big)",
            r"max_?\w*tokens[^|]{0,80}(?:less than or equal|must be (?:<=|less|at most)|exceeds?|cannot exceed|at most)",
            r"max_tokens: \d+ > \d+",
            r"(?:supports|allows) at most \d+ (?:completion|output) tokens",
            "maximum (?:output )?tokens you requested exceeds",
        ),
    ),
    (
        Meaning.TOO_LONG,
        (
            "context[ _-]?(?:length|window|size|limit)",
            "maximum (?:context|model|input|prompt|sequence) length",
            "maximum number of (?:input )?tokens",
            "too many (?:input |total )?tokens(?! per)(?!, please wait)",
            "(?:prompt|input|request|message|conversation)[^.|]{0,30} (?:is|are) too (?:long|large|big)",
            "(?:prompt|input|token|request|payload)[^.|]{0,60}exceeds? [^.|]{0,40}(?:limit|maximum|max|length|size|context)",
            r"exceeds? (?:the )?(?:maximum|max_model_len|model'?s|limit of \d)",
            "request too large",
            "request_too_large",
            "entity too large",
            "payload size",
            "reduce the length",
            "exceeded model token limit",
            "longer than the (?:model|context|maximum)",
            r"current length is [\d,]+ while limit is",
            "string too long",
            "prompt exceeds max length",
            "max input token",
            r"at most [1-9]\d* image",
            "only supports? one image",
            "image (?:exceeds|size exceeds|is too large)",
            "image dimensions exceed",
            "image too large",
        ),
    ),
    (
        Meaning.IMAGE,
        (
            "could not process (?:the )?(?:input )?image",
            "unable to process (?:the )?(?:input |provided )?image",
            r"(?:failed to|cannot|could not|unable to) (?:decode|load|identify|read|process) (?:\w+ ){0,3}(?:image|picture)",
            "cannot identify image",
            "unknown (?:image )?format",
            "image: unknown",
            "image file is truncated",
            r"(?:invalid|corrupt(?:ed)?|malformed|unsupported|damaged) (?:base64[- ])?(?:image(?! inputs?\b)|picture)(?:_url)?",
            "invalid image input",
            "image[^.|]{0,60}(?:corrupt|is invalid|not valid|could not be (?:processed|decoded|read|loaded))",
            "does not represent a valid image",
            "provided image is not valid",
            "uploaded an unsupported image",
        ),
    ),
    (
        Meaning.BLIND,
        (
            r"(?:not|n.t|cannot) (?:support|accept|take|process|allow|read)\w* (?:\w+ ){0,4}(?:image|vision|multi-?modal)",
            r"(?:image|vision|image_url)[\w ,'`_-]{0,40} (?:not|un|n't)[ -]?(?:supported|available|allowed|enabled)",
            "endpoints found that support image",
            "not compiled for multimodal",
            "not a multi-?modal model",
            "at most 0 image",
            "image_url[^.]{0,60}only supported by certain models",
            "unknown variant `?image_url",
            "expected `text`",
            r"untagged enum \w*content",
            "content must be a string",
            r"content:? (?:\w+ ){0,3}(?:expected|must be|is not) (?:a )?string",
            "messages?[^|]{0,40}content[^|]{0,60}(?:must|should) be (?:a )?(?:valid )?string",
            "input should be a valid string",
            "invalid (?:message )?content type",
            "missing data required for image input",
        ),
    ),
    (
        Meaning.MODEL,
        (
            "llm provider not provided",
            "model_not_found",
            "not a valid model",
            "deploymentnotfound",
            (
                r"model\b[^.]{0,120}?(?:not exist|not found|not available|decommissioned|retired|deprecated|"
                "no longer (?:supported|available)|end of its life)"
            ),
            "model (?:id|identifier|name)(?: is| was)? (?:invalid|not valid|unknown)",
            "provided model identifier is invalid",
            r"(?:unknown|no such|invalid|unsupported|inaccessible) model\b",
            "inference profile",
            "on-demand throughput",
            "non-serverless model",
            "dedicated endpoint",
            "unable to access (?:non-serverless )?model",
            "model_not_(?:available|supported)",
            "no (?:healthy )?deployments? (?:available|found)",
            "operation ?not ?supported",
            "does not work with the specified model",
            "chatcompletion operation does not work",
            "no models loaded",
            "there are no healthy deployments",
            "invalid model name passed in",
            "api version",
        ),
    ),
    (
        Meaning.SETUP,
        (
            "no module named",
            "pip install",
            "missing (?:boto3|dependency|dependencies)",
            "requires more system memory",
        ),
    ),
    (
        Meaning.ABOUT_FORMAT,
        (
            "response[_ ]?(?:format|schema|mime_?type)",
            "json[_ ]?schema",
            "json[_ ]?object",
            "output_(?:format|config)",
        ),
    ),
    (
        Meaning.PARAMETER,
        (
            "unsupported[ _](?:parameter|value)",
            "(?:unknown|unrecognized|unexpected|unsupported) (?:request )?(?:parameter|argument|keyword|field|name)",
            r"(?:not|n.t) support (?:the )?param(?:eter)?s?",
            "extra (?:inputs|fields) (?:are )?not (?:permitted|allowed)",
            (
                rf"\b{_PARAMETERS}\b[^|]{{0,80}}?\b(?:unsupported|deprecated|must be|should be|(?:may|can) only be|"
                "not (?:supported|allowed|permitted|available)|cannot (?:both )?be|out of range)"
            ),
            rf"(?:not|n.t) support (?:the )?\W?{_PARAMETERS}",
            "only temperature=1",
            "does not support (?:thinking|reasoning)",
        ),
    ),
    (
        Meaning.ABOUT_POLICY,
        (
            "content[ _]?(?:policy|filter|management)",
            "safety system",
            "moderation",
            "flagged",
            "usage polic(?:y|ies)",
            "guardrail",
            "usage guidelines",
        ),
    ),
    (
        Meaning.BUSY,
        (
            "overloaded",
            "over(?:loaded|_capacity)",
            "server (?:is )?busy",
        ),
    ),
)

_COMPILED = tuple((meaning, re.compile("|".join(wordings), re.IGNORECASE)) for meaning, wordings in TABLE)


def meaning_of(words: str, *, is_refusal: bool) -> Meaning | None:
    """Return what a text means, or None when it says nothing that is known.

    Args:
        words: what the provider said, its codes included.
        is_refusal: whether the server answered that the request was at fault (a 4xx).
    """
    return next(
        (
            meaning
            for meaning, wordings in _COMPILED
            if (is_refusal or meaning not in ONLY_IN_REFUSALS) and wordings.search(words)
        ),
        None,
    )
