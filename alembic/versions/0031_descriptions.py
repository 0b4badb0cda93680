"""A description of every table, column, function and type: what it is, and who sets it."""

from alembic import op

from draftd.db.comments import comment_on

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

TEXTS = {
    "TABLE draft_requests": "The message bus: a client inserts a request and reads the drafts from the same row.",
    "COLUMN draft_requests.id": "client: the request; chosen by the database unless a trusted client sets it",
    "COLUMN draft_requests.requester_id": (
        "client: the user or tenant whose request it is, 256 characters; default: the JWT's subject, or ''. All requests "
        "with '' count as one requester's"
    ),
    "COLUMN draft_requests.agent": "client: which prompt answers it, 256 characters",
    "COLUMN draft_requests.image_urls": (
        "client: 1 to 8 screenshots in reading order, as https:, http: or data:image/…;base64,… URLs, 24 MiB in all; "
        "none with parent_id. Each data: URL becomes sha256:… when the request is final"
    ),
    "COLUMN draft_requests.context": "client: what the requester wants to say, 8,000 characters",
    "COLUMN draft_requests.options": "client: how the drafts should be: a JSON object, see schema/draftd.ts, 256 KiB",
    "COLUMN draft_requests.parent_id": "client: the earlier request of the same requester that this one refines",
    "COLUMN draft_requests.priority": "trusted client: -100 to 100; higher runs first",
    "COLUMN draft_requests.available_at": "client: not drafted before",
    "COLUMN draft_requests.expires_at": (
        "client: not drafted after; null becomes available_at plus draft_settings.default_expiry_s"
    ),
    "COLUMN draft_requests.idempotency_key": "client: unique per requester, 256 characters",
    "COLUMN draft_requests.max_attempts": "client: 1 to 10",
    "COLUMN draft_requests.metadata": "client: the client's own JSON, never read by draftd, 256 KiB",
    "COLUMN draft_requests.status": (
        "draftd: pending, processing, completed, failed or cancelled; a client may set cancelled"
    ),
    "COLUMN draft_requests.attempt": "draftd: attempts spent",
    "COLUMN draft_requests.lease_token": "draftd: grows with each claim; a write with an older one is refused",
    "COLUMN draft_requests.lease_until": "draftd: when the claim ends unless it is renewed",
    "COLUMN draft_requests.deadline_at": "draftd: when the attempt ends whatever happens",
    "COLUMN draft_requests.worker_id": "draftd: the process that holds the request, or held it last",
    "COLUMN draft_requests.turn": "database: place in the fair order; lower runs first",
    "COLUMN draft_requests.partial_result": (
        "draftd: the options that are ready so far, in the shape of result; kept when the request fails"
    ),
    "COLUMN draft_requests.result": (
        "draftd: the drafts, see schema/result.json; set exactly when status is completed"
    ),
    "COLUMN draft_requests.reading": "draftd: the messages that mattered, verbatim, for a refinement",
    "COLUMN draft_requests.error_code": (
        "draftd: why the request failed, or why it waits for another attempt; null when completed"
    ),
    "COLUMN draft_requests.error_message": "draftd: the error in a sentence for the app's user",
    "COLUMN draft_requests.error_details": (
        "draftd: what is known of {action, picture, host, status, found, limit}; action is resend, open_message, "
        "try_later, shorten or none"
    ),
    "COLUMN draft_requests.errors": (
        "draftd: for operators: the last 20 errors as [{attempt, at, code, message, model}]"
    ),
    "COLUMN draft_requests.images": (
        "draftd: each picture as read, as [{host, sha256, width, height, parts}]; sizes in pixels"
    ),
    "COLUMN draft_requests.model": "draftd: the model that wrote the result",
    "COLUMN draft_requests.prompt_version": "draftd: the prompt that the model was given",
    "COLUMN draft_requests.input_tokens": "draftd: sum over all model calls",
    "COLUMN draft_requests.output_tokens": "draftd: sum over all model calls",
    "COLUMN draft_requests.cost_usd": "draftd: US dollars, sum over all model calls; null if a price is not known",
    "COLUMN draft_requests.trace_id": "draftd: the trace in Langfuse",
    "COLUMN draft_requests.created_at": "database: when the request was inserted",
    "COLUMN draft_requests.claimed_at": "draftd: when the last attempt began",
    "COLUMN draft_requests.finished_at": "database: when the request became completed, failed or cancelled",
    "COLUMN draft_requests.updated_at": "database: when the request last changed; a renewal does not count",
    "COLUMN draft_requests.given_back": "draftd: how often a hold gave the attempt back",
    "COLUMN draft_requests.traceparent": "client: the client's trace, as a W3C traceparent",
    "COLUMN draft_requests.limited": "database: true while a pending request waits for its requester's limits",
    "COLUMN draft_requests.first_option_at": (
        "draftd: when the first option was published; null if none was before the end"
    ),
    "TABLE draft_pictures": "Prepared pictures of unfinished requests, kept for the next attempt. Only for draftd.",
    "COLUMN draft_pictures.request_id": "draftd: the request",
    "COLUMN draft_pictures.position": "draftd: the entry in image_urls, from 1",
    "COLUMN draft_pictures.url_sha256": "draftd: SHA-256 of that entry when it was fetched",
    "COLUMN draft_pictures.facts": "draftd: what is known of the picture, and the size of each part in bytes",
    "COLUMN draft_pictures.data": "draftd: the parts as the model sees them, one after the other",
    "COLUMN draft_pictures.created_at": "database: when the picture was stored",
    "TABLE draft_workers": "Daemons, one row per process, alive or stopped. Written by draftd.",
    "COLUMN draft_workers.id": "draftd: the process; a new one with each start",
    "COLUMN draft_workers.hostname": "draftd: where it runs",
    "COLUMN draft_workers.pid": "draftd: its process id there",
    "COLUMN draft_workers.version": "draftd: its version of draftd",
    "COLUMN draft_workers.state": "draftd: running, draining or stopped",
    "COLUMN draft_workers.agents": "draftd: the agents that it has prompts for",
    "COLUMN draft_workers.concurrency": "draftd: how many requests it works on at most",
    "COLUMN draft_workers.in_flight": "draftd: how many requests it works on",
    "COLUMN draft_workers.started_at": "database: when it started",
    "COLUMN draft_workers.heartbeat_at": "database: when it last reported",
    "COLUMN draft_workers.beat_s": "draftd: seconds between two reports",
    "COLUMN draft_workers.attempt_s": "draftd: longest attempt, in seconds",
    "COLUMN draft_workers.models": "draftd: whether it can call each model, as {agent: {model: true|false}}",
    "TABLE draft_agents": "Which models answer an agent. Written by the operator: draftd agents.",
    "COLUMN draft_agents.agent": "operator: the prompt's name",
    "COLUMN draft_agents.model": "operator: the model's name in draft_models, or litellm's own",
    "COLUMN draft_agents.fallback_models": "operator: names of the models to try next, in order",
    "COLUMN draft_agents.params": "operator: model parameters, as a JSON object of the allowed keys",
    "COLUMN draft_agents.updated_at": "database: when the row was set",
    "TABLE draft_models": (
        "What a model's name means. Written by the operator: draftd models. A name without a row is litellm's own."
    ),
    "COLUMN draft_models.name": "operator: the name that agents use",
    "COLUMN draft_models.model": "operator: litellm's name; null: the same as name",
    "COLUMN draft_models.api_base": "operator: where the model is called; only if the daemons' environment allows it",
    "COLUMN draft_models.api_key_env": (
        "operator: the daemons' environment variable with the key; only if their environment allows it"
    ),
    "COLUMN draft_models.params": "operator: model parameters, as a JSON object of the allowed keys",
    "COLUMN draft_models.input_usd_per_mtok": (
        "operator: US dollars per million input tokens, 0 to 10,000; null: litellm's price"
    ),
    "COLUMN draft_models.output_usd_per_mtok": (
        "operator: US dollars per million output tokens, 0 to 10,000; null: litellm's price"
    ),
    "COLUMN draft_models.updated_at": "database: when the row was set",
    "COLUMN draft_models.cached_input_usd_per_mtok": (
        "operator: US dollars per million input tokens read from the provider's cache, 0 to 10,000; null: like other "
        "input"
    ),
    "COLUMN draft_models.rpm": (
        "operator: calls that the fleet may begin in any 60 s, 1 to 1,000,000; null: any number"
    ),
    "COLUMN draft_models.tpm": (
        "operator: tokens that the fleet may use in any 60 s, 1 to 2,000,000,000; null: any number"
    ),
    "COLUMN draft_models.max_in_flight": (
        "operator: calls that the fleet may have in flight, 1 to 100,000; null: any number"
    ),
    "TABLE draft_holds": "Models that are not called until a probe succeeds. Written by draftd.",
    "COLUMN draft_holds.model": "draftd: the model's name",
    "COLUMN draft_holds.code": "draftd: the error code that began the hold",
    "COLUMN draft_holds.since": "draftd: when the hold began",
    "COLUMN draft_holds.until": "draftd: when the next probe may be sent",
    "COLUMN draft_holds.reason": "draftd: what the provider said",
    "COLUMN draft_holds.failures": "draftd: failures in a row; each doubles the wait",
    "COLUMN draft_holds.probing": "draftd: whether a probe is under way; only the end of one doubles the wait",
    "COLUMN draft_holds.used_at": "draftd: when a daemon last reported that it uses the model",
    "TABLE draft_pauses": "What is not drafted until it is resumed. Written by the operator: draftd pause.",
    "COLUMN draft_pauses.what": "operator: all, model or requester",
    "COLUMN draft_pauses.name": "operator: the model's or the requester's name; '' for all",
    "COLUMN draft_pauses.reason": "operator: for whoever asks",
    "COLUMN draft_pauses.by": "operator: who paused it; default: the database role",
    "COLUMN draft_pauses.since": "operator: when it was paused; default: now",
    "TABLE draft_limits": "How much a requester may have drafted. Written by the operator: draftd limits.",
    "COLUMN draft_limits.requester_id": "operator: the requester; * is everybody without a row of their own",
    "COLUMN draft_limits.max_pending": (
        "operator: how many requests may be pending, 0 to 10,000,000; beyond it an INSERT is refused with PT429; null: "
        "no limit"
    ),
    "COLUMN draft_limits.max_in_flight": (
        "operator: how many requests may be drafted at the same time, 0 to 10,000,000; null: no limit"
    ),
    "COLUMN draft_limits.usd_per_day": "operator: US dollars per UTC day, 0 to 1,000,000; null: no limit",
    "TABLE draft_turnstiles": (
        "Serializes the inserts of a requester that has a max_pending. Written by the database."
    ),
    "COLUMN draft_turnstiles.requester_id": "database: the requester",
    "COLUMN draft_turnstiles.at_most": "database: an upper bound of the requester's unfinished requests",
    "TABLE draft_reservations": (
        "What each model call may cost until its usage is known. Written by draftd, kept for minutes."
    ),
    "COLUMN draft_reservations.request_id": "draftd: the request",
    "COLUMN draft_reservations.lease_token": "draftd: the claim that makes the call",
    "COLUMN draft_reservations.call": "draftd: the model call of the attempt, from 1",
    "COLUMN draft_reservations.send": (
        "draftd: the HTTP request of the call, from 1; a provider may refuse the first one's form"
    ),
    "COLUMN draft_reservations.requester_id": "draftd: the requester; null once forgotten",
    "COLUMN draft_reservations.model": "draftd: the model's name",
    "COLUMN draft_reservations.worker_id": "draftd: the process that makes the call",
    "COLUMN draft_reservations.day": "draftd: the UTC day whose budgets pay for it; null: no budget was set",
    "COLUMN draft_reservations.usd": "draftd: US dollars that the call can cost at most",
    "COLUMN draft_reservations.prompt_usd": "draftd: US dollars that its prompt is expected to cost",
    "COLUMN draft_reservations.output_usd": "draftd: US dollars that output_tokens cost",
    "COLUMN draft_reservations.output_tokens": "draftd: the limit of the answer",
    "COLUMN draft_reservations.estimate": "draftd: tokens expected before the call",
    "COLUMN draft_reservations.began_at": "draftd: when the call was admitted",
    "COLUMN draft_reservations.ends_at": "draftd: when the call is over, even if its worker has died",
    "COLUMN draft_reservations.settled_at": "draftd: when the call was charged; null: not yet",
    "COLUMN draft_reservations.guessed": (
        "draftd: whether it was charged by a guess, because its usage has not arrived"
    ),
    "COLUMN draft_reservations.charged_usd": "draftd: US dollars charged; null: not yet",
    "COLUMN draft_reservations.tokens": "draftd: tokens that the provider counted; null: not known",
    "TABLE draft_spending": (
        "What a day has cost: the fleet's row, and one per requester. Written by draftd under a budget."
    ),
    "COLUMN draft_spending.day": "draftd: the UTC day",
    "COLUMN draft_spending.payer": "draftd: fleet or requester",
    "COLUMN draft_spending.requester_id": "draftd: the requester; '' in the fleet's row",
    "COLUMN draft_spending.spent": "draftd: US dollars",
    "COLUMN draft_spending.reserved": "draftd: US dollars for calls whose cost is not known yet",
    "COLUMN draft_spending.calls": "draftd: model calls admitted",
    "COLUMN draft_spending.asked": "draftd: US dollars that these calls reserved in all",
    "COLUMN draft_spending.refused": (
        "draftd: US dollars of the smallest reservation that the rest of the budget could not hold; null: none"
    ),
    "TABLE draft_throttles": "Models with reduced concurrency after rate limits. Written by draftd.",
    "COLUMN draft_throttles.model": "draftd: the model's name",
    "COLUMN draft_throttles.share": "draftd: fraction of its concurrency that each daemon may use, as of changed_at",
    "COLUMN draft_throttles.bursts": "draftd: bursts of rate limits in a row, without a success between them",
    "COLUMN draft_throttles.since": "draftd: when the throttling began",
    "COLUMN draft_throttles.changed_at": "draftd: when the share was last changed",
    "TABLE draft_usage": (
        "One row per model call, whether or not its answer was used. Append-only, written by draftd."
    ),
    "COLUMN draft_usage.id": "database: in the order of recording",
    "COLUMN draft_usage.request_id": "draftd: the request, which may have been deleted",
    "COLUMN draft_usage.requester_id": "draftd: the requester; '' once forgotten",
    "COLUMN draft_usage.attempt": "draftd: the attempt, from 1",
    "COLUMN draft_usage.lease_token": "draftd: the claim that made the call",
    "COLUMN draft_usage.call": "draftd: the model call of the attempt, from 1",
    "COLUMN draft_usage.model": "draftd: the model's name",
    "COLUMN draft_usage.code": "draftd: the call's error; null if it was answered",
    "COLUMN draft_usage.input_tokens": "draftd: null if not known",
    "COLUMN draft_usage.output_tokens": "draftd: null if not known",
    "COLUMN draft_usage.cost_usd": "draftd: US dollars; null if a price is not known",
    "COLUMN draft_usage.elapsed_s": "draftd: seconds that the call took",
    "COLUMN draft_usage.trace_id": "draftd: the trace in Langfuse",
    "COLUMN draft_usage.created_at": "database: when the call was recorded",
    "COLUMN draft_usage.cached_tokens": (
        "draftd: how many of input_tokens came from the provider's cache; null if not known"
    ),
    "TABLE draft_feedback": "What became of a draft. Inserted by clients; outlives its request.",
    "COLUMN draft_feedback.id": "database: in the order of insertion",
    "COLUMN draft_feedback.request_id": "client: the request; null once it is deleted",
    "COLUMN draft_feedback.option": "client: short, medium or detailed; null: no draft in particular",
    "COLUMN draft_feedback.sent_text": "client: what was sent, 8,000 characters",
    "COLUMN draft_feedback.rating": "client: -1 or 1",
    "COLUMN draft_feedback.created_at": "database: when the feedback was inserted",
    "COLUMN draft_feedback.requester_id": "database: the request's",
    "COLUMN draft_feedback.outcome": (
        "client: sent, edited or rejected; null is filled in by comparing sent_text with the draft"
    ),
    "COLUMN draft_feedback.platform": "database: the result's platform",
    "COLUMN draft_feedback.author": "database: whom the draft answered",
    "COLUMN draft_feedback.drafted_text": "database: the option's text",
    "COLUMN draft_feedback.similarity": (
        "database: of drafted_text and sent_text, 0 to 1; 1: equal but for space around them"
    ),
    "COLUMN draft_feedback.angle": "database: the option's angle",
    "COLUMN draft_feedback.stance": "database: the option's stance",
    "COLUMN draft_feedback.agent": "database: the request's",
    "COLUMN draft_feedback.prompt_version": "database: the request's",
    "COLUMN draft_feedback.trace_id": "database: the request's",
    "COLUMN draft_feedback.score_at": "database: when its scores are due at Langfuse; null: nothing is left to send",
    "TABLE draft_profiles": (
        "What holds for all requests of a requester; a request's own options come first. Written by clients."
    ),
    "COLUMN draft_profiles.requester_id": (
        "client: whose profile it is, 1 to 256 characters; default: the JWT's subject"
    ),
    "COLUMN draft_profiles.me": (
        "client: who the requester is in screenshots, 200 characters: a name, or 'right-hand bubbles'"
    ),
    "COLUMN draft_profiles.about": "client: who the requester is, in a few sentences, 2,000 characters",
    "COLUMN draft_profiles.facts": "client: up to 200 true statements that drafts may use, 500 characters each",
    "COLUMN draft_profiles.signature": "client: what closes the requester's mails, 500 characters",
    "COLUMN draft_profiles.voice_samples": "client: up to 10 texts by the requester, 2,000 characters each",
    "COLUMN draft_profiles.reader_language": (
        "client: the language for summaries and explanations, as a BCP 47 tag such as en or pt-BR"
    ),
    "TABLE draft_settings": "The fleet's policy, in one row. Written by the operator: draftd settings.",
    "COLUMN draft_settings.id": "database: always true, so that there is one row",
    "COLUMN draft_settings.default_expiry_s": (
        "operator: seconds from available_at to expires_at where a client sets none, 0 to 315,360,000; 0: never"
    ),
    "COLUMN draft_settings.retention_days": (
        "operator: days after which a final request is deleted, 0 to 36,500; 0: kept"
    ),
    "COLUMN draft_settings.feedback_retention_days": (
        "operator: days after which feedback is deleted, 0 to 36,500; 0: kept"
    ),
    "COLUMN draft_settings.voice_learning": "operator: whether drafts learn from what their requester sent before",
    "COLUMN draft_settings.usd_per_day": (
        "operator: US dollars that the fleet may spend per UTC day, 0 to 1,000,000; null: no limit"
    ),
    "COLUMN draft_settings.schema_revision": "database: the newest migration's revision; every client may read it",
    "FUNCTION create_draft_request(jsonb)": (
        "For clients: inserts a request, or finds the earlier one of the same requester and idempotency_key. Takes the "
        "columns to set as JSON; returns {id, status, created}."
    ),
    "FUNCTION cancel_draft_request(uuid)": (
        "For clients: cancels an own pending or processing request; false if there is none."
    ),
    "FUNCTION draft_request_wait(uuid)": (
        "For clients: why an own pending request is not being drafted: {reason, ahead, until}; reason is turn, later, "
        "model, paused, budget, limit or no_worker. Null for a request the caller cannot see."
    ),
    "FUNCTION forget_draft_requester(text)": (
        "For backends with --trusted: deletes everything stored of a requester; usage stays without the name. Returns "
        "{requests, feedback, profiles, usage}: rows changed."
    ),
    "FUNCTION draftd_demand()": (
        "For autoscalers: requests being drafted and due ones that could be, 0 to 10,000; divide by the concurrency of "
        "one daemon."
    ),
    "FUNCTION draft_admit(text[], text[], integer, text)": (
        "For daemons: lets waiting requests run as far as their requesters' limits allow."
    ),
    "FUNCTION draft_apply_limits(text)": "For daemons: applies changed pauses and limits to pending requests.",
    "FUNCTION draft_forget_some(text, integer)": (
        "For the owner: forgets a requester, up to max_rows rows of each table in a call; null: all."
    ),
    "FUNCTION draft_agent_states()": (
        "For draftd: whether each agent can be drafted for: ok, probe, held, paused or no_key."
    ),
    "FUNCTION draft_request_wait_of(uuid, timestamptz)": (
        "For draftd: what draft_request_wait returns, for whoever knows when the request was created."
    ),
    "FUNCTION draft_requester_blocked_until(text)": (
        "For draftd: until when nothing may be drafted for a requester; infinity: until resumed; null: not blocked."
    ),
    "FUNCTION draft_requester_room(text)": (
        "For draftd: how many more of a requester's requests may run; null: any number."
    ),
    "FUNCTION draft_requester_waits(text, boolean)": (
        "For draftd: whether a new request of a requester must wait for its limits."
    ),
    "FUNCTION draft_pass_turnstile(text, text, boolean)": (
        "For draftd: refuses an INSERT beyond max_pending with PT429."
    ),
    "FUNCTION draft_next_requester(boolean, text)": (
        "For draftd: the next requester, by name, with requests that wait for its limits, or with claimable ones."
    ),
    "FUNCTION draft_set_limited(uuid[], boolean)": (
        "For draftd: makes pending requests wait for their requester's limits, or lets them run. Returns how many "
        "changed."
    ),
    "FUNCTION draft_requests_default_expiry(timestamptz)": (
        "For draftd: the expires_at of a request whose client sets none; null: never."
    ),
    "FUNCTION draft_requests_without_pictures(text[])": (
        "For draftd: image_urls with each data: URL replaced by sha256:… of its picture."
    ),
    "FUNCTION draft_text_similarity(text, text)": (
        "For draftd: similarity of two texts, 0 to 1, by their trigrams; 1 only if they are equal."
    ),
    "FUNCTION draft_current_requester()": (
        "For policies and defaults: whom the transaction acts for: the JWT's subject, or '' without one. draftd grants "
        "--identity replaces it."
    ),
    "FUNCTION draft_budget_changed()": "Trigger: tries requests that wait for the next day's budget again.",
    "FUNCTION draft_budgets()": "For daemons: what the day's budgets allow and what of them is spent, in US dollars.",
    "FUNCTION draft_budget_until(text, timestamptz)": (
        "For draftd: until when a requester's budget is used up, or the fleet's without a requester; null: it is not."
    ),
    "FUNCTION draft_budget_of(text)": "For draftd: a requester's budget in US dollars per UTC day; null: none.",
    "FUNCTION draft_charge_lost(timestamptz)": (
        "For daemons: charges the calls of dead workers by a guess. Returns how many."
    ),
    "FUNCTION draft_claim_room(text, text[], integer)": (
        "For daemons: how many requests may be claimed for a model with ceilings, and when to ask again, in seconds."
    ),
    "FUNCTION draft_fail_unpayable(text[], text, text, jsonb)": (
        "For daemons: fails pending requests that expire before the next day's budget. Returns their ids."
    ),
    "FUNCTION draft_model_room(text, bigint, timestamptz)": (
        "For draftd: what a model's ceilings leave: calls in flight, calls and tokens in the last minute."
    ),
    "FUNCTION draft_reserve_call(uuid, bigint, smallint, smallint, text, text, uuid, numeric, numeric, numeric, "
    "integer, bigint, float8, timestamptz)": (
        "For daemons: admits a model call, reserving what it may cost, or says why not: {refusal, wait_s, used}."
    ),
    "FUNCTION draft_release_call(uuid, bigint, smallint)": (
        "For daemons: gives back what was reserved for a call that was not made."
    ),
    "FUNCTION draft_reservation_guess(draft_reservations)": (
        "For draftd: what a call is charged in US dollars if its usage is not known."
    ),
    "FUNCTION draft_spending_add(date, text, numeric, numeric, numeric)": (
        "For draftd: adds to what a day's payers have spent and reserved, in US dollars."
    ),
    "FUNCTION draft_spending_begin(date)": "For draftd: starts to count a day's spending.",
    "FUNCTION draft_usage_settle()": "Trigger: charges a model call with its real cost.",
    "FUNCTION draft_requests_delete_in_turn()": "Trigger: lets the deletions of one requester wait for each other.",
    "FUNCTION draft_requests_delete_conversation()": "Trigger: deletes the rest of a deleted request's conversation.",
    "FUNCTION draft_feedback_check_visible()": "Trigger: refuses feedback on a request that its author cannot see.",
    "FUNCTION draft_requests_broadcast()": (
        "Trigger: tells a requester's private channel of Supabase Realtime that a request changed."
    ),
    "FUNCTION draft_settings_take_revision()": "Trigger: sets schema_revision to the newest migration's revision.",
    "FUNCTION draft_settings_follow_revision()": "Trigger: copies the revision of a migration to draft_settings.",
    "FUNCTION draft_nulls_are_defaults()": "Trigger: takes a null for the column's default.",
    "FUNCTION draft_requests_begin()": "Trigger: starts a request as pending and fills in what the client left out.",
    "FUNCTION draft_requests_check_shape()": "Trigger: refuses a request with invalid values.",
    "FUNCTION draft_requests_take_turn()": "Trigger: gives a pending request its place in the fair order.",
    "FUNCTION draft_requests_finish()": "Trigger: sets the times of a request that ends, and drops its pictures.",
    "FUNCTION draft_requests_requeue()": "Trigger: clears the lease of a request that returns to pending.",
    "FUNCTION draft_requests_forget_pictures()": "Trigger: deletes the prepared pictures of a request that ends.",
    "FUNCTION draft_requests_ring()": "Trigger: notifies the daemons on the channel draft_requests.",
    "FUNCTION draft_requests_announce()": "Trigger: notifies clients on the channel draft_results.",
    "FUNCTION draft_requests_guard()": (
        "Trigger: lets a role that is neither owner nor worker only cancel, and delete its own finished requests."
    ),
    "FUNCTION draft_limits_changed()": "Trigger: notifies the daemons of changed pauses and limits.",
    "FUNCTION draft_feedback_begin()": "Trigger: copies what feedback needs from its request.",
    "FUNCTION draft_feedback_compare()": "Trigger: compares the sent text with the draft, and makes scores due.",
    "FUNCTION draft_profiles_check()": "Trigger: refuses a profile with invalid values.",
    "VIEW draft_replies": (
        "Requests as their client may see them, for tools that send SELECT *. The caller's own rights decide which rows."
    ),
    "DOMAIN draft_worker": (
        "A mark: a role with USAGE may write draft_requests as a daemon does (draftd grants --worker)."
    ),
    "DOMAIN draft_trusted": "A mark: a role with USAGE may call forget_draft_requester (draftd grants --trusted).",
    "TABLE draftd_alembic_version": "The revision of draftd's newest migration. Written by draftd migrate.",
    "COLUMN draftd_alembic_version.version_num": "draftd: the revision",
}

