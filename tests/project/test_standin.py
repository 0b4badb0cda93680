"""The stand-in's parts that need no socket: schema, pictures, script, framing."""

import base64
import functools
import io
import json
from typing import Any

import jsonschema
import pytest
from PIL import Image

from draftd.demo.samples import SAMPLES, Sample
from draftd.demo.scenes import SAMPLE_SCENES
from draftd.reply.facts import Witness
from draftd.reply.resemblance import same
from draftd.stand_in.answers import answer, fill, recognise
from draftd.stand_in.behaviour import Behaviour, Script, steps
from draftd.stand_in.call import Call, image_size, schema_in
from draftd.stand_in.scenes import ANY_PICTURE
from draftd.stand_in.wires.chat import read_chat
from tables import per_row

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "platform": {"type": "string", "enum": ["linkedin", "email", "sms", "other"]},
        "mood": {"type": "string", "enum": ["calm", "cross"]},
        "author": {"type": "string"},
        "short": {"type": "string"},
        "medium": {"type": "string"},
        "detailed": {"type": "string"},
        "colour_of_the_sky": {"type": "string"},
        "missing": {"type": "array", "items": {"type": "string"}},
        "warnings": {"type": "array", "items": {"type": "string", "enum": ["no_reply_expected"]}},
        "pages": {"type": "integer", "minimum": 1},
        "shown": {"type": "string", "enum": ["message", "closed_list", "nothing"]},
        "urgent": {"type": "boolean"},
    },
    "additionalProperties": False,
}
SCHEMA["required"] = list(SCHEMA["properties"])


def make_call(*, pictures: list[bytes] | None = None, text: str = "Draft a reply.", **over: Any) -> Call:
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in pictures or []]
    parts = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return read_chat({"model": "m", "messages": [{"role": "user", "content": parts}], **over})


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "draft", "schema": schema}}}


def as_prepared(sample: Sample, *, long_edge_px: int) -> bytes:
    """Return the sample as it reaches a model: smaller, and a JPEG."""
    scale = long_edge_px / max(sample.width_px, sample.height_px)
    size = (round(sample.width_px * scale), round(sample.height_px * scale))
    out = io.BytesIO()
    opened(sample).resize(size).save(out, "JPEG", quality=85, subsampling=0)
    return out.getvalue()


@functools.cache
def opened(sample: Sample) -> Image.Image:
    with Image.open(sample.path) as picture:
        return picture.convert("RGB")


def matches_schema(text: str) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))


def test_a_default_answer_matches_the_schema_of_the_request() -> None:
    assert matches_schema(answer(make_call(**with_schema(SCHEMA)), Behaviour()))


def test_the_schema_is_found_in_the_prompt_when_the_request_brings_none() -> None:
    text = f'A schema: {{"properties": {{"old": {{}}}}}} then {json.dumps(SCHEMA)} and {{"not": "a schema"}} {{'
    assert schema_in(text) == SCHEMA
    assert matches_schema(answer(make_call(text=text), Behaviour()))


def test_an_unknown_enumeration_prefers_other_and_else_takes_its_first() -> None:
    schema = {"properties": {"a": {"enum": ["x", "other"]}, "b": {"enum": ["x", "y"]}}}
    assert fill(schema, ANY_PICTURE) == {"a": "other", "b": "x"}


@per_row("sample", SAMPLES, ids=lambda one: one.name)
@pytest.mark.parametrize("long_edge_px", [800, *(pytest.param(px, marks=pytest.mark.long) for px in (1568, 1024))])
def test_a_sample_is_recognised_after_it_was_resized_and_re_encoded(sample: Sample, long_edge_px: int) -> None:
    call = make_call(pictures=[as_prepared(sample, long_edge_px=long_edge_px)])
    assert json.loads(answer(call, Behaviour()))["author"] == SAMPLE_SCENES[sample.name]["author"]


@per_row("sample", SAMPLES, ids=lambda one: one.name)
def test_a_sample_has_the_shape_that_it_is_known_by_and_is_small(sample: Sample) -> None:
    data = sample.path.read_bytes()
    assert image_size(data) == (sample.width_px, sample.height_px)
    assert len(data) < 200_000
    assert max(sample.width_px, sample.height_px) / min(sample.width_px, sample.height_px) < 2.5


def test_another_shape_is_no_sample() -> None:
    assert recognise(1000, 1000) is None
    assert recognise(0, 0) is None


