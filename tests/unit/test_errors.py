"""The tree of errors is the contract's section 3, and its drawing is the tree."""

import inspect
import re

from draftd import errors
from draftd.errors import (
    CommandError,
    DraftdError,
    ImageNotServed,
    Kind,
    ModelError,
    RequestError,
    error_details,
    first_line,
    request_errors,
)
from tables import per_row

CONTRACT = {
    "invalid_request": Kind.FINAL,
    "expired": Kind.FINAL,
    "image_blocked": Kind.FINAL,
    "image_fetch_failed": Kind.RETRY,
    "image_too_large": Kind.FINAL,
    "image_invalid": Kind.FINAL,
    "image_unsupported": Kind.FINAL,
    "image_gone": Kind.FINAL,
    "model_rate_limited": Kind.HOLD,
    "model_unavailable": Kind.HOLD,
    "model_misconfigured": Kind.HOLD,
    "model_timeout": Kind.RETRY,
    "model_refused": Kind.FINAL,
    "output_invalid": Kind.RETRY,
    "nothing_to_reply_to": Kind.FINAL,
    "nothing_open": Kind.FINAL,
    "context_too_long": Kind.FINAL,
    "budget_exceeded": Kind.FINAL,
    "worker_lost": Kind.RETRY,
    "internal_error": Kind.RETRY,
}
DRAWN = re.compile(r"^(?P<lead>[ │├└─]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<about>.+))?$", re.MULTILINE)


def tree(root: type[DraftdError]) -> list[type[DraftdError]]:
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


def of_the_module() -> list[type[DraftdError]]:
    # Tests and other modules may derive from these.
    return [cls for cls in tree(DraftdError) if cls.__module__ == errors.__name__]


def drawn() -> dict[str, tuple[int, str]]:
    drawing = errors.__doc__ or ""
    return {found["name"]: (len(found["lead"]), found["about"] or "") for found in DRAWN.finditer(drawing)}


def test_every_code_of_the_contract_has_one_class_with_its_kind() -> None:
    found = [(cls.code, cls.kind) for cls in request_errors()]
    assert sorted(found) == sorted(CONTRACT.items())


def test_the_drawing_shows_every_class_below_its_parent() -> None:
    shown, classes = drawn(), of_the_module()
    assert [*shown] == [cls.__name__ for cls in classes]
    for cls in classes[1:]:
        (parent,) = cls.__bases__
        assert shown[cls.__name__][0] == shown[parent.__name__][0] + 4, cls


def test_the_drawing_tells_kinds_and_exit_codes() -> None:
    shown = drawn()
    for cls in of_the_module():
        about = shown[cls.__name__][1]
        if issubclass(cls, RequestError) and cls.code:
            assert about.startswith(str(cls.kind)), cls
        elif issubclass(cls, CommandError) and cls is not CommandError:
            assert about == str(cls.exit_code), cls


@per_row("cls", request_errors())
def test_without_a_message_the_docstring_is_one(cls: type[RequestError]) -> None:
    error = cls()
    assert error.message == str(error) == first_line(cls)
    assert error.message.endswith((".", ")", "images"))
    assert (error.model, error.retry_after_s) == (None, None)


def test_whoever_raises_an_error_chooses_its_class_and_not_its_kind() -> None:
    for cls in of_the_module():
        assert "kind" not in inspect.signature(cls).parameters, cls
    assert errors.ImageNotServed("404").about(picture=1).kind is Kind.FINAL
    assert errors.ImageFetchFailed("503").about(picture=1).kind is Kind.RETRY


def test_a_model_error_carries_its_facts() -> None:
    error = errors.ModelRateLimited("slow down", model="openai/m", retry_after_s=3)
    assert (error.message, error.model, error.retry_after_s, error.kind) == ("slow down", "openai/m", 3, Kind.HOLD)
    assert isinstance(error, ModelError)
    assert (error.spent, error.is_quota) == (errors.Spent(), False)
    assert errors.ModelRateLimited("pay first", is_quota=True).is_quota
    spent = errors.Spent(input_tokens=7)
    assert errors.ModelRefused("no", spent=spent).spent is spent


def test_commands_end_with_the_exit_codes_of_the_contract() -> None:
    found = {cls.__name__: cls.exit_code for cls in of_the_module() if issubclass(cls, CommandError)}
    codes = {"CommandError": 1, "UsageError": 2, "DatabaseUnavailable": 69, "TryAgain": 75, "ConfigurationError": 78}
    assert found == codes


def test_details_say_what_the_apps_user_can_do() -> None:
    assert error_details("image_too_large", {"limit": 20}) == {"limit": 20, "action": "shorten"}
    assert error_details("nothing_open") == {"action": "open_message"}
    assert error_details("unheard_of") == {"action": "none"}


def test_an_error_of_a_picture_learns_where_it_was_without_being_changed() -> None:
    error = ImageNotServed("503", details={"status": 503, "host": "first.example"})
    told = error.about(picture=2, host="second.example")
    assert (type(told), told.message, told.kind) == (ImageNotServed, "503", Kind.FINAL)
    assert told.details == {"status": 503, "host": "first.example", "picture": 2}
    assert error.details == {"status": 503, "host": "first.example"}