COLUMNS_OF_REPLIES = (
    "id",
    "requester_id",
    "agent",
    "status",
    "context",
    "options",
    "parent_id",
    "idempotency_key",
    "expires_at",
    "metadata",
    "traceparent",
    "partial_result",
    "result",
    "error_code",
    "error_message",
    "error_details",
    "attempt",
    "created_at",
    "claimed_at",
    "finished_at",
    "updated_at",
)
TEXTS |= {f"COLUMN draft_replies.{name}": TEXTS[f"COLUMN draft_requests.{name}"] for name in COLUMNS_OF_REPLIES}

# What earlier migrations said.
BEFORE = {
    "COLUMN draft_requests.reading": "the messages that mattered, verbatim, for a refinement",
    "COLUMN draft_requests.given_back": "how often a hold gave the attempt back",
    "COLUMN draft_requests.traceparent": "the client's trace, in W3C's form",
    "COLUMN draft_requests.limited": "waits, while pending, until its requester may have another one drafted",
    "COLUMN draft_requests.first_option_at": "when the first option was published; null if none was before the end",
    "COLUMN draft_pictures.position": "of the entry in image_urls, from 1",
    "COLUMN draft_pictures.url_sha256": "of that entry as it was when it was fetched",
    "COLUMN draft_pictures.facts": "what is known of the picture, and the sizes of its parts",
    "COLUMN draft_pictures.data": "its parts as the model sees them, one after the other",
    "COLUMN draft_workers.agents": "whose prompts it has",
    "COLUMN draft_workers.beat_s": "seconds between two of its heartbeats",
    "COLUMN draft_workers.attempt_s": "the longest attempt, in seconds",
    "COLUMN draft_workers.models": "by agent and model, whether it can call it",
    "COLUMN draft_agents.model": "by name, see draft_models",
    "COLUMN draft_models.model": "the litellm name; null: the name itself",
    "COLUMN draft_models.api_key_env": "the variable that holds the key, at the daemons",
    "COLUMN draft_models.cached_input_usd_per_mtok": "of input from the provider's cache; null: as other input",
    "COLUMN draft_models.rpm": "calls that the fleet may begin in any 60 s; null: any number",
    "COLUMN draft_models.tpm": "tokens that the fleet may use in any 60 s; null: any number",
    "COLUMN draft_models.max_in_flight": "calls that the fleet may have in flight; null: any number",
    "COLUMN draft_holds.failures": "in a row; the pause doubles with each",
    "COLUMN draft_holds.probing": "whether a probe is under way; only the end of one doubles the pause",
    "COLUMN draft_holds.used_at": "when a daemon that uses the model last said so",
    "COLUMN draft_throttles.share": "of its concurrency that each daemon may use, as of changed_at",
    "COLUMN draft_throttles.bursts": "of rate limits in a row without a success",
    "COLUMN draft_usage.call": "which model call of the attempt, from 1",
    "COLUMN draft_usage.code": "null when the call was answered, else its error",
    "COLUMN draft_usage.cached_tokens": "of input_tokens, those from the provider's cache; null: unknown",
    "COLUMN draft_feedback.similarity": "of drafted_text and sent_text, 0 to 1; 1: equal but for space around them",
    "COLUMN draft_feedback.score_at": "when its scores are due at Langfuse; null: nothing is left to send",
    "TABLE draft_profiles": "what is true of a requester, whatever the request; the request's own options come first",
    "COLUMN draft_profiles.me": "as options.me; 200 characters",
    "COLUMN draft_profiles.about": "who the requester is, in a few sentences; 2,000 characters",
    "COLUMN draft_profiles.facts": "up to 200 true statements of up to 500 characters",
    "COLUMN draft_profiles.signature": "closes mails; 500 characters",
    "COLUMN draft_profiles.voice_samples": "up to 10 texts by the requester, of up to 2,000 characters",
    "COLUMN draft_profiles.reader_language": "as options.reader_language: a tag such as en or pt-BR",
    "COLUMN draft_settings.id": "always true: there is one row",
    "COLUMN draft_settings.default_expiry_s": "from available_at to the expires_at that a client left null; 0: never",
    "COLUMN draft_settings.retention_days": "final requests older than this are deleted; 0: they are kept",
    "COLUMN draft_settings.feedback_retention_days": "feedback older than this is deleted; 0: it is kept",
    "COLUMN draft_settings.voice_learning": "whether drafts learn from what their requester really sent before",
    "COLUMN draft_settings.usd_per_day": "the fleet's budget for a day in UTC; null: none",
    "COLUMN draft_settings.schema_revision": "of the newest migration; every client may read it",
    "COLUMN draft_pauses.name": "of the model or the requester; empty for all",
    "COLUMN draft_limits.requester_id": "*: everybody without a row of their own",
    "COLUMN draft_limits.max_pending": "beyond which an INSERT is refused; null: no limit, as in the other columns",
    "COLUMN draft_limits.max_in_flight": "requests of the requester that may be drafted at the same time",
    "TABLE draft_turnstiles": "inserts of a requester with a max_pending pass one transaction at a time",
    "COLUMN draft_turnstiles.at_most": "no more than this many of the requester's requests are unfinished",
    "COLUMN draft_reservations.send": "which HTTP request of the call, from 1: a provider may refuse its form",
    "COLUMN draft_reservations.requester_id": "null: the requester has been forgotten",
    "COLUMN draft_reservations.day": "the UTC day whose budgets it counts against; null: no budget was set",
    "COLUMN draft_reservations.usd": "the most that the call can cost",
    "COLUMN draft_reservations.prompt_usd": "what its prompt is expected to cost",
    "COLUMN draft_reservations.output_usd": "what output_tokens cost",
    "COLUMN draft_reservations.output_tokens": "the limit of the answer",
    "COLUMN draft_reservations.estimate": "tokens, as expected before the call",
    "COLUMN draft_reservations.ends_at": "when the call is over, whatever became of its worker",
    "COLUMN draft_reservations.guessed": "charged without usage, which may still arrive",
    "COLUMN draft_reservations.charged_usd": "what was charged in the end",
    "COLUMN draft_reservations.tokens": "as the provider counted them",
    "COLUMN draft_spending.day": "in UTC",
    "COLUMN draft_spending.reserved": "for calls whose cost is not known yet",
    "COLUMN draft_spending.calls": "admitted",
    "COLUMN draft_spending.asked": "the sum of what they reserved",
    "COLUMN draft_spending.refused": "the smallest reservation that the rest of the day's budget could not hold",
    "VIEW draft_replies": "of each request that the caller may see, what a client is meant to read",
    "FUNCTION draft_current_requester()": "the requester that the caller acts for: the subject of its JWT, or empty",
    "DOMAIN draft_worker": "a role with USAGE may write draft_requests as a daemon does",
    "DOMAIN draft_trusted": "a role with USAGE may call forget_draft_requester",
}


def upgrade() -> None:
    op.execute(comment_on(TEXTS))


def downgrade() -> None:
    op.execute(comment_on({one: BEFORE.get(one) for one in TEXTS}))
