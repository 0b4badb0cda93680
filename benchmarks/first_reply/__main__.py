"""Computes when the first reply of an answer is readable, in the order of keys that models are asked for, and in the one before.

    python -m benchmarks.first_reply [ANSWERS] [--tokens-per-s 60] [--first-token-s 0.6]

ANSWERS is a file with a list of answers, or a directory in which every ``answer.txt`` holds one; by default those beside this
program. Each answer is written in both orders, and what counts is the number of tokens up to the closing quote of ``short``.
Tokens are those of o200k_base, which litellm brings along.
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
from draftd.reply.answer import answer_schema, last_object
from draftd.reply.review import Criteria
from draftd.request import Options

Answer = dict[str, Any]

REPLIES = [f"{length}{part}" for length in ("short", "medium", "detailed") for part in ("_angle", "")]
BEFORE = (
    "has_message", "platform", "platform_name", "content_type", "language", "summary", "me", "author", "gist",
    "reply_needed", *REPLIES, "reading", "missing", "confidence", "warnings",
)  # fmt: skip
"""The order that models were asked for up to prompt version 1."""


def main() -> int:
    """Print a table; return 1 if the first reply is readable later than before."""
    arguments = _arguments()
    count = _counter()
    rows = [
        (_tokens(_as_before(answer), count), _tokens(_as_asked(answer), count))
        for answer in _answers(arguments.answers)
    ]
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
    return int(now > before)


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
    schema = answer_schema(Criteria(options=Options(), context=None, is_truncated=False))
    return {key: answer[key] for key in schema["properties"]}


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
