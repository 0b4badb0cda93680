"""What a request to the stand-in for PostgREST says: its headers, its body, and the grammar of its query."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from multidict import MultiMapping
from psycopg import sql

RESERVED = {"select", "order", "limit", "offset", "columns", "on_conflict"}
OPERATORS = {
    "eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE", "ilike": "ILIKE", "cs": "@>",
    "cd": "<@", "ov": "&&",
}  # fmt: skip
IS = {"null": "NULL", "not_null": "NOT NULL", "true": "TRUE", "false": "FALSE", "unknown": "UNKNOWN"}
FIELD = re.compile(r"^(?:(?P<alias>[\w ]+):)?(?P<column>[\w ]+|\*)(?P<path>(?:->>?[\w ]+)*)(?:::(?P<cast>\w+))?$")
IN_LIST = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,]+)')


class Failed(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, code: str, message: str, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details, self.hint = status, code, message, details, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A request, as PostgREST reads it."""

    method: str
    path: str
    schema: str
    relation: str
    function: str
    query: MultiMapping[str]
    headers: Mapping[str, str]
    prefer: Mapping[str, str]
    body: Any

    @classmethod
    async def of(cls, request: web.Request, schemas: tuple[str, ...]) -> Self:
        """Read a request.

        Raises:
            Failed: it is not one.
        """
        path = request.path.removeprefix("/rest/v1").strip("/")
        profile = request.headers.get("Accept-Profile" if request.method in {"GET", "HEAD"} else "Content-Profile")
        if profile is not None and profile not in schemas:
            raise Failed(406, "PGRST106", f"The schema must be one of the following: {', '.join(schemas)}")
        kind, _, name = path.rpartition("/")
        if kind not in {"", "rpc"} or not name:
            raise Failed(404, "PGRST125", "Invalid path specified in request URL")
        if kind and request.method not in {"GET", "POST"}:
            raise Failed(405, "PGRST101", f"Cannot use the {request.method} method on RPC")
        said = ",".join(request.headers.getall("Prefer", []))
        return cls(
            method=request.method,
            path=request.path,
            schema=profile or schemas[0],
            relation="" if kind else name,
            function=name if kind else "",
            query=request.query,
            headers=request.headers,
            prefer=dict(one.strip().split("=", 1) for one in said.split(",") if "=" in one),
            body=_body(await request.text(), request.method, is_call=bool(kind)),
        )

    @property
    def returns_rows(self) -> bool:
        """Whether a write answers with the rows."""
        return self.prefer.get("return") == "representation"

    @property
    def wants_one(self) -> bool:
        """Whether exactly one row is wanted, as an object."""
        return "vnd.pgrst.object" in self.headers.get("Accept", "")

    @property
    def missing_is_default(self) -> bool:
        """Whether columns that an element lacks get their default instead of null."""
        return self.prefer.get("missing") == "default"

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of a call by name."""
        if self.method == "GET":
            return {name: value for name, value in self.query.items() if name not in RESERVED}
        return self.body if isinstance(self.body, dict) else {}

    def body_columns(self) -> list[str]:
        """Return the columns that a write sets.

        Raises:
            Failed: the elements of the body have different keys.
        """
        if "columns" in self.query:
            return [one.strip().strip('"') for one in self.query["columns"].split(",")]
        elements = self.body if isinstance(self.body, list) else [self.body]
        keys = [{*element} for element in elements]
        if any(one != keys[0] for one in keys):
            raise Failed(400, "PGRST102", "All object keys must match")
        return list(elements[0]) if elements else []


def _body(text: str, method: str, *, is_call: bool) -> Any:
    if method in {"GET", "DELETE"}:
        return None
    if not text and is_call:
        return {}
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Failed(400, "PGRST102", "Empty or invalid json") from error
    if not is_call and not isinstance(body, dict | list):
        raise Failed(400, "PGRST102", "Empty or invalid json")
    return body


def _field(text: str, source: sql.Identifier) -> tuple[sql.Composable, str]:
    """Return a column, or what a path finds in its JSON, and the name that it has in the result."""
    match = FIELD.match(text)
    if match is None:
        raise Failed(501, "stand-in", f"this stand-in does not know the field {text!r}")
    column = match["column"]
    if column == "*":
        return sql.SQL("{}.*").format(source), ""
    found: sql.Composable = sql.SQL("{}.{}").format(source, sql.Identifier(column))
    steps = re.findall(r"(->>?)([\w ]+)", match["path"])
    for arrow, key in steps:
        step: sql.Composable = sql.SQL(key) if key.isdigit() else sql.Literal(key)
        found = sql.SQL("{}{}{}").format(found, sql.SQL(arrow), step)
    if match["cast"]:
        found = sql.SQL("CAST({} AS {})").format(found, sql.Identifier(match["cast"]))
    return found, match["alias"] or (steps[-1][1] if steps else column)


def selected(query: MultiMapping[str], source: sql.Identifier) -> sql.Composed:
    """Return what ``select`` names; everything without it."""
    fields = []
    for one in query.get("select", "*").split(","):
        found, name = _field(one.strip().replace('"', ""), source)
        fields.append(sql.SQL("{} AS {}").format(found, sql.Identifier(name)) if name else found)
    return sql.SQL(", ").join(fields)


def filters(query: MultiMapping[str], source: sql.Identifier) -> sql.Composed:
    """Return the WHERE clause."""
    terms = [_filter(name, value, source) for name, value in query.items() if name not in RESERVED]
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(terms)) if terms else sql.SQL("").format()


def _filter(name: str, value: str, source: sql.Identifier) -> sql.Composable:
    field, _ = _field(name, source)
    operator, _, operand = value.partition(".")
    if operator == "not":
        return sql.SQL("NOT ({})").format(_filter(name, operand, source))
    if operator == "is" and operand.lower() in IS:
        return sql.SQL("{} IS {}").format(field, sql.SQL(IS[operand.lower()]))
    if operator == "in" and operand.startswith("(") and operand.endswith(")"):
        found = [quoted or plain for quoted, plain in IN_LIST.findall(operand[1:-1])]
        escaped = [one.replace("\\", "\\\\").replace('"', '\\"') for one in found]
        array = "{" + ",".join(f'"{one}"' for one in escaped) + "}"
        return sql.SQL("{} = ANY ({})").format(field, sql.Literal(array))
    if operator in OPERATORS:
        operand = operand.replace("*", "%") if operator in {"like", "ilike"} else operand
        return sql.SQL("{} {} {}").format(field, sql.SQL(OPERATORS[operator]), sql.Literal(operand))
    message = f'"failed to parse filter ({value})" (line 1, column 1)'
    raise Failed(400, "PGRST100", message)


def order(query: MultiMapping[str], source: sql.Identifier) -> sql.Composed:
    """Return the ORDER BY, LIMIT and OFFSET clauses."""
    parts: list[sql.Composable] = []
    terms = []
    for one in filter(None, query.get("order", "").split(",")):
        name, *how = one.split(".")
        field, _ = _field(name, source)
        words = {"asc": "ASC", "desc": "DESC", "nullsfirst": "NULLS FIRST", "nullslast": "NULLS LAST"}
        if not {*how} <= {*words}:
            raise Failed(400, "PGRST100", f'"failed to parse order ({one})" (line 1, column 1)')
        terms.append(sql.SQL(" ").join([field, *(sql.SQL(words[word]) for word in how)]))
    if terms:
        parts.append(sql.SQL("ORDER BY {}").format(sql.SQL(", ").join(terms)))
    bounds = [name for name in ("limit", "offset") if name in query]
    parts += [sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(int(query[name]))) for name in bounds]
    return sql.SQL(" ").join(parts)
