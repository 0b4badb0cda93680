"""A stand-in for PostgREST: what supabase-js and curl need of it, on loopback, for tests. It is not PostgREST.

PostgREST is a program in Haskell that no registry of this project has. Owns the rules that decide what a client may do and what
it is told: the role and the claims of a request, its transaction, the SQL of reads, writes and function calls (the same columns
are named, so the same rights are needed), which function a call means, and errors as HTTP. ``test_postgrest.py`` checks it
against the cases of PostgREST's own documentation. Embedding, aggregates, counts, CSV and OpenAPI are answered with 501.
"""

import asyncio
import base64
import binascii
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import psycopg
from aiohttp import web
from psycopg import sql
from psycopg.rows import dict_row

from postgrest_grammar import Api, Failed, filters, order, selected

SECRET = "a secret of tests that is at least 32 characters long"
SKEW_S = 30
RELATIONS = """
SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
"""
COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS default,
       coalesce(a.attnum = ANY (i.indkey), false) AS is_key
  FROM pg_attribute AS a
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
FUNCTIONS = """
SELECT p.proretset AS is_set, p.provolatile AS volatility, p.prorettype = 'void'::regtype AS is_void,
       t.typtype = 'c' OR p.prorettype = 'record'::regtype AS is_table,
       coalesce(p.proargnames, '{}') AS names, coalesce(p.proargmodes::text[], '{}') AS modes, p.pronargs AS count,
       p.pronargdefaults AS defaults, p.provariadic <> 0 AS is_variadic,
       ARRAY(SELECT format_type(x.t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS x(t, n) ORDER BY n) AS types
  FROM pg_proc AS p JOIN pg_type AS t ON t.oid = p.prorettype
 WHERE p.proname = %s AND p.pronamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = %s) AND p.prokind = 'f'
"""
HTTP_OF_STATE = {
    "23503": 409, "23505": 409, "25006": 405, "42883": 404, "42P01": 404, "42P17": 500, "53400": 500, "P0001": 400,
    "08": 503, "09": 500, "0L": 403, "0P": 403, "25": 500, "28": 403, "2D": 500, "38": 500, "39": 500, "3B": 500, "40": 500,
    "53": 503, "54": 500, "55": 500, "57": 500, "58": 500, "F0": 500, "HV": 500, "P0": 500, "XX": 500,
}  # fmt: skip
"""As the page Errors of its documentation has them; all others are 400."""
BODY_IN_READ_ONLY = {"i", "s"}


def token(*, secret: str = SECRET, **claims: Any) -> str:
    """Return a JWT with these claims, signed with HS256."""
    parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join([*parts, _encoded(_signature(".".join(parts), secret))])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) & 3))


def _signature(signed: str, secret: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode(), sha256).digest()


