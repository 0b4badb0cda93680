"""The generated types: open to what later versions add, and true of what this one writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schema/result.json").read_text())
RESULT: dict[str, Any] = {
    "schema_version": 1,
    "platform": "linkedin",
    "platform_name": "LinkedIn",
    "content_type": "post",
    "language": "en",
    "summary": "A post.",
    "me": "the signed-in user",
    "replying_to": {"author": "Ana", "gist": "asks", "expects": "decision"},
    "reply_needed": "yes",
    "options": [{"length": "short", "angle": "agrees", "stance": "accept", "text": "Yes.", "unsupported": []}],
    "other_targets": [],
    "unsent_text": None,
    "missing": [],
    "confidence": "high",
    "warnings": [],
}


def check(**over: Any) -> None:
    Draft202012Validator(SCHEMA).validate(RESULT | over)


def test_the_schema_is_one_and_takes_a_result() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    check()


def test_unknown_values_and_keys_parse() -> None:
    option = RESULT["options"][0] | {"stance": "postpone", "sentiment": "warm"}
    check(platform="mastodon", warnings=["something_new"], options=[option], sender={"name": "Ana"})


def test_a_key_that_every_result_has_is_demanded() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for key in RESULT:
        with pytest.raises(ValidationError):
            Draft202012Validator(SCHEMA).validate({name: value for name, value in RESULT.items() if name != key})


def test_typescript_and_python_have_every_key_of_the_schema() -> None:
    for path in ("schema/draftd.ts", "clients/python/src/draftd_client/types.py"):
        text = (ROOT / path).read_text()
        for key in SCHEMA["properties"]:
            assert f"  {key}" in text
