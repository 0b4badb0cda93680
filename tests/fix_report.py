"""A period with some of everything, for tests of the report: requests, usage and feedback of the last day."""

from typing import Any

from psycopg.types.json import Jsonb

from draftd import db

HOSTILE = "</style><script>document.title = 1</script><img src=x onerror=alert(1)><a href='https://evil.example'>x</a>"
PLATFORMS = ("linkedin", "email", "whatsapp", "slack", "x")
DETAILED = """Thanks for the invitation! Before I say yes: what should I bring, and will Ana be there too?

If it is about the €4,250 offer, I would like to read the new numbers first."""
REPLIES = (
    (
        "short",
        "confirms Thursday",
        "accept",
        "Thursday at 14:00 works for me. See you then!",
        "Thursday at two works. See you!",
    ),
    (
        "medium",
        "declines, offers Monday",
        "decline",
        "I cannot make it on Thursday, sorry. Would Monday morning at 10:30 work instead? I can come to your office.",
        "Sorry, Thursday is full here. Would Monday at 10:30 work? I can come to yours.",
    ),
    (
        "detailed",
        "asks what to bring",
        "open",
        DETAILED,
        "Thanks for the invite. What should I bring? And will Ana be there?",
    ),
)

# Deterministic: everything follows from the number of the row.
_REQUESTS = """
INSERT INTO draft_requests (id, requester_id, agent, image_urls, status, attempt, result, error_code, error_message, model,
                            prompt_version, created_at, available_at, claimed_at, first_option_at, finished_at, cost_usd)
SELECT md5(i::text)::uuid, 'ada', CASE WHEN i %% 9 = 4 THEN 'support' ELSE 'comment_generator' END, '{https://i.example/a.png}',
       s.status, 1,
       CASE WHEN s.status = 'completed' THEN %(result)s::jsonb || jsonb_build_object(
            'platform', (%(platforms)s::text[])[1 + i %% 5], 'platform_name', initcap((%(platforms)s::text[])[1 + i %% 5])) END,
       CASE WHEN s.status = 'failed' THEN (ARRAY['image_fetch_failed', 'nothing_to_reply_to', 'expired', 'model_refused'])
            [1 + (i / 13) %% 4] END,
       CASE WHEN s.status = 'failed' THEN 'Picture 1 of 1, from i.example: it could not be fetched.' END,
       CASE WHEN i %% 6 = 0 THEN 'openai/gpt-5-mini' ELSE 'anthropic/claude-sonnet-4-5' END,
       CASE WHEN i %% 9 = 4 THEN 's1' WHEN i < 60 THEN '3f9c2a' WHEN i < 240 AND i %% 3 > 0 THEN 'b71e04' ELSE '3f9c2a' END,
       t.at, t.at, t.at + d.wait, t.at + d.wait + d.first,
       CASE WHEN s.status <> 'pending' THEN t.at + d.wait + d.first * 2.4 END, 0.0031
  FROM generate_series(%(from)s::int, %(n)s::int) AS i,
       LATERAL (SELECT now() - make_interval(secs => i * 86000.0 / %(n)s
                                             + 2400 * sin(i / 25.0) * (i > 40)::int) AS at) AS t,
       LATERAL (SELECT CASE WHEN i < 3 THEN 'pending' WHEN i %% 13 = 7 THEN 'failed' WHEN i %% 41 = 11 THEN 'cancelled'
                            ELSE 'completed' END AS status) AS s,
       LATERAL (SELECT make_interval(secs => 0.05 + (i * 7 %% 11) * 0.06) AS wait,
                       make_interval(secs => 1.6 + (i * 37 %% 29) * 0.09 + 3 * (i %% 31 = 0)::int) AS first) AS d
"""
_USAGE = """
INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model, code, input_tokens, cached_tokens,
                         output_tokens, cost_usd, elapsed_s, created_at)
SELECT id, 'ada', 1, 1, 1, model, NULL, 2100, 1500, 480, CASE WHEN model LIKE 'openai%%' THEN NULL ELSE 0.0031 END, 4,
       created_at
  FROM draft_requests WHERE model IS NOT NULL AND status = 'completed'
"""
_FEEDBACK = """
INSERT INTO draft_feedback (request_id, requester_id, option, outcome, sent_text, rating, drafted_text, similarity, angle, stance,
                            agent, prompt_version, platform, created_at)
SELECT f.id, 'ada', o.option, o.outcome, o.sent, o.rating, o.drafted, draft_text_similarity(o.drafted, o.sent), o.angle,
       o.stance, f.agent, f.prompt_version, f.platform, f.created_at + interval '1 min'
  FROM (SELECT r.*, result ->> 'platform' AS platform, row_number() OVER (ORDER BY created_at DESC) AS i
          FROM draft_requests AS r WHERE status = 'completed') AS f,
       LATERAL (SELECT CASE WHEN i %% 5 < 3 THEN 1 WHEN i %% 5 = 3 THEN 2 ELSE 3 END AS place,
                       CASE WHEN i %% 7 = 3 THEN 'rejected'
                            WHEN i %% (CASE prompt_version WHEN 'b71e04' THEN 8 ELSE 3 END) < 1 THEN 'edited'
                            ELSE 'sent' END AS outcome) AS c,
       LATERAL (SELECT (%(options)s::jsonb -> c.place - 1) AS o) AS chosen,
       LATERAL (SELECT o ->> 'length' AS option, c.outcome, o ->> 'text' AS drafted, o ->> 'angle' AS angle,
                       o ->> 'stance' AS stance,
                       CASE c.outcome WHEN 'sent' THEN o ->> 'text'
                            WHEN 'edited' THEN CASE WHEN i %% 3 = 0 THEN o ->> 'sent'
                                                    ELSE (o ->> 'text') || repeat(' Best, Ada', (i %% 4)::int + 1) END
                            END AS sent,
                       CASE WHEN i %% 14 = 2 THEN -1 WHEN i %% 4 = 2 THEN 1 END AS rating) AS o
 WHERE i %% 2 = 0 OR i < 8
"""


