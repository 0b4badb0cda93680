"""What leaves the process can be stored, and holds no secret."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftd.sanitize import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_TEXT_CHARS,
    redact,
    storable,
    storable_json,
    storable_text,
    without_secrets,
)
from tables import per_row

ANY_TEXT = st.text(st.characters(), max_size=40)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(max_size=8) | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

SECRET = "q7Zt9xVb3Lm5Kd8Rw2Ny"
KEYS = {
    "OpenAI": f"sk-proj-{SECRET}_T3BlbkFJ-{SECRET}",
    "an older OpenAI": f"sk-{SECRET}T3BlbkFJ{SECRET}",
    "OpenAI as OpenAI masks it": "sk-proj-q7Zt9********************************Kd8R",
    "Anthropic": f"sk-ant-api03-{SECRET}-{SECRET}AA",
    "OpenRouter": f"sk-or-v1-{SECRET}{SECRET}",
    "Google": f"AIzaSyD{SECRET}-_{SECRET[:9]}",
    "Google OAuth": f"ya29.a0Af{SECRET}",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS for an hour": "ASIAIOSFODNN7EXAMPLE",
    "Groq": f"gsk_{SECRET}{SECRET}",
    "xAI": f"xai-{SECRET}{SECRET}",
    "Hugging Face": f"hf_{SECRET}",
    "Perplexity": f"pplx-{SECRET}",
    "NVIDIA": f"nvapi-{SECRET}",
    "Cerebras": f"csk-{SECRET}",
    "Replicate": f"r8_{SECRET}",
    "GitHub": f"ghp_{SECRET}{SECRET}",
    "GitHub, fine-grained": f"github_pat_11AAAAAA0_{SECRET}",
    "GitLab": f"glpat-{SECRET}",
    "Slack": f"xoxb-1234567890-{SECRET}",
    "Langfuse": "sk-lf-0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
    "Langfuse, public": "pk-lf-0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
    "Stripe": f"sk_live_{SECRET}",
    "a JWT": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}",
    "Supabase": f"sb_secret_{SECRET}",
}
AROUND = [
    "{}",
    "Incorrect API key provided: {}. Find yours in the settings.",
    "key={}&x=1",
    '{{"error": "bad key {}"}}',
]

LABELLED = [
    "Authorization: Bearer {}",
    "authorization: bearer {}, retry",
    "Authorization: Basic {}",
    "Proxy-Authorization: Basic {}",
    "Authorization: Token {}",
    "using basic dXNlcjpwYXNz{}== here",
    "api_key={}",
    "OPENAI_API_KEY={}",
    "x-api-key: {}",
    "API key: {}",
    "aws_secret_access_key = {}",
    "client_secret={}&grant_type=x",
    "refresh_token={}",
    "password={} host=db",
    "password=a,{};x host=db",
    "sslpassword='{} with spaces'",
    "sslpassword='with spaces {}'",
    '{{"api_key": "{}", "model": "m"}}',
    '{{"password": "with spaces {}"}}',
    "{{'api-key': '{}'}}",
    r"{{\"api_key\": \"{}\"}}",
]

URLS = {
    "https://api.telegram.org/bot123:{}/getFile": "https://api.telegram.org/…",
    "https://cdn.example/shot.png?X-Amz-Signature={}": "https://cdn.example/…",
    "https://cdn.example?sig={}": "https://cdn.example/…",
    "https://cdn.example#{}": "https://cdn.example/…",
    "https://user:{}@cdn.example:8443/x": "https://cdn.example:8443/…",
    "https://{}@cdn.example": "https://cdn.example",
    "http://[2001:db8::1]:8080/{}": "http://[2001:db8::1]:8080/…",
    "postgresql://app:{}@db.example:5432/app": "postgresql://db.example:5432/…",
    "postgres://app:p@{}@db.example/app": "postgres://db.example/…",
    "postgresql+psycopg://app:{}@one:5432,two:5433/app?sslpassword=x": "postgresql+psycopg://one:5432,two:5433/…",
    "postgresql://app:with/{}@db/app": "postgresql://app/…",
    "('https://cdn.example/{}')": "('https://cdn.example/…')",
}

ORDINARY = [
    "max_tokens: 4096 is too large: 3000. This model supports at most 2048 completion tokens.",
    "max_completion_token=4096",
    "token limit exceeded",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens.",
    'password authentication failed for user "app"',
    "the environment variable GATEWAY_KEY is not set here",
    "The api_key client option must be set either by passing api_key to the client or by setting OPENAI_API_KEY",
    "basic authentication is required",
    'duplicate key value violates unique constraint "pk_draft_requests"',
    "skateboarding, skyscrapers, pkg_resources.load and ghostwriters",
    "task-management and disk-partitioning",
    "https://api.example.com: connection refused",
    "cannot connect to 127.0.0.1:5432",
    "model_rate_limited: try again in 20s",
    "data: a list was expected, an object came",
]


@given(ANYTHING)
def test_whatever_is_storable_is_json_that_postgresql_takes(value: Any) -> None:
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert r"\u0000" not in text.replace(r"\\", "")
    assert not UNSTORABLE.search(text)
    assert storable(json.loads(text)) == json.loads(text)


@given(ANYTHING)
def test_json_text_made_in_one_go_is_storable_and_says_the_same(value: Any) -> None:
    text = storable_json(value)
    text.encode()
    assert r"\u0000" not in text.replace(r"\\", "")
    assert storable(json.loads(text)) == storable(json.loads(json.dumps(storable(value))))


@per_row("value", [["\x00"], ["\ud800"], [float("nan")], [object], ["x" * (MAX_TEXT_CHARS + 1)], [10**5000]])
def test_what_is_not_storable_as_it_stands_is_made_so(value: Any) -> None:
    assert json.loads(storable_json(value)) == json.loads(json.dumps(storable(value)))


@given(st.dictionaries(ANY_TEXT.filter(lambda text: not UNSTORABLE.search(text)), st.integers() | st.booleans()))
def test_what_was_storable_already_stays_as_it_is(value: dict[str, Any]) -> None:
    assert storable(value) == value


def test_nul_and_half_a_surrogate_pair_are_taken_out_of_keys_and_texts() -> None:
    assert storable({"a\x00": ["b\ud800c", "\U0001f600"]}) == {"a": ["bc", "\U0001f600"]}


@per_row("number", [float("nan"), float("inf"), float("-inf"), 10**5000, -(10**5000)], ids="abcde")
def test_a_number_that_json_does_not_know_is_null(number: float) -> None:
    assert storable([number, 0, True]) == [None, 0, True]


def test_size_is_bounded_in_every_direction() -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    stored = storable(
        {"text": "x" * 100_000, "list": [1] * 1_000, "map": {str(n): n for n in range(1_000)}, "deep": deep}
    )
    assert len(stored["text"]) == MAX_TEXT_CHARS
    assert stored["text"].endswith("x…")
    assert len(stored["list"]) == len(stored["map"]) == MAX_ITEMS
    assert json.dumps(stored["deep"]).count("[") == MAX_DEPTH - 1


def test_a_text_of_exactly_the_limit_is_not_cut() -> None:
    assert storable_text("12345", 5) == "12345"
    assert storable_text("123456", 5) == "1234…"


@per_row("around", AROUND)
def test_the_keys_of_providers_are_redacted(around: str) -> None:
    for name, key in KEYS.items():
        shown = redact(around.format(key))
        assert "[redacted]" in shown, name
        assert not [piece for piece in re.findall(r"\w{5,}", key) if piece in shown], (name, shown)


@per_row("text", LABELLED)
def test_what_stands_behind_the_name_of_a_secret_is_redacted(text: str) -> None:
    shown = redact(text.format("Ab1cD2eF3"))
    assert "[redacted]" in shown
    assert "Ab1cD2eF3" not in shown


@per_row(("url", "shown"), URLS.items())
def test_of_a_url_scheme_and_host_stay(url: str, shown: str) -> None:
    assert redact("cannot open " + url.format("s3cr3t") + " today") == f"cannot open {shown} today"


def test_a_picture_in_a_url_is_redacted() -> None:
    shown = redact("unreadable: data:image/png;charset=x;base64,iVBORw0KGgo+/AA== (1 of 2)")
    assert shown == "unreadable: data:[redacted] (1 of 2)"


@per_row("text", ORDINARY)
def test_an_ordinary_message_stays_readable(text: str) -> None:
    assert redact(text) == text


@per_row(
    "name",
    ["api_key", "X-Api-Key", "apiKeys", "aws_secret_access_key", "aws_access_key_id", "azure_ad_token", "clientSecret",
     "vertex_credentials", "PASSWORD", "passwd", "Proxy-Authorization", "Cookie", "basic_auth"],
)  # fmt: skip
def test_what_stands_under_the_name_of_a_secret_is_replaced(name: str) -> None:
    assert without_secrets({"a": [{name: {"b": 1}}]}) == {"a": [{name: "[redacted]"}]}


def test_a_secret_in_a_text_is_replaced_and_the_rest_stays() -> None:
    given = {"x": ["Bearer Ab1cD2eF3", "at https://user:pw@gateway/v1"], "y": f"sk-{SECRET}"}
    assert without_secrets(given) == {"x": ["[redacted]", "at https://[redacted]@gateway/v1"], "y": "[redacted]"}


@per_row(
    "value",
    [{"max_tokens": 9, "prompt_cache_key": "drafts", "stop_token_ids": [1], "top_k": None, "user": "a@b.example"},
     {"extra_body": {"thinking": {"budget_tokens": 9}, "url": "https://gateway/v1?x=1"}}, "words", 0.5],
)  # fmt: skip
def test_a_value_without_secrets_stays_as_it_is(value: Any) -> None:
    assert without_secrets(value) == value


PIECES = [
    *(key for key in KEYS.values()),
    *(text.format("Ab1cD2eF3") for text in LABELLED),
    *(url.format("s3cr3t") for url in URLS),
    *ORDINARY,
    "data:image/png;base64,iVBORw0KGgo=",
    "[redacted]",
]


@given(st.lists(st.sampled_from(PIECES) | ANY_TEXT, max_size=6).map(" ".join))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text, 10_000)
    assert redact(once, 10_000) == once


@given(st.sampled_from(sorted(KEYS.values())), st.integers(1, 30), st.sampled_from(["\x00", "\ud800"]))
def test_a_key_cannot_hide_behind_what_is_taken_out(key: str, at: int, hole: str) -> None:
    assert redact(f"bad key {key[:at]}{hole}{key[at:]}") == redact(f"bad key {key}")


@given(ANY_TEXT)
def test_a_redacted_text_is_one_storable_line(text: str) -> None:
    shown = redact(text, 20)
    assert len(shown) <= 20
    assert shown.splitlines() in ([], [shown])
    assert not UNSTORABLE.search(shown)


ALMOST_SECRETS = [
    "a-",
    "eyJ-",
    "token",
    "secret-",
    "http://",
    "data:a;",
    "sk-",
    "x" * 50 + "-",
    'token="',
    "a.",
    "key:'",
]


@pytest.mark.parametrize(
    "texts", [ALMOST_SECRETS[::10], pytest.param(ALMOST_SECRETS, marks=pytest.mark.long)], ids=["some", "all"]
)
def test_no_text_takes_long_to_redact(texts: list[str]) -> None:
    for text in texts:
        assert_quickly_redacted(text)


def assert_quickly_redacted(text: str) -> None:
    began = time.process_time()
    redact(text * 30_000, 5_000)
    assert time.process_time() - began < 1, "the work must grow with the text, not with its square"