def verified(header: str | None, secret: str) -> dict[str, Any]:
    """Return the claims of an Authorization header; none without one.

    Raises:
        Failed: the token is not valid.
    """
    kind, _, given = (header or "").partition(" ")
    if kind.lower() != "bearer":
        return {}
    try:
        signed, _, signature = given.rpartition(".")
        head, body = (json.loads(_decoded(part)) for part in signed.split("."))
        if head["alg"] != "HS256" or not hmac.compare_digest(_decoded(signature), _signature(signed, secret)):
            raise Failed(401, "PGRST301", "No suitable key or wrong key type")
    except (ValueError, KeyError, binascii.Error) as error:
        raise Failed(401, "PGRST301", "Expected 3 parts in JWT; got something else") from error
    now = time.time()
    if body.get("exp", now) < now - SKEW_S:
        raise Failed(401, "PGRST303", "JWT expired")
    if body.get("nbf", now) > now + SKEW_S:
        raise Failed(401, "PGRST303", "JWT not yet valid")
    claims: dict[str, Any] = body
    return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a statement returned."""

    status: int
    rows: list[Any]
    body: Any
    is_empty: bool = False


class PostgREST:
    """Serves one database over HTTP; ``url`` is that of its connections' role, which may become the others."""

    def __init__(
        self, url: str, *, schemas: tuple[str, ...] = ("public",), anon: str = "anon", secret: str = SECRET
    ) -> None:
        self._url = url
        self._schemas = schemas
        self._anon = anon
        self._secret = secret

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if request.method == "OPTIONS":
            return web.Response(headers=_cors(request))
        claims: dict[str, Any] = {}
        try:
            claims = verified(request.headers.get("Authorization"), self._secret)
            answer = await self._answer(request, claims | {"role": claims.get("role", self._anon)})
        except Failed as failed:
            return _failure(request, failed)
        except psycopg.Error as error:
            return _failure(request, self._refused(error, signed_in=claims.get("role", self._anon) != self._anon))
        text = None if answer.is_empty else json.dumps(answer.body)
        return web.Response(status=answer.status, text=text, content_type="application/json", headers=_cors(request))

    def _refused(self, error: psycopg.Error, *, signed_in: bool) -> Failed:
        state = error.sqlstate or "XX000"
        diag = error.diag
        if state.startswith("PT") and state[2:].isdigit():
            status = int(state[2:])
        elif state == "42501":
            status = 403 if signed_in else 401
        else:
            status = HTTP_OF_STATE.get(state, HTTP_OF_STATE.get(state[:2], 400))
        return Failed(status, state, diag.message_primary or str(error), diag.message_detail, diag.message_hint)

    async def _answer(self, request: web.Request, claims: Mapping[str, Any]) -> Answer:
        api = await Api.of(request, self._schemas)
        connection = await psycopg.AsyncConnection.connect(self._url, row_factory=dict_row)
        async with connection:
            plan = await self._plan(connection, api)
            await connection.rollback()
            await connection.set_read_only(plan.read_only)
            async with connection.transaction():
                await self._impersonate(connection, api, claims)
                cursor = await connection.execute(plan.query)
                found = await cursor.fetchone()
                assert found is not None
                return _shaped(api, plan, found["body"])

    async def _impersonate(self, connection: psycopg.AsyncConnection[Any], api: Api, claims: Mapping[str, Any]) -> None:
        """Set what PostgREST sets for the transaction."""
        values = {
            "role": claims["role"],
            "search_path": sql.Identifier(api.schema).as_string() + ", public",
            "request.jwt.claims": json.dumps(claims),
            "request.method": api.method,
            "request.path": api.path,
            "request.headers": json.dumps({name.lower(): value for name, value in api.headers.items()}),
        }
        for name, value in values.items():
            await connection.execute("SELECT set_config(%s, %s, true)", [name, value])

    async def _plan(self, connection: psycopg.AsyncConnection[Any], api: Api) -> "Plan":
        if api.function:
            rows = await (await connection.execute(FUNCTIONS, [api.function, api.schema])).fetchall()
            return _call(api, rows)
        name = sql.Identifier(api.schema, api.relation)
        known = await (await connection.execute(RELATIONS, [api.schema, api.relation])).fetchone()
        if known is None:
            raise Failed(404, "PGRST205", f"Could not find the table '{api.schema}.{api.relation}' in the schema cache")
        columns = await (await connection.execute(COLUMNS, [known["oid"]])).fetchall()
        return _statement(api, name, {column["name"]: column for column in columns})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One statement that returns its result as JSON in ``body``."""

    query: sql.Composed
    read_only: bool
    is_scalar: bool = False
    is_void: bool = False


def _shaped(api: Api, plan: Plan, rows: Any) -> Answer:
    """Return the answer in the form that the client accepts; inside the transaction, which a failure rolls back."""
    if plan.is_void:
        return Answer(status=204, rows=[], body=None, is_empty=True)
    if plan.is_scalar:
        return Answer(status=200, rows=[], body=rows)
    status = {"POST": 200 if api.function else 201}.get(api.method, 200)
    if api.method != "GET" and not api.function and not api.returns_rows:
        return Answer(status=201 if api.method == "POST" else 204, rows=[], body=None, is_empty=True)
    if api.wants_one:
        if len(rows) != 1:
            details = f"The result contains {len(rows)} rows"
            raise Failed(406, "PGRST116", "Cannot coerce the result to a single JSON object", details)
        return Answer(status=status, rows=rows, body=rows[0])
    return Answer(status=status, rows=rows, body=rows)


def _statement(api: Api, name: sql.Identifier, columns: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Return the statement on a table or view."""
    source = sql.Identifier(api.relation)
    where = filters(api.query, source)
    if api.method == "GET":
        parts = [
            sql.SQL("SELECT {} FROM {}").format(selected(api.query, source), name),
            where,
            order(api.query, source),
        ]
        query = sql.SQL(" ").join(parts)
    else:
        returning = sql.SQL("RETURNING {}").format(selected(api.query, source) if api.returns_rows else sql.SQL("1"))
        match api.method:
            case "POST":
                query = sql.SQL("{} {}").format(_insert(api, name, columns), returning)
            case "PATCH":
                query = sql.SQL("{} {} {}").format(_update(api, name, columns), where, returning)
            case "DELETE":
                query = sql.SQL("DELETE FROM {} {} {}").format(name, where, returning)
            case other:
                raise Failed(501, "stand-in", f"this stand-in has no {other}")
    wrapped = sql.SQL(
        "WITH pgrst_source AS ({}) SELECT coalesce(json_agg(_postgrest_t), '[]') AS body "
        "FROM (SELECT * FROM pgrst_source) _postgrest_t"
    ).format(query)
    return Plan(query=wrapped, read_only=api.method == "GET")


