"""Computes when the first reply is readable and how many tokens a draft takes, now and with prompt version 1.

    python -m benchmarks.first_reply [ANSWERS] [--tokens-per-s 60] [--first-token-s 0.6]

ANSWERS is a file with a list of answers, or a directory in which every ``answer.txt`` holds one; by default those beside this
program. Each answer is written in the keys of both versions. The first reply is readable at the closing quote of ``short``. A
draft takes the prompt, the schema, a screenshot and the answer. Tokens are those of o200k_base, which litellm brings along.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.markdown import command, table
from draftd.providers.messages import with_schema
from draftd.reply.agents import PACKAGED, load_agents, packaged_directory
from draftd.reply.answer import answer_schema, last_object
from draftd.reply.criteria import Criteria
from draftd.reply.prompts import render
from draftd.request import Options, Request

Answer = dict[str, Any]

REPLIES = [f"{length}{part}" for length in ("short", "medium", "detailed") for part in ("_angle", "")]
BEFORE = (
    "has_message", "platform", "platform_name", "content_type", "language", "summary", "me", "author", "gist",
    "reply_needed", *REPLIES, "reading", "missing", "confidence", "warnings",
)  # fmt: skip
"""The order that models were asked for up to prompt version 1."""
BEFORE_PROMPT = 3_117
"""Tokens of the messages of prompt version 1 without pictures or options, as of commit d82f7bd; they contain the schema."""
BEFORE_SCHEMA = 614
"""Tokens of its schema, which a provider that enforces one was sent as well."""
PICTURE = 1_445
"""Tokens of a phone's screenshot: 768 x 1,664 px after scaling, in OpenAI's tiles (85 + 170 each); others take about as many."""
MOST = 1.15
"""How many times the tokens of before a draft may take."""


def main() -> int:
    """Print two tables; return 1 if the first reply is readable later than before, or a draft takes 15 % more tokens."""
    arguments = _arguments()
    count = _counter()
    answers = list(_answers(arguments.answers))
    rows = [(_tokens(_as_before(answer), count), _tokens(_as_asked(answer), count)) for answer in answers]
    seconds = [
        [arguments.first_token_s + tokens / arguments.tokens_per_s for tokens in column]
        for column in zip(*rows, strict=True)
    ]
    print(command("bench-first-reply"))
    print(
        f"{len(rows)} answers, {arguments.tokens_per_s:g} tokens/s, {arguments.first_token_s:g} s to the first token\n"
    )
    figures: list[tuple[str, Callable[[list[float]], float]]] = [
        ("mean", statistics.mean),
        ("median", statistics.median),
        ("slowest", max),
    ]
    print(
        table(
            ["until the first reply", "before", "now"],
            [[name, *(f"{figure(column):.2f} s" for column in seconds)] for name, figure in figures],
        )
    )
    before, now = (statistics.mean(column) for column in seconds)
    return int(now > before) | _costs(answers, count)


def _costs(answers: list[Answer], count: Callable[[str], int]) -> int:
    """Print what a draft takes; return 1 if it is too much."""
    schema, messages = _schema(), _messages()
    prompt, stated = (count("".join(_texts(each))) for each in (messages, with_schema(messages, schema)))
    before_output, output = (
        statistics.mean(count(json.dumps(form(answer), ensure_ascii=False)) for answer in answers)
        for form in (_as_before, _as_asked)
    )
    modes = {
        "schema enforced by the provider": (BEFORE_PROMPT + BEFORE_SCHEMA, prompt + count(json.dumps(schema))),
        "schema in the prompt": (BEFORE_PROMPT, stated),
    }
    totals = [(before + before_output + PICTURE, now + output + PICTURE) for before, now in modes.values()]
    lines = [
        [mode, *(f"{each:,.0f}" for each in (before, now, before_output, output)), f"{now_all / before_all - 1:+.1%}"]
        for (mode, (before, now)), (before_all, now_all) in zip(modes.items(), totals, strict=True)
    ]
    print()
    print(table(["tokens per draft", "input before", "now", "output before", "now", "with a screenshot"], lines))
    return int(any(now > MOST * before for before, now in totals))


def _messages() -> list[dict[str, Any]]:
    agent = load_agents(packaged_directory())[PACKAGED]
    request = Request(image_urls=(), context=None, options={}, parent=None)
    return render(agent, request=request, options=Options(), pictures=[])


def _texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        yield from [content] if isinstance(content, str) else (part["text"] for part in content)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path, nargs="?", default=Path(__file__).parent / "answers.json")
    parser.add_argument("--tokens-per-s", type=float, default=60.0)
    parser.add_argument("--first-token-s", type=float, default=0.6)
    return parser.parse_args()


def _answers(path: Path) -> Iterator[Answer]:
    if path.is_file():
        yield from json.loads(path.read_text(encoding="utf-8"))
        return
    for file in sorted(path.rglob("answer.txt")):
        answer = last_object(file.read_text(encoding="utf-8"))
        if answer and answer.get("short") and "shown" in answer:
            yield answer


def _as_before(answer: Answer) -> Answer:
    return {key: answer["shown"] == "message" if key == "has_message" else answer[key] for key in BEFORE}


def _as_asked(answer: Answer) -> Answer:
    return {key: answer[key] for key in _schema()["properties"]}


def _schema() -> dict[str, Any]:
    return answer_schema(Criteria(options=Options(), context=None, is_truncated=False))


def _tokens(answer: Answer, count: Callable[[str], int]) -> int:
    keys = list(answer)
    upto = {key: answer[key] for key in keys[: keys.index("short") + 1]}
    return count(json.dumps(upto, ensure_ascii=False).removesuffix("}"))


def _counter() -> Callable[[str], int]:
    spec = importlib.util.find_spec("litellm")
    if spec is not None and spec.origin is not None:
        os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")
    encoding = importlib.import_module("tiktoken").get_encoding("o200k_base")
    return lambda text: len(encoding.encode(text))


if __name__ == "__main__":
    sys.exit(main())
