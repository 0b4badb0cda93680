"""The cases of an evaluation: ``DIR/cases.json`` and its screenshots.

Owns the form of a case and its fingerprint. What is not known of a case is left out; keys that are not known here (a source, a
licence) are allowed. Invariant: a case that could not be used later is refused here, with its name.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from draftd.errors import InvalidRequest, UsageError, request_errors
from draftd.reply.platforms import Platform
from draftd.reply.result import ContentType, ReplyNeeded
from draftd.request import LanguageTag, Options, Profile
from draftd.sanitize import storable

FILE = "cases.json"
PROFILE = "profile"
COMPLETED = "completed"
EITHER = "either"
"""The label of an outcome that a careful reader could also see otherwise: drafts, or nothing to reply to."""
_NOTHING = ("nothing_to_reply_to", "nothing_open")
_OUTCOMES = (COMPLETED, EITHER, *(error.code for error in request_errors()))
_MAX_PICTURES = 8
_MAX_BASE64_BYTES = 24 * 1024 * 1024
"""What a row of ``draft_requests`` holds."""


class Split(StrEnum):
    """Who may look at a case."""

    DEV = "dev"
    """For working on the prompt."""
    HELD_OUT = "held_out"
    """Unseen until the end; ``lock`` notices when one is edited."""


def _as_texts(value: Any) -> Any:
    """Accept a single value for a list of one, and null for an empty one."""
    return () if value is None else (value,) if isinstance(value, str) else value


def _one_of(known: Sequence[str]) -> AfterValidator:
    def check(labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if label not in known:
                raise PydanticCustomError(
                    "label", "{label} is not one of {known}", {"label": repr(label), "known": ", ".join(known)}
                )
        return labels

    return AfterValidator(check)


def _valid_options(options: dict[str, Any]) -> dict[str, Any]:
    try:
        Options.read(options)
    except InvalidRequest as error:
        raise PydanticCustomError("options", "{why}", {"why": error.message.removeprefix("options: ")}) from error
    return options


def _valid_profile(profile: dict[str, Any]) -> dict[str, Any]:
    read = asdict(Profile.read(profile))
    for key, value in profile.items():
        # What the table's trigger would refuse does not come out as it went in.
        if key not in read or read[key] != (tuple(value) if isinstance(value, list) else value):
            raise PydanticCustomError("profile", "{key} is not valid", {"key": key})
    return profile


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Case(BaseModel):
    """A screenshot, and what is known of it. A label is a list of the values that are right; an empty one is not known."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    n: Name
    file: Annotated[Texts, Field(min_length=1, max_length=_MAX_PICTURES)]
    split: Split = Split.DEV
    outcome: Annotated[Texts, AfterValidator(lambda value: value or (EITHER,)), _one_of(_OUTCOMES)] = (EITHER,)
    platform: Annotated[Texts, _one_of([one.value for one in Platform])] = ()
    content_type: Annotated[Texts, _one_of([one.value for one in ContentType])] = ()
    language: Annotated[tuple[LanguageTag, ...], BeforeValidator(_as_texts)] = ()
    reply_needed: Annotated[Texts, _one_of([one.value for one in ReplyNeeded])] = ()
    me: str | None = None
    """Who the requester is in the screenshot; for the judge."""
    answer_to: str | None = None
    """Whom a good reply answers; for the judge."""
    context: Annotated[str, Field(max_length=8_000)] | None = None
    """The request's ``context``."""
    options: Annotated[dict[str, Any], AfterValidator(_valid_options), BeforeValidator(lambda value: value or {})] = {}
    """The request's ``options``."""
    profile: Annotated[dict[str, Any], AfterValidator(_valid_profile), BeforeValidator(lambda value: value or {})] = {}
    """The requester's row of ``draft_profiles``, without a requester."""
    good: str | None = None
    """What a good reply does."""
    must_not_say: Texts = ()
    """What no reply may say: words, or a description."""
    paths: tuple[Path, ...] = ()
    sha256: str = ""
    """Of everything in its entry, and of its pictures."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that are right."""
        return (*self.outcome, COMPLETED, *_NOTHING) if EITHER in self.outcome else self.outcome

    def has(self, name: str) -> bool:
        """Return whether the request or the profile has an option, or for ``profile`` whether there is one."""
        return bool(self.profile if name == PROFILE else self.options.get(name) or self.profile.get(name))

    def without(self, names: Sequence[str]) -> Self:
        """Return the same case without some options, in the request and in the profile, or without the ``profile``."""
        options, profile = (
            {name: value for name, value in given.items() if name not in names}
            for given in (self.options, self.profile)
        )
        return self.model_copy(update={"options": options, "profile": {} if PROFILE in names else profile})

    def image_urls(self) -> list[str]:
        """Return its screenshots as ``data:`` URLs, whose type draftd does not read."""
        return [_data_url(path.read_bytes()) for path in self.paths]

    @classmethod
    def read(cls, raw: dict[str, Any], directory: Path) -> Self:
        """Check an entry of the file.

        Raises:
            UsageError: it is not valid, cannot be stored, or a picture of it cannot be used.
        """
        where = f"case {raw.get('n', '(without n)')!r}"
        try:
            case = cls.model_validate({key: value for key, value in raw.items() if key not in {"paths", "sha256"}})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"{FILE}: {where}: {key}: {first['msg']}") from error
        known = {key: raw[key] for key in cls.model_fields if key in raw}
        if storable(known) != known:
            raise UsageError(
                f"{FILE}: {where}: it has a NUL, half a character, or a text of more than 20,000 characters"
            )
        try:
            paths = tuple(_picture(directory, name, where) for name in case.file)
            if sum(path.stat().st_size for path in paths) * 4 // 3 > _MAX_BASE64_BYTES:
                raise UsageError(f"{FILE}: {where}: its pictures exceed 24 MiB in base64")
            pictures = [path.read_bytes() for path in paths]
        except (OSError, RuntimeError) as error:  # a loop of symbolic links is a RuntimeError
            raise UsageError(f"{FILE}: {where}: file: cannot be read: {error}") from error
        return case.model_copy(update={"paths": paths, "sha256": _digest(raw, pictures)})


def load(directory: Path) -> list[Case]:
    """Read the cases of a folder.

    Raises:
        UsageError: there is no valid ``cases.json``; the message names the case.
    """
    path = directory / FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path}: not a list of objects")
    cases = [Case.read(entry, directory) for entry in entries]
    names = Counter(case.n for case in cases)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise UsageError(f"{FILE}: case {twice[0]!r}: there are two of this name")
    return cases


def _picture(directory: Path, name: str, where: str) -> Path:
    path = (directory / name).resolve()
    # The report shows the pictures: a case must not bring other files into it.
    if not path.is_relative_to(directory.resolve()):
        raise UsageError(f"{FILE}: {where}: file: {name!r} is outside of the folder")
    if not path.is_file():
        raise UsageError(f"{FILE}: {where}: file: there is no {name!r} in {directory}")
    return path


def _digest(raw: dict[str, Any], pictures: Sequence[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for picture in pictures:
        digest.update(hashlib.sha256(picture).digest())
    return digest.hexdigest()


def _data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