def _from_body(api: Api, columns: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], sql.Composed]:
    """Return the columns that a body sets, and the query that makes rows of it."""
    names = api.body_columns()
    for name in names:
        if name not in columns:
            message = f"Could not find the '{name}' column of '{api.relation}' in the schema cache"
            raise Failed(400, "PGRST204", message)
    elements = api.body if isinstance(api.body, list) else [api.body]
    body = sql.SQL("{}::json").format(sql.Literal(json.dumps(elements)))
    if api.missing_is_default:
        defaults = [
            sql.SQL("{}, {}").format(sql.Literal(name), sql.SQL(columns[name]["default"]))  # the catalogue's own text
            for name in names
            if columns[name]["default"] is not None
        ]
        body = sql.SQL(
            "(SELECT json_agg(jsonb_build_object({}) || one) FROM jsonb_array_elements({}::jsonb) AS one)"
        ).format(sql.SQL(", ").join(defaults), body)
    if not names:
        return names, sql.SQL("SELECT FROM json_array_elements({}) AS pgrst_body").format(body)
    fields = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(columns[name]["type"])) for name in names
    )
    taken = sql.SQL(", ").join(sql.Identifier("pgrst_body", name) for name in names)
    return names, sql.SQL("SELECT {} FROM json_to_recordset({}) AS pgrst_body({})").format(taken, body, fields)


def _insert(api: Api, name: sql.Identifier, columns: Mapping[str, Mapping[str, Any]]) -> sql.Composed:
    names, rows = _from_body(api, columns)
    into = sql.SQL(", ").join(sql.Identifier(one) for one in names)
    statement = (
        sql.SQL("INSERT INTO {}({}) {}").format(name, into, rows)
        if names
        else sql.SQL("INSERT INTO {} {}").format(name, rows)
    )
    resolution = api.prefer.get("resolution")
    keys = api.query.get("on_conflict", "").split(",") if "on_conflict" in api.query else []
    keys = keys or [one for one in columns if columns[one]["is_key"]]
    if resolution is None or not keys:
        return statement
    target = sql.SQL(", ").join(sql.Identifier(one) for one in keys)
    if resolution == "ignore-duplicates" or not names:
        return sql.SQL("{} ON CONFLICT({}) DO NOTHING").format(statement, target)
    updates = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(one)) for one in names)
    return sql.SQL("{} ON CONFLICT({}) DO UPDATE SET {}").format(statement, target, updates)


