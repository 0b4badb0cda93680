"""The request as the daemon sees it: a claim, and what the client asked for.

Owns the types, and the list of what a client may set. A ``Claim`` never carries pictures (16 rows of 7 MB cost 650 ms and
200 MB): a request reads its own when it starts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from draftd.errors import InvalidRequest
from draftd.json_values import json_list
from draftd.sanitize import storable_text

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context; the table's trigger has the same expression."""
MAX_TAG_CHARS = 35
_TAG = r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*"
LanguageTag = Annotated[str, StringConstraints(pattern=rf"^{_TAG}$", max_length=MAX_TAG_CHARS)]
"""BCP 47, by its form only."""
MAX_PROFILE_FACTS = 200
MAX_PROFILE_SAMPLES = 10
MAX_PROFILE_CHARS = {"me": 200, "about": 2_000, "facts": 500, "signature": 500, "voice_samples": 2_000}
"""How long each text of a profile may be; the table's trigger has the same bounds."""
VoiceSample = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]


def _listed(value: Any) -> Any:
    """Accept null as an empty list; name the expected type in JSON's terms."""
    if not isinstance(value, list | tuple | None):
        raise PydanticCustomError("list_type", "Input should be a list of texts")
    return value or ()


VoiceSamples = Annotated[tuple[VoiceSample, ...], Field(max_length=10), BeforeValidator(_listed)]
Fact = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Facts = Annotated[tuple[Fact, ...], Field(max_length=20), BeforeValidator(_listed)]
LengthName = Literal["short", "medium", "detailed"]
Lengths = Annotated[
    tuple[LengthName, ...],
    BeforeValidator(_listed),
    AfterValidator(lambda named: tuple(length for length in get_args(LengthName) if length in named)),
]


