-- The reservations of model calls. The rules are functions of the database (migrations 0028, 0033), because they must see what
-- others have committed under the locks that they take.

-- name: reserve
-- Reserve what one model call may use, or say why not. May be repeated.
--
-- Parameters: those of draft_reserve_call.
-- Returns: refusal, null if the call may be made; wait_s, after how many seconds to ask again; used, the share of its requester's
-- budget that is spent.
SELECT refusal, wait_s, used
  FROM draft_reserve_call(%(request_id)s, %(lease_token)s, %(call)s::smallint, %(send)s::smallint, %(requester_id)s, %(model)s,
                   %(worker_id)s, %(usd)s, %(prompt_usd)s, %(output_usd)s, %(output_tokens)s, %(tokens)s, %(time_s)s);

-- name: release
-- Give back what was reserved for a call that was not made.
--
-- Parameters: request_id, lease_token, call.
SELECT draft_release_call(%(request_id)s, %(lease_token)s, %(call)s::smallint);

-- name: read_budgets
-- What a heartbeat reads of the budgets, without waiting for the next one.
SELECT draft_budgets() AS budgets;

-- name: list_spending
-- The budgets of which most is spent, for operators: the fleet's first, then the ten requesters' that have the least left.
--
-- Parameters: nearly, the share from which a requester's budget is listed.
SELECT x.payer, x.requester_id, x.usd_per_day::float8 AS usd_per_day, x.spent::float8 AS spent, x.reserved::float8 AS reserved,
       (x.spent / nullif(x.usd_per_day, 0))::float8 AS used, draft_budget_until(x.requester_id) AS used_up_until
  FROM (
    SELECT 'fleet' AS payer, NULL AS requester_id, s.usd_per_day, coalesce(d.spent, 0) AS spent,
           coalesce(d.reserved, 0) AS reserved
      FROM draft_settings AS s
      LEFT JOIN draft_spending AS d ON d.payer = 'fleet' AND d.day = (now() AT TIME ZONE 'UTC')::date
     WHERE s.usd_per_day IS NOT NULL
    UNION ALL
    (SELECT d.payer, d.requester_id, l.usd_per_day, d.spent, d.reserved
       FROM draft_spending AS d CROSS JOIN LATERAL (
        SELECT l.usd_per_day FROM draft_limits AS l WHERE l.requester_id IN (d.requester_id, '*')
         ORDER BY l.requester_id = '*' LIMIT 1) AS l
      WHERE d.payer = 'requester' AND d.day = (now() AT TIME ZONE 'UTC')::date AND d.spent >= l.usd_per_day * %(nearly)s
      ORDER BY d.spent / nullif(l.usd_per_day, 0) DESC LIMIT 10)) AS x
 ORDER BY x.payer, used DESC;

-- name: list_ceilings
-- The models with ceilings, for operators: which one has no room, and in how many seconds it may have.
SELECT m.name AS model, r.wait_s,
       CASE WHEN r.in_flight < 1 THEN m.max_in_flight || ' calls in flight'
            WHEN r.calls < 1 THEN m.rpm || ' calls per minute'
            WHEN r.tokens_left < r.need THEN m.tpm || ' tokens per minute' END AS ceiling
  FROM draft_models AS m CROSS JOIN LATERAL draft_model_room(m.name, NULL, now()) AS r
 WHERE num_nonnulls(m.rpm, m.tpm, m.max_in_flight) > 0 ORDER BY m.name;

-- name: charge_lost
-- Charge the calls of dead workers, and delete what is settled and in no window. Takes nothing until this session has been up for
-- one lease, as the reaper does: until then, live workers may not have been able to send a heartbeat.
--
-- Parameters: lease_s.
-- Returns: charged, the number of calls.
SELECT CASE WHEN now() - a.backend_start >= make_interval(secs => %(lease_s)s) THEN draft_charge_lost() ELSE 0 END AS charged
  FROM pg_stat_get_activity(pg_backend_pid()) AS a;
