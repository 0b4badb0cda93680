"""Writes what clients need to know of the data as types: a JSON Schema of the result, TypeScript, and Python.

All are open: enumerations grow and keys are added, so an unknown value or key must parse. They are written by this module and
not by a generator from npm, because ``make check`` compares them on machines without Node.js.
"""

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from draftd.db.schema import draft_feedback, draft_profiles, draft_requests
from draftd.errors import UserAction, request_errors
from draftd.reply.result import Result
from draftd.request import CLIENT_COLUMNS, Options
from draftd.status import STATUSES

Schema = dict[str, Any]

NOTE = "Written by scripts/generate_docs.py; `make docs` writes it again."
WIDTH = 120
OPTIONAL = {"translation"}
"""Keys that a finished result may lack."""
TYPES = {
    "text[]": "string[]",
    "text": "string",
    "uuid": "string",
    "timestamptz": "string",
    "timestamp with time zone": "string",
    "boolean": "boolean",
    "smallint": "number",
    "integer": "number",
    "bigint": "number",
    "real": "number",
    "numeric": "number",
    "jsonb": "unknown",
}
"""As PostgREST sends them."""
JSON_COLUMNS = {"options": "DraftRequestOptions", "metadata": "Record<string, unknown>"}
READ_TYPES = JSON_COLUMNS | {
    "status": "DraftStatus",
    "result": "DraftResult",
    "partial_result": "PartialDraftResult",
    "error_code": "ErrorCode",
    "error_details": "ErrorDetails",
    "errors": "DraftError[]",
    "option": "Length",
    "outcome": 'Open<"sent" | "edited" | "rejected">',
    "rating": "-1 | 1",
    "stance": "Stance",
}
"""What is narrower than a column's type."""
REPLY_COLUMNS = (
    "id", "requester_id", "agent", "status", "context", "options", "parent_id", "idempotency_key", "expires_at", "metadata",
    "traceparent", "partial_result", "result", "error_code", "error_message", "error_details", "attempt", "created_at",
    "claimed_at", "finished_at", "updated_at",
)  # fmt: skip
"""The columns of the view ``draft_replies``."""
NEEDED = {"request_id"}
"""Columns without which a client cannot insert."""
FEEDBACK_COLUMNS = ("request_id", "option", "sent_text", "outcome", "rating")
POSTGRESQL = postgresql.dialect()

PREAMBLE = f"""\
// {NOTE}
// What an app inserts into draftd's tables and reads from them. Times are ISO 8601, as PostgREST and JSON have them.

/** A known value, or one that a later version added. */
export type Open<Known extends string> = Known | (string & {{}});
"""
PARTIAL = "What is ready of a result while its request is processed, and what stays when it fails."
PARTIAL_RESULT = f"""\
/** {PARTIAL} */
export type PartialDraftResult = Partial<Omit<DraftResult, "options">> & {{ options: Option[] }};
"""
OTHER_SHAPES = """\
/** What is known of an error; `action` is what the app's user can do. */
export interface ErrorDetails {
  action: UserAction;
  picture?: number;
  host?: string;
  status?: number;
  found?: string | number;
  limit?: string | number;
}

/** One of `draft_requests.errors`. */
export interface DraftError {
  attempt: number;
  at: string;
  code: ErrorCode;
  message: string;
  model?: string | null;
}

/** What `create_draft_request` returns. */
export interface CreatedDraftRequest {
  id: string;
  status: DraftStatus;
  /** False: a request with this idempotency key existed. */
  created: boolean;
}

/** The payload of the channel `draft_results`. Anyone can forge one: read the row. */
export interface DraftNotification {
  id: string;
  status: DraftStatus;
  options_ready: number;
}

/** What `draft_request_wait` returns: why a request is not being drafted. */
export interface DraftRequestWait {
  /** Null: the request is not pending. */
  reason: Open<"turn" | "later" | "model" | "paused" | "budget" | "limit" | "no_worker"> | null;
  /** How many pending requests come first, at most 1,000. */
  ahead: number;
  until: string | null;
}
"""
DATABASE = """\
type Plain<T> = { [Key in keyof T]: T[Key] };
type Table<Row, Insert, Update> = {
  Row: Plain<Row>;
  Insert: Plain<Insert>;
  Update: Plain<Update>;
  Relationships: [];
};

/**
 * What a client uses of the database, for supabase-js: `createClient<Database>(url, key)`. `Schema` is where the tables are.
 * With types of your own: `type All = { public: Mine["public"] & Database["public"] }`.
 */
export type Database<Schema extends string = "public"> = {
  [Name in Schema]: {
    Tables: {
      draft_requests: Table<DraftRequest, NewDraftRequest, { status: "cancelled" }>;
      draft_feedback: Table<DraftFeedback, NewDraftFeedback, Record<never, never>>;
      draft_profiles: Table<DraftProfile, NewDraftProfile, NewDraftProfile>;
    };
    Views: { draft_replies: { Row: Plain<DraftReply>; Relationships: [] } };
    Functions: {
      create_draft_request: { Args: { request: NewDraftRequest }; Returns: CreatedDraftRequest };
      cancel_draft_request: { Args: { id: string }; Returns: boolean };
      draft_request_wait: { Args: { id: string }; Returns: DraftRequestWait | null };
      forget_draft_requester: {
        Args: { requester_id: string };
        Returns: { requests: number; feedback: number; profiles: number; usage: number };
      };
    };
    Enums: Record<never, never>;
    CompositeTypes: Record<never, never>;
  };
};
"""