def options() -> list[dict[str, Any]]:
    """Return the options of every drafted request, with what is sent in their place."""
    return [
        {
            "length": length,
            "angle": angle,
            "stance": stance,
            "text": text,
            "sent": sent,
            "unsupported": [{"quote": "€4,250", "kind": "amount"}] if "4,250" in text else [],
        }
        for length, angle, stance, text, sent in REPLIES
    ]


async def fill_period(connection: db.Connection, *, n: int = 500, first: int = 1) -> None:
    """Fill the last day with requests, usage and feedback, past every trigger."""
    given = options()
    result = {
        "summary": "Bo asks for a meeting on Thursday.",
        "replying_to": {
            "author": "Bo Lindqvist",
            "gist": "asks whether Thursday at 14:00 suits",
            "expects": "decision",
        },
        "options": given,
    }
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        params = {"result": Jsonb(result), "platforms": list(PLATFORMS), "n": n, "from": first}
        await connection.execute(_REQUESTS.encode(), params)
        await connection.execute(_USAGE.encode(), {})
        await connection.execute(_FEEDBACK.encode(), {"options": Jsonb(given)})


async def add_hostile(connection: db.Connection) -> None:
    """Let every text that the report shows be markup, and long."""
    long = HOSTILE + "w" * 3_000
    texts = {"length": "short", "angle": long, "stance": long, "text": long, "unsupported": [{"quote": HOSTILE}, 3]}
    result = {
        "platform": long,
        "platform_name": long,
        "summary": long,
        "replying_to": {"author": long, "gist": long},
        "options": [texts, 3, {"length": [long], "text": {}, "unsupported": 7}],
    }
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            """WITH made AS (
                   INSERT INTO draft_requests (id, agent, image_urls, status, result, partial_result, error_code,
                                               error_message, model, prompt_version, claimed_at, finished_at)
                   SELECT gen_random_uuid(), %(long)s, '{x}', s, CASE s WHEN 'completed' THEN %(result)s::jsonb END,
                          %(result)s, %(long)s, %(long)s, %(long)s, %(long)s, now(), now()
                     FROM unnest(ARRAY['completed', 'failed']) AS s
                   RETURNING id)
               INSERT INTO draft_feedback (request_id, option, outcome, sent_text, similarity, angle, stance, agent,
                                           prompt_version, platform)
               SELECT id, 'short', 'edited', %(long)s, 0.3, %(long)s, %(long)s, %(long)s, %(long)s, %(long)s FROM made""",
            {"long": long, "result": Jsonb(result)},
        )
        await connection.execute(
            """INSERT INTO draft_usage (request_id, requester_id, attempt, lease_token, call, model)
               VALUES (gen_random_uuid(), '', 1, 1, 1, %s)""",
            [long],
        )
