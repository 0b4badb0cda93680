"""Writes the generated parts of the documentation: settings, error codes, columns, options, commands, client types.

The tables stand in their own pages, and between markers in the README and in docs/requests.md. With --check nothing is
written; the exit code says whether something is stale.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import client_types
import typer
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from draftd.cli import app
from draftd.errors import first_line, request_errors
from draftd.images.formats import ACCEPTED_NAMES
from draftd.request import CLIENT_COLUMNS, Options
from draftd.settings import MIB, PREFIX, Settings

ROOT = Path(__file__).parents[1]
NOTE = "<!-- Written by scripts/generate_docs.py; `make docs` writes it again. -->"


def settings_table() -> str:
    """Return every setting with its default."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `{PREFIX}{name.upper()}` | {_default(name, field.default)} | {field.description} |")
    return "\n".join(lines)


def _default(name: str, value: object) -> str:
    if value is None or value is PydanticUndefined or value == () or str(value) == "":
        return "none"
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{value // MIB} MiB"
    return f"`{value}`"


def user_messages_table() -> str:
    """Return the sentence of every code that an app may show to its user."""
    lines = ["| code | sentence |", "|---|---|"]
    lines += [f"| `{error.code}` | {error.user_message} |" for error in request_errors()]
    return "\n".join(lines)


def error_codes() -> str:
    """Return what is known of every code as data, for apps in any language."""
    codes = {
        error.code: {
            "kind": error.kind.value,
            "action": error.user_action.value,
            "meaning": first_line(error),
            "user_message": error.user_message,
        }
        for error in request_errors()
    }
    return json.dumps(codes, indent=2) + "\n"


def errors_table() -> str:
    """Return every error code with its kind, and what the app's user can do."""
    lines = ["| code | kind | action | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{error.code}` | {error.kind} | `{error.user_action}` | {first_line(error)} |" for error in request_errors()
    ]
    return "\n".join(lines)


def columns_table() -> str:
    """Return every column that a client may set."""
    lines = ["| column | type | default | meaning |", "|---|---|---|---|"]
    for column in CLIENT_COLUMNS:
        default = column.default if column.default in {"", "null", "random"} else f"`{column.default}`"
        lines.append(f"| `{column.name}` | `{column.type}` | {default} | {column.meaning} |")
    return "\n".join(lines)


def options_table() -> str:
    """Return every key of a request's options."""
    lines = ["| option | value |", "|---|---|"]
    lines += [f"| `{name}` | {field.description} |" for name, field in Options.model_fields.items()]
    return "\n".join(lines)


def commands_page() -> str:
    """Return the help of every command."""
    os.environ["COLUMNS"] = "100"
    runner = CliRunner()
    parts = [f"{NOTE}\n\n# The command line\n"]
    for command in commands(typer.main.get_command(app)):
        text = runner.invoke(app, [*command, "--help"], prog_name="draftd").stdout
        body = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## draftd {' '.join(command)}\n\n```text\n{body}\n```\n")
    return "\n".join(parts)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return every command below a group, as what is typed."""
    for name, command in getattr(group, "commands", {}).items():
        yield *path, name
        yield from commands(command, (*path, name))


def between_markers(page: str, name: str, text: str, *, edge: str = "\n") -> str:
    """Return a page with the text between ``<!-- name -->`` and ``<!-- /name -->`` replaced, without an edge in its line."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}{edge}{text}{edge}{end}{tail}"


def formats(page: str) -> str:
    """Return a page with the accepted formats where it names them."""
    return between_markers(page, "formats", ACCEPTED_NAMES, edge="")


def pages() -> dict[Path, str]:
    """Return every generated page as it should be."""
    readme = ROOT / "README.md"
    text = between_markers(readme.read_text(), "settings", settings_table())
    text = between_markers(text, "errors", errors_table())
    text = formats(text)
    requests = ROOT / "docs/requests.md"
    table = between_markers(requests.read_text(), "columns", columns_table())
    images = ROOT / "docs/images.md"
    testing = ROOT / "docs/connect/testing.md"
    workflow = (ROOT / "examples/connect/testing/workflow.yml").read_text()
    return {
        readme: text,
        images: formats(images.read_text()),
        testing: between_markers(testing.read_text(), "workflow", f"```yaml\n{workflow}```"),
        requests: formats(between_markers(table, "options", options_table())),
        ROOT / "docs/settings.md": f"{NOTE}\n\n# Settings\n\n{SETTINGS_INTRODUCTION}\n\n{settings_table()}\n",
        ROOT / "docs/errors.md": f"{NOTE}\n\n# Error codes\n\n{ERRORS_INTRODUCTION}\n\n{errors_table()}\n\n"
        f"{USER_MESSAGES_INTRODUCTION}\n\n{user_messages_table()}\n",
        ROOT / "src/draftd/error_codes.json": error_codes(),
        ROOT / "docs/cli.md": commands_page(),
        **{ROOT / name: text for name, text in client_types.files()},
    }


SETTINGS_INTRODUCTION = """\
Settings come from the environment, then from `.env` in the working directory, then from secrets
files (`/run/secrets`, `$CREDENTIALS_DIRECTORY`). A secrets file is named like its variable.

Providers' and Langfuse's own variables keep their names (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`,
`LANGFUSE_PUBLIC_KEY`, …) and can be set in the same places. An unknown `DRAFTD_*` name that looks
like a typo of a setting is an error; any other is a warning."""

ERRORS_INTRODUCTION = """\
`retry`: the request returns to `pending` and is tried again after a delay, up to `max_attempts`.
`final`: the request fails at once. `hold`: the request returns to `pending` without spending the
attempt, and no daemon claims requests for that model until a probe succeeds. `action` in
`error_details` says what the app's user can do."""

USER_MESSAGES_INTRODUCTION = """\
## What an app may show

`error_message` is for the app's user: it names the picture and its host where it can ("picture 1 of
2: cdn.example.com answered 403; has a signed address expired?"), and never a model or a library.
What whoever runs draftd needs (the model, the provider's own words) is in `errors` and in the log.

An app that would rather say less, or that translates, takes the sentence of the code. The package
has them as `draftd/error_codes.json`, with each code's kind, action and meaning:

```python
import json
from importlib.resources import files

codes = json.loads(files("draftd").joinpath("error_codes.json").read_text())
print(codes["image_too_large"]["user_message"])
```

Of a code that is not there, show the sentence of `internal_error`."""


def main() -> int:
    """Write what is stale, or with --check only say so."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"stale: {path.relative_to(ROOT)} (run `make docs`)", file=sys.stderr)  # noqa: T201  # what the person is to do
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
