"""Every way for a request or a command to fail, as one tree.

    DraftdError
    ├── CommandError                  ends a command: one line and an exit code
    │   ├── UsageError                2
    │   ├── DatabaseUnavailable       69
    │   ├── TryAgain                  75
    │   └── ConfigurationError        78
    ├── ConnectionLost                the statement may or may not have taken effect
    ├── LeaseLost                     the claim no longer holds the row: the attempt is discarded
    │   └── RequestCancelled          because its client cancelled it
    └── RequestError                  ends an attempt, with a code of the contract
        ├── InvalidRequest            final
        ├── Expired                   final
        ├── ImageBlocked              final
        ├── ImageFetchFailed          retry
        │   ├── ImageNotServed        final
        │   └── ImageBudgetExhausted  retry
        ├── ImageTooLarge             final
        ├── ImageInvalid              final
        ├── ImageUnsupported          final
        ├── ImageGone                 final
        ├── ModelError                knows which model failed
        │   ├── ModelRateLimited      hold
        │   ├── ModelUnavailable      hold
        │   ├── ModelMisconfigured    hold
        │   │   └── NoModelHere       retry
        │   ├── ModelTimeout          retry
        │   ├── ModelRefused          final
        │   ├── ImageUnreadable       final
        │   ├── OutputInvalid         retry
        │   └── ContextTooLong        final
        ├── NothingToReplyTo          final
        ├── NothingOpen               final
        ├── NotReserved               a model call was not made
        │   ├── BudgetExceeded        final, unless the request may wait for the next day
        │   └── NoRoomNow             without a code: the attempt is given back
        ├── WorkerLost                retry, the first time without delay (written by the reaper)
        └── InternalError             retry
            └── RowRefused            final

The docstring of a class is its message when nothing more precise is known. Messages are for whoever runs draftd; ``told`` is what
the app's user may read. Errors of libraries are translated where the library is called, with ``raise … from``; their texts pass
``sanitize.redact`` before they are stored.

Invariant: an error is a fact. Its attributes are set when it is created and never change, which the type checker proves by
``Final``; only ``providers.failure_policy`` decides what it means for a request. Its kind is a constant of its class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final, Self


class Kind(StrEnum):
    """The kind of an error (section 3 of the contract); ``failure_policy`` decides what happens to the row."""

    RETRY = "retry"
    """May succeed later: back to ``pending`` with a delay, until ``max_attempts``."""
    FINAL = "final"
    """Will not succeed later: ``failed`` at once."""
    HOLD = "hold"
    """The model's fault: the attempt is given back, and no daemon claims for that model until a probe succeeds."""


class UserAction(StrEnum):
    """What the app's user can do about an error (``error_details`` in section 1 of the contract)."""

    RESEND = "resend"
    """Send the picture again, or another one."""
    OPEN_MESSAGE = "open_message"
    """Open one message and send a picture of that."""
    TRY_LATER = "try_later"
    SHORTEN = "shorten"
    """Send less, or a smaller picture."""
    NONE = "none"


Details = Mapping[str, str | int]
"""Facts about an error: ``picture`` (from 1), ``host``, ``status``, ``found``, ``limit``."""
NO_DETAILS: Details = MappingProxyType({})


class DraftdError(Exception):
    """Something went wrong in draftd."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or first_line(type(self)))

    @property
    def message(self) -> str:
        """The text for a person; one line."""
        return str(self.args[0])


def first_line(cls: type) -> str:
    """Return the first line of a class's docstring: its default message."""
    return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


EXIT_TRY_AGAIN = 75
"""The exit code for try again: rows wait on a hold, a request is not finished yet, or a lock was held."""


class CommandError(DraftdError):
    """The command cannot continue."""

    exit_code: ClassVar[int] = 1


class UsageError(CommandError):
    """The command line is invalid."""

    exit_code = 2


class DatabaseUnavailable(CommandError):
    """The database cannot be reached."""

    exit_code = 69


class TryAgain(CommandError):
    """Another session blocked this; nothing was changed."""

    exit_code = EXIT_TRY_AGAIN


class ConfigurationError(CommandError):
    """A setting is missing or wrong."""

    exit_code = 78


class ConnectionLost(DraftdError):
    """The connection to the database was lost."""


class LeaseLost(DraftdError):
    """The row is no longer held by this claim."""


class RequestCancelled(LeaseLost):
    """Its client cancelled it."""