def _update(api: Api, name: sql.Identifier, columns: Mapping[str, Mapping[str, Any]]) -> sql.Composed:
    names, rows = _from_body(api, columns)
    if not names:
        raise Failed(501, "stand-in", "this stand-in has no PATCH without columns")
    sets = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one), sql.Identifier("pgrst_body", one)) for one in names
    )
    return sql.SQL("UPDATE {} SET {} FROM ({}) AS pgrst_body").format(name, sets, rows)


def _call(api: Api, candidates: list[dict[str, Any]]) -> Plan:
    """Return the call of the one function that the arguments mean."""
    keys = {*api.arguments}
    named = [one for one in candidates if _takes(one, keys)]
    unnamed = [one for one in candidates if api.method == "POST" and one["count"] == 1 and _is_unnamed_json(one)]
    chosen = named or unnamed
    where = f"{api.schema}.{api.function}"
    if not chosen:
        with_ = f"({', '.join(sorted(keys))})" if keys else " without parameters"
        raise Failed(404, "PGRST202", f"Could not find the function {where}{with_} in the schema cache")
    if len(chosen) > 1:
        raise Failed(300, "PGRST203", f"Could not choose the best candidate function between: {where}")
    (function,) = chosen
    name = sql.Identifier(api.schema, api.function)
    body = sql.Literal(json.dumps(api.arguments if named else api.body))
    source, given = sql.SQL("(SELECT) AS pgrst_body").format(), sql.SQL("").format()
    if not named:
        given = sql.SQL("{}::{}").format(body, sql.SQL(function["types"][0]))
    elif keys:
        types = dict(zip(function["names"], function["types"], strict=False))
        fields = [sql.SQL("{} {}").format(sql.Identifier(one), sql.SQL(types[one])) for one in sorted(keys)]
        source = sql.SQL("json_to_record({}::json) AS pgrst_body({})").format(body, sql.SQL(", ").join(fields))
        taken = [sql.SQL("{0} := pgrst_body.{0}").format(sql.Identifier(one)) for one in sorted(keys)]
        given = sql.SQL(", ").join(taken)
    cast = "::text" if function["is_void"] else ""
    if function["is_table"]:
        result = "SELECT coalesce(json_agg(c), '[]') AS body FROM {}, LATERAL {}({}) AS c"
    elif function["is_set"]:
        result = "SELECT coalesce(json_agg(c.one), '[]') AS body FROM {}, LATERAL (SELECT {}({}) AS one) AS c"
    else:
        result = "SELECT to_json(c.one) AS body FROM {}, LATERAL (SELECT {}({})" + cast + " AS one) AS c"
    query = sql.SQL(result).format(source, name, given)
    read_only = api.method == "GET" or function["volatility"] in BODY_IN_READ_ONLY
    return Plan(query=query, read_only=read_only, is_scalar=not function["is_table"], is_void=function["is_void"])


def _takes(function: Mapping[str, Any], keys: set[str]) -> bool:
    """Whether a function's required parameters are given, and no others than it has."""
    if function["count"] == 0:
        return not keys
    parameters = function["names"][: function["count"]]
    if len(parameters) < function["count"] or "" in parameters:
        return False
    required = {*parameters[: function["count"] - function["defaults"]]}
    return required <= keys <= {*parameters}


def _is_unnamed_json(function: Mapping[str, Any]) -> bool:
    return function["types"][0] in {"json", "jsonb"} and not any(function["names"][:1])


def _cors(request: web.Request) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": request.headers.get("Origin", "*"),
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "Authorization"),
        "Access-Control-Allow-Methods": "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD",
    }


def _failure(request: web.Request, failed: Failed) -> web.Response:
    body = {"code": failed.code, "details": failed.details, "hint": failed.hint, "message": failed.message}
    return web.Response(
        status=failed.status, text=json.dumps(body), content_type="application/json", headers=_cors(request)
    )


@contextmanager
def serving(url: str, **options: Any) -> Iterator[str]:
    """Serve a database in a thread of its own; yield the address, under which supabase-js finds it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application(client_max_size=32 << 20)
        app.router.add_route("*", "/{path:.*}", PostgREST(url, **options).handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
