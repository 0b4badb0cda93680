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

TABLE: tuple[tuple[Meaning, tuple[str, ...]], ...] = (
    (Meaning.LOOPING, ("the model is repeating the same chunk",)),
    (
        Meaning.BAD_GENERATION,
        (
            r"failed_generation|json_validate_failed|tool_use_failed|output_parse_failed",
            r"failed to (?:generate|validate) json",
            r"generated json does not match",
            r"model (?:output|produced|generated)[^.]{0,40} (?:invalid|malformed|not valid) (?:json|tool|content)",
            r"malformed_function_call",
        ),
    ),
    (
        Meaning.KEY,
        (
            r"api_key client option must be set|missing credentials|api_key_invalid",
            r"(?:missing|no|invalid|incorrect|wrong) (?:[\w-]+ )?(?:x-)?api[ _-]?key",
            r"api[ _-]?key (?:is )?(?:not valid|required|missing|not found|expired|invalid|disabled|revoked|blocked)",
            r"api key (?:was reported|has been (?:disabled|revoked|blocked|deleted))",
            r"unable to locate credentials|no auth credentials found|could not resolve authentication method",
            r"security token included in the request is (?:invalid|expired)|unrecognizedclientexception",
            r"invalidsignatureexception|signature we calculated does not match",
            r"default credentials were not found|could not automatically determine credentials",
            r"invalid (?:bearer|authentication|access|auth) ?token|authentication fails|token (?:has )?expired",
        ),
    ),
    # Content, in words that name it.
    (
        Meaning.REFUSED,
        (
            r"content violates (?:usage|safety) guidelines|safety_check_type|response was blocked",
            r"not allowed by our safety system|rejected (?:as a result of|by) (?:our|the) safety system",
            r"content exists risk",
            r"data_?inspection_?failed|may contain inappropriate content",
            r"responsibleaipolicyviolation|content_policy_violation|content[ _]management[ _]policy|content_filter",
            r"output blocked by content filtering policy",
            r"(?:input|prompt|request|message|content)s? (?:was|were|has been|have been|is) flagged|requires moderation",
            (
                r"(?:blocked|denied|rejected|intervened|violated?) (?:by|for|due to) [^.]{0,40}(?:guardrail|safety"
                r"|moderation|content filter)"
            ),
            r"guardrail[^.]{0,60}(?:violat|block|interven|reject|failed|triggered|raised)",
            r"violated [^.]{0,40}(?:guardrail|content safety|moderation)",
            (
                r"(?:prompt|response|request|candidate)[^.]{0,30} blocked[^.]{0,40}(?:safety|prohibited|other|recitation"
                r"|image_safety|blocklist)"
            ),
            r"prohibited_content|image_safety|block_?reason",
            r"sensitive (?:content|words?|information)[^.]{0,40}(?:detected|found|blocked)|sensitive_words_detected",
            r"(?:unsafe|sensitive) content|potentially (?:unsafe|sensitive|harmful)",
            r"may violate (?:our|the|openai)[^.]{0,30}polic|violates? (?:our|openai'?s|the) (?:usage|content)[ -]polic",
            r"limited access to this content for safety reasons|cybersecurity risk",
            r"blocked entity detected|presidio",
        ),
    ),
    (
        Meaning.QUOTA,
        (
            r"insufficient[ _]?(?:quota|credits?|balance|funds)|insufficientbalance|not enough (?:credits|balance)",
            r"credit balance is too low|billing_hard_limit|billing hard limit|out of (?:credits|funds|budget)",
            r"exceeded your current quota|quota (?:has been )?(?:exhausted|exceeded)|exceeded (?:your|the|its) [^.]{0,40}quota",
            r"reached your specified (?:\w+ )?(?:api )?usage limits?",
            r"budget_exceeded|exceeded[ _]?budget|budget has been exceeded|over budget|crossed budget|exceeded budget",
            r"servicequotaexceeded|service quota",
            r"(?:spending|spend|usage|monthly|key) limit (?:has been )?(?:reached|exceeded)",
            r"reached (?:its|your|the) (?:monthly |weekly |daily )?(?:spending|spend|usage|token) limit",
            r"requires more credits|can only afford|purchase (?:more )?credits|top up|run out of (?:credits|funds)",
            r"used all available credits|free[ -]models-per-day|prepayment credits are depleted|arrearage|overdue",
            r"billing (?:is )?(?:not active|disabled|not enabled)|enable billing|billing to be enabled",
            r"exceeded your monthly included credits",
        ),
    ),
    (
        Meaning.ACCOUNT,
        (
            (
                r"(?:account|organi[sz]ation|project|workspace|tenant|subscription)\b[^.]{0,60}"
                r"(?:suspended|restricted|deactivated|disabled|banned|terminated|on hold|not active)|account[^.]{0,40} blocked"
            ),
            r"access (?:was|has been) (?:terminated|revoked|suspended|disabled)",
            r"user location is not supported|unsupported_country|country, region,? or territory not supported",
            r"not available in your (?:country|region|location)|regions? (?:is|are) not supported",
            (
                r"request not allowed|does not have (?:access|permission)|do(?:es)?n'?t have access"
                r"|not authori[sz]ed to (?:perform|access|invoke|use)"
            ),
            r"must be verified to use|use case details have not been submitted|accept the (?:terms|license|eula)",
            r"requires? (?:terms|acceptance)|model_terms_required",
            r"matching your (?:guardrail|data policy)|guardrail restrictions and data policy|data policy",
            r"permission denied on|has not been used in project|api has not been enabled|service_disabled|consumer_invalid",
            r"key not allowed to access model|team not allowed to access model|not allowed to access model",
            r"model access is denied|access denied to model|is not enabled for|not entitled",
        ),
    ),
    (
        Meaning.STREAM,
        (
            r"must be verified to stream",
            r"stream(?:ing)?\b[^.]{0,40}(?:not (?:supported|allowed|available|permitted)|unsupported|disabled)",
            r"(?:not|n't|n\u2019t) (?:support|allow) (?:response )?stream(?:ing)?",
        ),
    ),
    (
        Meaning.FORMAT,
        (
            r"output_(?:format|config)[^|]{0,60}(?:extra inputs|not (?:permitted|supported|available)|unsupported)",
            (
                r"(?:not|n't|n\u2019t|cannot) support(?:ed)? (?:\w+ ){0,3}(?:output format|structured outputs?|tool(?:s\b| use"
                r"| choice| call)|"
                r"function calling|guided|json mode|json schema|response_format|grammar)"
            ),
            (
                r"(?:tool use|tools?|tool[_ ]choice|function calling|structured outputs?|json mode|guided decoding|grammar)"
                r"[^.|]{0,40}(?:is|are) (?:currently )?(?:not|un)[ -]?(?:supported|available|allowed|enabled)"
            ),
            r"support (?:tool use|the provided 'tool_choice')|enable-auto-tool-choice",
            r"(?:schema|grammar)[^.|]{0,40}(?:too (?:complex|large|many|deep)|compilation|timed? ?out)",
            (
                r"(?:failed to|cannot|could not|unable to|error) (?:\w+ ){0,3}(?:parse|compile|compiling|convert|create"
                r"|load|initialize) (?:\w+ ){0,3}(?:grammar|samplers?|json schema|fsm)"
            ),
            r"grammar error|invalid grammar|unsupported json schema|json schema (?:is not supported|contains features)",
            r"must contain the word 'json'|invalid (?:json )?schema|invalid format: |constraint has too many states",
        ),
    ),
    # The limit of output tokens is named in these, too.
    (
        Meaning.TOO_LONG,
        (
            r"maximum context length is|request too large|tokens? \+ `?max_new_tokens`? must be",
            r"(?:messages|completion|length) of the messages",
        ),
    ),
    (
        Meaning.RATE_LIMIT,
        (
            r"rate[ _-]?limit (?:of|reached|exceeded|error)|too many requests|throttl|rate_limit_exceeded",
            r"(?:tokens|requests) per (?:minute|day|hour|second)|concurrency limit",
        ),
    ),
    (
        Meaning.CEILING,
        (
            r"max(?:_completion|_output|_new)?_?tokens[^|]{0,30}(?:is )?too (?:large|high|big)",
            (
                r"max_?(?:completion_|output_|new_)?tokens[^|]{0,80}(?:less than or equal|must be (?:<=|less|between"
                r"|at most|in)|maximum allowed|exceeds?|cannot exceed|at most)"
            ),
            (
                r"max_tokens: \d+ > \d+|(?:supports|allows) at most \d+ (?:completion|output) tokens"
                r"|maximum (?:output )?tokens you requested exceeds"
            ),
            r"valid range of max_tokens|range of max_tokens should be",
        ),
    ),
    (
        Meaning.TOO_LONG,
        (
            r"context[ _-]?(?:length|window|size|limit)|contextlength|maximum (?:context|model|input|prompt|sequence) length",
            r"maximum number of (?:input )?tokens|too many (?:input |total )?tokens(?! per)(?!, please wait)",
            r"(?:prompt|input|request|message|conversation)[^.|]{0,30} (?:is|are) too (?:long|large|big)",
            (
                r"(?:prompt|input|token|request|payload)[^.|]{0,60}exceeds? [^.|]{0,40}(?:limit|maximum|max|length|size"
                r"|context|window)"
            ),
            (
                r"exceeds? (?:the )?(?:maximum|max_model_len|model'?s|limit of \d)|maximum allowed (?:input|prompt"
                r"|number of tokens|size)"
            ),
            (
                r"request too large|request_too_large|entity too large|payload size|content too large"
                r"|body (?:is )?too large|length limit exceeded"
            ),
            r"reduce the length|exceeded model token limit|longer than the (?:model|context|maximum)",
            (
                r"current length is [\d,]+ while limit is|tokens in request more than max tokens|string too long"
                r"|string_above_max_length"
            ),
            (
                r"prompt exceeds max length|input length[^.|]{0,60}(?:exceed|longer|should be)|max input token"
                r"|too many images|at most [1-9]\d* image"
            ),
            r"supports? (?:only )?(?:up to|at most|a maximum of) \d+ images?|only supports? one image|number of images",
            r"image (?:exceeds|size exceeds|is too large)|image dimensions exceed|image too large|image_too_large",
        ),
    ),
    (
        Meaning.IMAGE,
        (
            r"could not process (?:the )?(?:input )?image|unable to process (?:the )?(?:input |provided )?image",
            (
                r"(?:failed to|cannot|could not|unable to|error) (?:\w+ ){0,2}(?:decod|load|open|identify|read|pars"
                r"|download|fetch)\w* (?:\w+ ){0,3}(?:image|picture|base64)"
            ),
            r"cannot identify image|unknown (?:image )?format|image: unknown|truncated image|image file is truncated",
            (
                r"(?:invalid|corrupt(?:ed)?|malformed|unsupported|broken|damaged"
                r"|empty) (?:base64[- ])?(?:image(?! inputs?\b)|picture)(?:_url)?"
            ),
            r"invalid_image|invalid image input|image_parse_error|invalid base64|image_url[^.|]{0,40}invalid",
            (
                r"image[^.|]{0,60}(?:corrupt|is invalid|not valid|is not a valid|could not be (?:processed|decoded|read"
                r"|loaded)|unreadable|too small)"
            ),
            r"not a valid image|does not represent a valid image|provided image is not valid|uploaded an unsupported image",
        ),
    ),
    (
        Meaning.BLIND,
        (
            (
                r"(?:not|n't|n\u2019t|cannot) (?:support|accept|take|process|allow|handle|read)\w* (?:\w+ ){0,4}(?:image"
                r"|vision|multi-?modal)"
            ),
            r"(?:image|vision|image_url)[\w ,'`_-]{0,40} (?:not|un|n't)[ -]?(?:supported|available|allowed|enabled)",
            (
                r"endpoints found that support image|not compiled for multimodal|invalid value: '?image_url"
                r"|not a multi-?modal model|not a vision model|at most 0 image|non-multimodal"
            ),
            r"image_url[^.]{0,60}only supported by certain models",
            r"unknown variant `?image_url|expected `text`|untagged enum \w*content",
            (
                r"content must be a string|content should be a (?:valid )?string|content:? (?:\w+ ){0,3}(?:expected"
                r"|must be|is not) (?:a )?string"
            ),
            r"messages?[^|]{0,40}content[^|]{0,60}(?:must|should) be (?:a )?(?:valid )?string|input should be a valid string",
            (
                r"invalid (?:message )?content type|only text|text[- ]only|mmproj|missing data required for image input"
                r"|unsupported content part type"
            ),
            (
                r"does not support image|image inputs? (?:is|are) (?:disabled|off)|multimodal (?:inputs? )?(?:is"
                r"|are) (?:disabled|not)"
            ),
        ),
    ),
    (
        Meaning.MODEL,
        (
            (
                r"llm provider not provided|model_not_found|not a valid model|modelnotfound|deploymentnotfound"
                r"|deployment does not exist"
            ),
            (
                r"model\b[^.]{0,120}?(?:not exist|not found|decommissioned|retired|deprecated|no longer (?:supported"
                r"|available)|end of its life|not available)"
            ),
            r"model (?:id|identifier|name)(?: is| was)? (?:invalid|not valid|unknown)|provided model identifier is invalid",
            r"(?:unknown|no such|invalid|unsupported|inaccessible) model\b",
            r"inference profile|on-demand throughput|non-serverless model|dedicated endpoint|not (?:deployed|serverless|loaded)",
            (
                r"unable to access (?:non-serverless )?model|model_not_(?:available|supported)"
                r"|no (?:healthy )?deployments? (?:available|found)"
            ),
            (
                r"not a chat model|operation ?not ?supported|does not work with the specified model"
                r"|chatcompletion operation does not work"
            ),
            (
                r"only (?:supported|available) (?:in|via|through|with) (?:v1/|the )?responses|try pulling it first"
                r"|no models loaded|no endpoints found for"
            ),
            r"there are no healthy deployments|invalid model name passed in|api version|apiversion|resource not found",
        ),
    ),
    (
        Meaning.SETUP,
        (
            r"no module named|pip install|missing (?:boto3|dependency|dependencies)",
            r"requires more system memory|out of memory|cuda error|unable to load model|error loading model",
            (
                r"project (?:id )?(?:is )?(?:not set|required|missing|not found|could not be)|region (?:is )?(?:not set"
                r"|required|missing)"
            ),
            r"api_base (?:is )?(?:required|missing|not set)|must provide (?:an )?(?:azure_)?endpoint",
        ),
    ),
    (
        Meaning.ABOUT_FORMAT,
        (
            (
                r"response[_ ]?(?:format|schema|mime_?type)|json[_ ]?schema|json[_ ]?object|json mode"
                r"|structured[_ ]outputs?|output_(?:format|config)"
            ),
        ),
    ),
    (
        Meaning.PARAMETER,
        (
            r"unsupported[ _](?:parameter|value)|unsupportedparamserror|unsupported_params",
            r"(?:unknown|unrecognized|unexpected|unsupported) (?:request )?(?:parameter|argument|keyword|field|name)",
            r"(?:not|n't|n\u2019t) support (?:the )?param(?:eter)?s?|extra (?:inputs|fields) (?:are )?not (?:permitted|allowed)",
            (
                r"\b(?:temperature|top_p|top_k|min_p|seed|reasoning_effort|thinking|verbosity|service_tier|\w+_penalty)\b[^|]{0,80}?"
                r"\b(?:unsupported|deprecated|must be|should be|may only be|can only be|not (?:supported|allowed"
                r"|permitted|available)|cannot (?:both )?be|out of range|invalid)"
            ),
            (
                r"(?:not|n't|n\u2019t) support (?:the )?[`'\"]?(?:temperature|top_p|top_k|min_p|seed|reasoning_effort|thinking"
                r"|verbosity|\w+_penalty)"
            ),
            r"invalid '?(?:temperature|top_p)|only temperature=1|does not support (?:thinking|reasoning)",
        ),
    ),
    (
        Meaning.ABOUT_POLICY,
        (
            (
                r"content[ _]?(?:policy|filter|management)|safety system|moderation|flagged|usage polic(?:y|ies)"
                r"|guardrail|usage guidelines"
            ),
        ),
    ),
    (
        Meaning.BUSY,
        (
            (
                r"overloaded|over(?:loaded|_capacity)|at capacity|server (?:is )?busy|too many concurrent"
                r"|no available (?:capacity|server)"
            ),
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