class RequestError(DraftdError):
    """An attempt ended without a draft."""

    code: ClassVar[str] = ""
    kind: ClassVar[Kind] = Kind.FINAL
    user_action: ClassVar[UserAction] = UserAction.NONE
    user_message: ClassVar[str] = "Something went wrong on our side. Please try again later."
    """A sentence that an app may show to its user, whatever the details; one for each code."""
    is_for_user: ClassVar[bool] = False
    """Whether messages of this class may be read by the app's user: they name pictures and hosts, never a model or a library."""

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        retry_after_s: float | None = None,
        details: Details = NO_DETAILS,
    ) -> None:
        super().__init__(message)
        self.details: Final[Details] = details
        self.model: Final[str | None] = model
        """The operator's name for it; None if no model is involved."""
        self.retry_after_s: Final[float | None] = retry_after_s
        """How long the provider asks to wait, in seconds."""

    @property
    def told(self) -> str:
        """What ``draft_requests.error_message`` says; empty for the sentence of the code. ``errors`` has the message."""
        return self.message if self.is_for_user else ""

    def of_picture(self, number: int, count: int) -> Self:
        """Return this error with the picture that it is about.

        Args:
            number: of the picture, from 1.
            count: of the request's pictures.
        """
        host = str(self.details.get("host", ""))
        source = f", from {host}" if host and host not in self.message else ""
        message = f"picture {number} of {count}{source}: {self.message}"
        return type(self)(message, details={"picture": number, **self.details})

    def about(self, **details: str | int) -> Self:
        """Return this error of a picture with more details; empty ones are left out."""
        more = {name: value for name, value in details.items() if value != ""}
        return type(self)(self.message, details={**more, **self.details})


class InvalidRequest(RequestError):
    """The request's options or agent are invalid."""

    code = "invalid_request"
    user_message = "Something in this request was not understood. Please start again."
    is_for_user = True


class Expired(RequestError):
    """The request was not drafted before its expires_at."""

    code = "expired"
    user_message = "This took too long, and no reply was written. Please send the screenshot again."
    user_action = UserAction.RESEND


class ImageBlocked(RequestError):
    """draftd may not connect to the address of an image."""

    code = "image_blocked"
    user_message = "The picture cannot be opened from where it is stored. Please upload it again."
    is_for_user = True
    user_action = UserAction.RESEND


class ImageFetchFailed(RequestError):
    """An image could not be fetched; a URL must work until the request's expires_at, or send a data: URL."""

    code = "image_fetch_failed"
    user_message = "The picture could not be loaded. Please send it again."
    is_for_user = True
    user_action = UserAction.RESEND
    kind = Kind.RETRY


class ImageNotServed(ImageFetchFailed):
    """The image's server answers in a way that asking again will not change."""

    kind = Kind.FINAL


class ImageBudgetExhausted(ImageFetchFailed):
    """No memory became free for the image in time."""


class ImageTooLarge(RequestError):
    """An image exceeds the limit of bytes, pixels or memory."""

    code = "image_too_large"
    user_message = "The picture is too large. Please send a smaller one."
    is_for_user = True
    user_action = UserAction.SHORTEN


class ImageInvalid(RequestError):
    """The bytes are not an image, or the image is damaged."""

    code = "image_invalid"
    user_message = "The picture could not be read. Please send the screenshot again."
    is_for_user = True
    user_action = UserAction.RESEND


class ImageUnsupported(RequestError):
    """The image format is not accepted."""

    code = "image_unsupported"
    user_message = "This kind of picture is not supported. Please send a screenshot."
    is_for_user = True
    user_action = UserAction.RESEND


class ImageGone(RequestError):
    """The request's images were deleted when it ended; insert it again with its images."""

    code = "image_gone"
    user_message = "The screenshot is no longer stored. Please send it again."
    is_for_user = True
    user_action = UserAction.RESEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The usage of a call; None means unknown."""

    input_tokens: int | None = None
    """All of them, including those from the provider's cache."""
    cached_tokens: int | None = None
    """Input tokens from the provider's cache, which cost less."""
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


class ModelError(RequestError):
    """The model call failed."""

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        retry_after_s: float | None = None,
        spent: Spent | None = None,
    ) -> None:
        super().__init__(message, model=model, retry_after_s=retry_after_s)
        self.spent: Final[Spent] = spent or Spent()


class ModelRateLimited(ModelError):
    """The provider's rate limit or quota is exhausted."""

    code = "model_rate_limited"
    user_message = "Many replies are being written right now. Please try again in a few minutes."
    user_action = UserAction.TRY_LATER
    kind = Kind.HOLD

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        retry_after_s: float | None = None,
        spent: Spent | None = None,
        is_quota: bool = False,
    ) -> None:
        super().__init__(message, model=model, retry_after_s=retry_after_s, spent=spent)
        self.is_quota: Final[bool] = is_quota
        """Whether the quota is exhausted: paying helps, waiting does not."""