@per_row("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_a_picture_without_a_readable_header_has_no_size(data: bytes) -> None:
    assert image_size(data) == (0, 0)


@per_row("scene", [ANY_PICTURE, *SAMPLE_SCENES.values()], ids=["any", *SAMPLE_SCENES])
def test_every_reply_says_that_a_stand_in_wrote_it_and_the_three_grow(scene: dict[str, Any]) -> None:
    replies = [scene["short"], scene["medium"], scene["detailed"]]
    assert all(reply.startswith("Stand-in reply: ") and "[" not in reply for reply in replies)
    assert len(replies[0]) < len(replies[1]) < len(replies[2]) < 1000
    assert all(len(scene[f"{length}_angle"].split()) <= 5 for length in ("short", "medium", "detailed"))


def test_a_spoiled_answer_is_spoiled_as_asked() -> None:
    call = make_call(**with_schema(SCHEMA))
    whole = answer(call, Behaviour())
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(answer(call, Behaviour(truncated=True)))
    assert answer(call, Behaviour(fenced=True)).endswith(f"```json\n{whole}\n```\n")
    assert "[Name]" in json.loads(answer(call, Behaviour(placeholder=True)))["medium"]
    assert json.loads(answer(call, Behaviour(nothing=True)))["shown"] == "nothing"
    assert json.loads(answer(call, Behaviour(fields={"short": "mine"})))["short"] == "mine"
    assert answer(call, Behaviour(says="hello")) == "hello"


def test_the_unstorable_characters_are_json_escapes() -> None:
    text = answer(make_call(**with_schema(SCHEMA)), Behaviour(nul=True))
    assert r"\u0000\ud800" in text
    assert "\x00" not in text


def test_a_script_is_played_in_order_and_then_its_default() -> None:
    script = Script(steps([{"status": 500}, {}]), steps({"status": 429}))
    assert [script.next_for(prompt="", model="m").status for _ in range(4)] == [500, None, 429, 429]


def test_a_step_waits_for_the_call_that_it_is_meant_for() -> None:
    script = Script(steps([{"status": 500, "when": "poison"}, {"status": 503, "when_model": "big"}]))
    asked = [("fine", "small"), ("fine", "big"), ("a poison row", "small"), ("a poison row", "small")]
    assert [script.next_for(prompt=prompt, model=model).status for prompt, model in asked] == [None, 503, 500, None]


@per_row("wrong", [{"hangs": True}, {"hang": 1}, {"status": "500"}, {"status": True}, {"fields": []}])
def test_a_behaviour_that_is_not_understood_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="behaviour"):
        Behaviour.read(wrong)


def test_a_call_shows_its_request_id_and_never_a_picture() -> None:
    call = make_call(
        pictures=[as_prepared(SAMPLES[0], long_edge_px=400)], text="id 0190a3b2-4a57-7c52-8d0e-0123456789ab."
    )
    assert call.request_id == "0190a3b2-4a57-7c52-8d0e-0123456789ab"
    shown = {"sha256", "size_bytes", "width_px", "height_px", "code_word"}
    assert [set(picture) for picture in call.logged()["images"]] == [shown]


@per_row("body", [[], {}, {"messages": []}, {"messages": ["x"]}, {"messages": [{"role": "user", "content": [1]}]}])
def test_a_body_that_is_no_chat_completion_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|neither"):
        read_chat(body)


def test_it_takes_the_stance_that_the_requester_chose() -> None:
    stances = {f"{length}_stance": {"type": "string"} for length in ("short", "medium", "detailed")}
    text = 'Draft a reply.\n\nWhat the requester gives:\n{"stance": "decline"}\n\nThe schema: {}'
    call = make_call(text=text, **with_schema({"type": "object", "properties": stances}))
    assert set(json.loads(answer(call, Behaviour())).values()) == {"decline"}


def test_asked_for_other_drafts_it_gives_others_each_time() -> None:
    lengths = ("short", "medium", "detailed")
    schema = with_schema({"type": "object", "properties": {length: {"type": "string"} for length in lengths}})
    chain = list(json.loads(answer(make_call(**schema), Behaviour())).values())
    for _ in range(4):
        given = json.dumps({"earlier_drafts": chain})
        drafts = json.loads(answer(make_call(text=f"What the requester gives:\n{given}", **schema), Behaviour()))
        texts = [drafts[length] for length in lengths]
        assert not any(same(one, other) for one in texts for other in chain)
        assert len(texts[0]) < len(texts[1]) < len(texts[2])
        chain = texts + chain


@per_row("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_replies_of_the_demo_state_nothing_that_has_no_source(sample: Sample) -> None:
    scene = SAMPLE_SCENES[sample.name]
    sources = [*scene["quoted"], *scene["reading"], sample.context or ""]
    for length in ("short", "medium", "detailed"):
        assert Witness().unsupported(scene[length], sources, language="en") == []