class Options(BaseModel):
    """``draft_requests.options``: how the requester wants the drafts. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tone: Line | None = Field(None, description='a few words: `"warm"`, `"brief, formal"`; 200 characters')
    language: LanguageTag | None = Field(
        None, description="language of the replies, as a tag such as `en` or `pt-BR`; default: the conversation's"
    )
    reader_language: LanguageTag | None = Field(
        None,
        description="the requester's language, for summary, gist, angles and `missing`; each option gets a `translation`",
    )
    me: Line | None = Field(
        None, description='who the requester is in the screenshot: a name, or `"right-hand bubbles"`; 200 characters'
    )
    voice_samples: VoiceSamples = Field(
        (), description="up to 10 texts by the requester, of up to 4,000 characters each"
    )
    max_chars: Annotated[int, Field(strict=True, ge=1, le=20_000)] | None = Field(
        None, description="maximum length of a reply, 1 to 20,000; the platform's own limit applies too"
    )
    facts: Facts = Field(
        (),
        description='up to 20 statements that are true and may be used: `"my course was CS, 2019 to 2023"`; 500 characters each',
    )
    stance: Literal["accept", "decline", "open"] | None = Field(
        None, description="`accept`, `decline` or `open`: the decision that all drafts take"
    )
    answer_to: Line | None = Field(
        None,
        description="which message to answer when several could be meant: a `key` of the parent's `other_targets`, or words: "
        '`"Ana\'s comment about prices"`; 200 characters',
    )
    lengths: Lengths = Field((), description="which of `short`, `medium`, `detailed` are wanted; default: all three")

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "Options":
        """Check the client's options.

        Raises:
            InvalidRequest: a key is unknown or a value is out of range; the message names the first.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "options"
            raise InvalidRequest(f"options: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class ClientColumn:
    """A column of ``draft_requests`` that a client may set at INSERT."""

    name: str
    type: str
    default: str
    meaning: str
    """For the documents, in Markdown."""


CLIENT_COLUMNS = (
    ClientColumn(
        "image_urls",
        "text[]",
        "",
        "1 to 8 screenshots in reading order: `https:` or `http:` URLs of at most 8,192 characters, or "
        "`data:image/…;base64,…`. 24 MiB in a row. None with `parent_id`",
    ),
    ClientColumn(
        "requester_id",
        "text",
        "''",
        "the user or tenant the request belongs to. Requesters take turns, however many requests each has; those without "
        "a name share one turn. For an end user, its own id, which is also the default. 256 characters, like `agent` and "
        "`idempotency_key`",
    ),
    ClientColumn("context", "text", "null", "what the requester wants to say; 8,000 characters"),
    ClientColumn("options", "jsonb", "{}", "how the drafts should be, see below; 256 KiB"),
    ClientColumn(
        "agent",
        "text",
        "'comment_generator'",
        "the agent that writes the drafts ([prompts.md](prompts.md)). Refused if daemons ran in the last day and none has it",
    ),
    ClientColumn(
        "parent_id",
        "uuid",
        "null",
        "refine the drafts of this completed request of the same requester: `context`, `stance` or `answer_to` say how; without "
        "any of them, you get other drafts ([refining](#refining))",
    ),
    ClientColumn("priority", "smallint", "0", "-100 to 100; higher runs first; for trusted clients"),
    ClientColumn("available_at", "timestamptz", "now()", "not before"),
    ClientColumn(
        "expires_at",
        "timestamptz",
        "null",
        "a request not drafted by then fails as `expired` without a model call. Null becomes "
        "`available_at` plus six hours (`draftd settings set default_expiry_s=…`)",
    ),
    ClientColumn("idempotency_key", "text", "null", "unique per requester"),
    ClientColumn("max_attempts", "smallint", "5", "1 to 10"),
    ClientColumn(
        "traceparent",
        "text",
        "null",
        "your trace, as a W3C `traceparent`: the request's trace continues it, and the model's server receives it",
    ),
    ClientColumn("metadata", "jsonb", "{}", "your own data, which draftd never reads; 256 KiB"),
    ClientColumn("id", "uuid", "random", "can be set by trusted clients"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A row that this process holds, as the claim returned it."""

    id: UUID
    agent: str
    requester_id: str
    attempt: int
    """The number of this attempt, from 1."""
    lease_token: int
    """The fence: every write for this claim must match it."""
    expires_in_s: float | None = None
    """From the claim to ``expires_at``, by the database's clock; not above 0 when it had passed, None when it never does."""
    attempt_s: float
    """How long this attempt may take, in seconds from the claim."""
    image_bytes: int
    """Size of ``image_urls`` as stored, in bytes, known without reading it."""
    given_back: int = 0
    """How often a hold gave the attempt back."""
    traceparent: str | None = None
    """The client's trace, in W3C's form."""
    probe: str | None = None
    """The model on hold that this request may try."""

    @property
    def key(self) -> tuple[UUID, int]:
        """What identifies this claim: the row's id and the lease token."""
        return self.id, self.lease_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is true of the requester, whatever the request."""

    me: str | None = None
    about: str = ""
    facts: tuple[str, ...] = ()
    signature: str = ""
    voice_samples: tuple[str, ...] = ()
    reader_language: str | None = None

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Self:
        """Read a row of ``draft_profiles``; what its trigger would refuse is cut or left out: no request fails for it."""
        tag = _cut(raw.get("reader_language"), MAX_TAG_CHARS)
        return cls(
            me=_cut(raw.get("me"), MAX_PROFILE_CHARS["me"]) or None,
            about=_cut(raw.get("about"), MAX_PROFILE_CHARS["about"]),
            facts=_cut_all(raw.get("facts"), MAX_PROFILE_FACTS, MAX_PROFILE_CHARS["facts"]),
            signature=_cut(raw.get("signature"), MAX_PROFILE_CHARS["signature"]),
            voice_samples=_cut_all(raw.get("voice_samples"), MAX_PROFILE_SAMPLES, MAX_PROFILE_CHARS["voice_samples"]),
            reader_language=tag if re.fullmatch(_TAG, tag) else None,
        )


def _cut(value: Any, max_chars: int) -> str:
    return storable_text(value, max_chars).strip() if isinstance(value, str) else ""


def _cut_all(values: Any, most: int, max_chars: int) -> tuple[str, ...]:
    texts = (_cut(value, max_chars) for value in json_list(values)[:most])
    return tuple(dict.fromkeys(filter(None, texts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SentText:
    """A text that the requester sent in the end, and that is largely their own work."""

    text: str
    platform: str = ""
    author: str = ""
    """To whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a claimed row asks for; read by the attempt itself."""

    image_urls: tuple[str, ...]
    context: str | None
    options: dict[str, Any]
    parent: "Parent | None"
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """The limit of output tokens that an earlier attempt found each model to need, by the model's name."""
    asked_at: datetime | None = None
    """When the request was made, by the database's clock."""
    profile: Profile = Profile()
    """The requester's; empty without one."""
    sent: tuple[SentText, ...] = ()
    """What the requester really sent after other requests and may be learnt from, the latest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an earlier request of a chain of refinements asked for."""

    context: str
    """Empty if it had none."""
    options: dict[str, Any]
    """As the client wrote them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The earlier request that this one refines."""

    result: dict[str, Any]
    reading: list[str]
    """The messages that mattered, verbatim; no image is read again."""
    wishes: tuple[Wish, ...] = ()
    """What the chain of refinements asked for so far, the latest request's first."""
    chain_texts: tuple[str, ...] = ()
    """Every text drafted so far in the chain of refinements, the latest request's first."""
    unsupported: tuple[str, ...] = ()
    """The quotes in these texts that stood in no source."""

    def without_unsupported(self, text: str) -> str:
        """Return a drafted text without what stood in no source, so that being drafted makes nothing true."""
        for quote in self.unsupported:
            # Not within a longer word or number: "4" is no part of "4,250".
            text = re.sub(rf"(?<![0-9A-Za-z])(?<![0-9][.,:]){re.escape(quote)}(?![0-9A-Za-z]|[.,:][0-9])", " ", text)
        return text