def result_schema() -> str:
    """Return the JSON Schema of ``draft_requests.result``."""
    schema = _opened(Result.model_json_schema(mode="serialization"))
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": NOTE,
        "title": "The result of draftd",
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def _opened(schema: Schema) -> Schema:
    """Return a schema that accepts unknown keys and values, and demands the keys that every result has."""
    opened: Schema = {}
    for key, value in schema.items():
        if key in {"title", "additionalProperties", "default"}:
            continue
        if key == "description":
            opened[key] = _prose(value)
        elif key == "enum":
            opened["anyOf"] = [{"enum": value}, {"type": "string"}]
        elif key in {"$defs", "properties"}:
            opened[key] = {name: _opened(one) for name, one in value.items()}
        elif key == "items":
            opened[key] = _opened(value)
        else:
            opened[key] = value
    if "properties" in schema:
        opened["required"] = [name for name in schema["properties"] if name not in OPTIONAL]
        for name in OPTIONAL & schema["properties"].keys():
            opened["properties"][name] = {"type": "string"} | _described(schema["properties"][name])
    return opened


def _described(schema: Mapping[str, Any]) -> Schema:
    return {"description": _prose(schema["description"])} if "description" in schema else {}


def _prose(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").split())


def typescript() -> str:
    """Return the TypeScript types of everything that a client writes and reads."""
    result = Result.model_json_schema(mode="serialization")
    definitions: Mapping[str, Schema] = result["$defs"]
    parts = [
        PREAMBLE,
        _union("DraftStatus", STATUSES),
        _union("ErrorCode", [error.code for error in request_errors()]),
        _union("UserAction", [action.value for action in UserAction]),
        *(_definition(name, one) for name, one in definitions.items()),
        _interface("DraftResult", result),
        PARTIAL_RESULT,
        _interface("DraftRequestOptions", Options.model_json_schema(mode="serialization"), every_optional=True),
        _insert(),
        *_rows(),
        OTHER_SHAPES,
        DATABASE,
    ]
    return "\n".join(parts)


def _definition(name: str, schema: Schema) -> str:
    if "enum" in schema:
        return _union(name, schema["enum"], schema.get("description", ""))
    return _interface(name, schema)


def _union(name: str, values: Any, meaning: str = "") -> str:
    known = " | ".join(json.dumps(value) for value in values)
    return f"{_comment(meaning)}export type {name} = Open<{known}>;\n"


def _interface(name: str, schema: Schema, *, every_optional: bool = False) -> str:
    lines = [f"{_comment(schema.get('description', ''))}export interface {name} {{"]
    for key, one in schema["properties"].items():
        mark = "?" if every_optional or key in OPTIONAL else ""
        lines.append(
            f"{_comment(one.get('description', ''), indent='  ')}  {key}{mark}: {_type(one, key, TYPESCRIPT)};"
        )
    return "\n".join([*lines, "}", ""])


def _insert() -> str:
    lines = [
        "/** What a client may set of a request; a null means the default. */",
        "export interface NewDraftRequest {",
    ]
    for column in CLIENT_COLUMNS:
        kind = JSON_COLUMNS.get(column.name) or TYPES[column.type]
        lines.append(f"{_comment(column.meaning, indent='  ')}  {column.name}?: {kind} | null;")
    return "\n".join([*lines, "}", ""])


def _rows() -> Iterator[str]:
    requests = draft_requests.columns
    rest = [column for column in requests if column.name not in REPLY_COLUMNS]
    yield _row(
        "DraftReply",
        [requests[name] for name in REPLY_COLUMNS],
        "A request as its client may read it: a row of `draft_replies`.",
    )
    yield _row("DraftRequest extends DraftReply", rest, "A row of `draft_requests`, which a server reads.")
    for name, table, mine in (
        ("Feedback", draft_feedback, FEEDBACK_COLUMNS),
        ("Profile", draft_profiles, draft_profiles.columns.keys()),
    ):
        yield _row(f"Draft{name}", table.columns, f"A row of `{table.name}`.")
        given = [table.columns[one] for one in mine]
        yield _row(f"NewDraft{name}", given, "What a client may set of it; a null means the default.", may_lack=True)


def _row(head: str, columns: Iterable[Column[Any]], meaning: str, *, may_lack: bool = False) -> str:
    lines = [f"/** {meaning} */", f"export interface {head} {{"]
    for column in columns:
        kind = (
            READ_TYPES.get(column.name) or TYPES[str(column.type.compile(dialect=POSTGRESQL)).lower().partition("(")[0]]
        )
        lacking = may_lack and column.name not in NEEDED
        if lacking or (column.nullable and not may_lack and kind != "unknown"):
            kind += " | null"
        described = (column.comment or "").partition(": ")[2]
        lines.append(f"{_comment(described, indent='  ')}  {column.name}{'?' if lacking else ''}: {kind};")
    return "\n".join([*lines, "}", ""])


def _comment(meaning: str, *, indent: str = "") -> str:
    return f"{indent}/** {_prose(meaning).replace('*/', '* /')} */\n" if meaning else ""


def _type(schema: Schema, key: str, language: "Language") -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        kinds = [_type(one, key, language) for one in schema["anyOf"]]
        return " | ".join(kind for kind in kinds if key not in OPTIONAL or kind != language.names["null"])
    if "const" in schema:
        return language.literal([schema["const"]])
    if "enum" in schema:
        return language.literal(schema["enum"])
    if schema["type"] == "array":
        return language.array(_type(schema["items"], key, language))
    return language.names[schema["type"]]


@dataclass(frozen=True, kw_only=True)
class Language:
    """How a language writes the types of JSON."""

    names: Mapping[str, str]
    literal: Callable[[Sequence[Any]], str]
    array: Callable[[str], str]


TYPESCRIPT = Language(
    names={"integer": "number", "string": "string", "null": "null"},
    literal=lambda values: " | ".join(json.dumps(value) for value in values),
    array=lambda kind: f"({kind})[]" if "|" in kind else f"{kind}[]",
)
PYTHON = Language(
    names={"integer": "int", "string": "str", "null": "None"},
    literal=lambda values: f"Literal[{', '.join(json.dumps(value) for value in values)}]",
    array="list[{}]".format,
)


def python() -> str:
    """Return the types of the result and of a request's options, for the Python client."""
    result = Result.model_json_schema(mode="serialization")
    definitions: Mapping[str, Schema] = result["$defs"]
    unions = {name: one for name, one in definitions.items() if "enum" in one}
    parts = [
        f'"""The types of JSON columns. {NOTE.replace("`", "``")}"""\n',
        "from __future__ import annotations\n",
        "from typing import Literal, NotRequired, Required, TypedDict\n",
        "\n".join(f"{name} = str{_docstring(_with_values(one))}" for name, one in unions.items()) + "\n",
        *(_typed_dict(name, one) for name, one in definitions.items() if name not in unions),
        _typed_dict("Result", result),
        _typed_dict("PartialResult", result | {"description": PARTIAL}, required={"schema_version", "options"}),
        _typed_dict("RequestOptions", Options.model_json_schema(mode="serialization"), required=set()),
    ]
    return "\n".join(parts)


def _with_values(union: Schema) -> Schema:
    # A union of literals with str is a str to every checker, and to ruff a mistake.
    known = ", ".join(f"``{value}``" for value in union["enum"])
    return {"description": f"{union.get('description', '')} Known: {known}; expect new ones."}


def _typed_dict(name: str, schema: Schema, *, required: set[str] | None = None) -> str:
    base = "TypedDict" if required is None else "TypedDict, total=False"
    lines = [f"\nclass {name}({base}):{_docstring(schema, indent='    ')}\n"]
    for key, one in schema["properties"].items():
        kind = _type(one, key, PYTHON)
        if required is None and key in OPTIONAL:
            kind = f"NotRequired[{kind}]"
        elif key in (required or ()):
            kind = f"Required[{kind}]"
        lines.append(f"    {key}: {kind}{_docstring(one, indent='    ')}")
    return "\n".join([*lines, ""])


def _docstring(schema: Schema, *, indent: str = "") -> str:
    meaning = schema.get("description", "").replace("\\", "\\\\")
    if not meaning:
        return ""
    text = textwrap.fill(" ".join(meaning.split()), WIDTH, initial_indent=f'{indent}"""', subsequent_indent=indent)
    return f'\n{text}"""' if "\n" not in text else f'\n{text}\n{indent}"""'


def files() -> Iterator[tuple[str, str]]:
    """Yield each file's path in the project, and its text."""
    yield "schema/result.json", result_schema()
    yield "schema/draftd.ts", typescript()
    yield "clients/js/types.d.ts", typescript()
    yield "clients/python/src/draftd_client/types.py", python()