class ModelUnavailable(ModelError):
    """The provider is down, overloaded or unreachable."""

    code = "model_unavailable"
    user_message = "Replies cannot be written right now. Please try again in a few minutes."
    user_action = UserAction.TRY_LATER
    kind = Kind.HOLD


class ModelMisconfigured(ModelError):
    """The key is wrong, the model is unknown, or it cannot see images."""

    code = "model_misconfigured"
    user_message = "Replies cannot be written right now. Please try again later."
    user_action = UserAction.TRY_LATER
    kind = Kind.HOLD


class NoModelHere(ModelMisconfigured):
    """None of the agent's models may be asked from this machine; another one may."""

    kind = Kind.RETRY


class ModelTimeout(ModelError):
    """The model did not answer in the time allowed."""

    code = "model_timeout"
    user_message = "Writing the replies took too long. Please try again."
    user_action = UserAction.TRY_LATER
    kind = Kind.RETRY


class ModelRefused(ModelError):
    """The model or the provider's content filter refused to answer."""

    code = "model_refused"
    user_message = "No reply can be suggested for this screenshot."


class ImageUnreadable(ModelError):
    """The provider cannot read an image."""

    code = ImageInvalid.code
    user_message = ImageInvalid.user_message
    user_action = ImageInvalid.user_action


class OutputInvalid(ModelError):
    """The model's answer is still invalid after one repair."""

    code = "output_invalid"
    user_message = "No good reply was found this time. Please try again."
    user_action = UserAction.TRY_LATER
    kind = Kind.RETRY


class ContextTooLong(ModelError):
    """The request does not fit into the model's context window."""

    code = "context_too_long"
    user_message = "This is too much to read at once. Please send fewer or shorter screenshots."
    user_action = UserAction.SHORTEN


class NothingToReplyTo(RequestError):
    """The screenshot shows no message to reply to."""

    code = "nothing_to_reply_to"
    user_message = "There is no message to reply to in this screenshot. Please send one that shows it."
    user_action = UserAction.RESEND


class NothingOpen(RequestError):
    """The screenshot shows a list of chats or mails, and none of them is open."""

    code = "nothing_open"
    user_message = "No message is open in this screenshot. Please open one, and send a screenshot of it."
    user_action = UserAction.OPEN_MESSAGE


class NotReserved(RequestError):
    """Nothing could be reserved for the model call, so it was not made."""


class BudgetExceeded(NotReserved):
    """The day's budget does not hold another call."""

    code = "budget_exceeded"
    user_message = "No more replies can be written today. Please try again tomorrow."
    user_action = UserAction.TRY_LATER


class NoRoomNow(NotReserved):
    """Calls in flight, or a ceiling of the model, leave no room for the call right now."""

    kind = Kind.RETRY


class WorkerLost(RequestError):
    """The worker died, lost its lease, or let the attempt run past its deadline."""

    code = "worker_lost"
    user_message = "Writing the replies was interrupted. Please try again."
    user_action = UserAction.TRY_LATER
    kind = Kind.RETRY


class InternalError(RequestError):
    """A bug in draftd, or a row that the database refuses."""

    code = "internal_error"
    user_action = UserAction.TRY_LATER
    kind = Kind.RETRY


class RowRefused(InternalError):
    """The database refuses to change the request."""

    kind = Kind.FINAL


def request_errors() -> list[type[RequestError]]:
    """Return the first class of every code, in the order of the tree."""
    found: list[type[RequestError]] = []

    def walk(cls: type[RequestError]) -> None:
        if vars(cls).get("code") and cls.code not in [one.code for one in found]:
            found.append(cls)
        for child in cls.__subclasses__():
            walk(child)

    walk(RequestError)
    return found


def told_of(code: str) -> str:
    """Return the sentence that an app may show to its user for a code; of an unknown code that of ``internal_error``."""
    return next((error.user_message for error in request_errors() if error.code == code), InternalError.user_message)


def error_details(code: str, details: Details = NO_DETAILS) -> dict[str, str | int]:
    """Return the value of ``draft_requests.error_details``.

    Args:
        code: the error's code; the action for an unknown one is ``none``.
        details: the known details.
    """
    action = next((error.user_action for error in request_errors() if error.code == code), UserAction.NONE)
    return {**details, "action": action.value}
