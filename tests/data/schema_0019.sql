-- What `pg_dump --schema-only` says of a database that the migrations 0001 to 0019 made one by one, before they were squashed.

CREATE DOMAIN public.draft_worker AS text;

COMMENT ON DOMAIN public.draft_worker IS 'a role with USAGE may write draft_requests as a daemon does';

CREATE FUNCTION public.cancel_draft_request(id uuid) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
    WITH cancelled AS (
        UPDATE draft_requests AS r SET status = 'cancelled'
         WHERE r.id = $1 AND r.status IN ('pending', 'processing')
        RETURNING r.id)
    SELECT EXISTS (SELECT FROM cancelled);
$_$;

CREATE FUNCTION public.create_draft_request(request jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    unknown text;
    given text;
    found_id uuid;
    found_status text;
BEGIN
    IF jsonb_typeof(request) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'create_draft_request: the request is a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO unknown FROM jsonb_object_keys(request) AS k
     WHERE k NOT IN ('id', 'requester_id', 'agent', 'image_urls', 'context', 'options', 'parent_id', 'priority',
                     'available_at', 'expires_at', 'idempotency_key', 'max_attempts', 'metadata', 'traceparent');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'create_draft_request: unknown key: %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(request -> 'image_urls') NOT IN ('array', 'null') THEN
        RAISE EXCEPTION 'create_draft_request: image_urls is a list' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(string_agg(quote_ident(key), ', '), 'image_urls') INTO given
      FROM jsonb_each(request) WHERE value <> 'null';
    EXECUTE format('INSERT INTO draft_requests AS r (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::draft_requests, $1) '
                   'ON CONFLICT (requester_id, idempotency_key) DO NOTHING RETURNING r.id, r.status', given)
       INTO found_id, found_status USING request;
    IF found_id IS NOT NULL THEN
        RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', true);
    END IF;
    SELECT r.id, r.status INTO STRICT found_id, found_status FROM draft_requests AS r
     WHERE r.requester_id = coalesce(request ->> 'requester_id', '')
       AND r.idempotency_key = request ->> 'idempotency_key';
    RETURN jsonb_build_object('id', found_id, 'status', found_status, 'created', false);
END $_$;

CREATE FUNCTION public.draft_feedback_begin() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    rated record;
BEGIN
    SELECT r.requester_id, coalesce(r.result, r.partial_result) AS result INTO rated
      FROM draft_requests AS r WHERE r.id = NEW.request_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'draft_feedback: request_id is no request' USING ERRCODE = 'foreign_key_violation';
    END IF;
    NEW.requester_id := rated.requester_id;
    NEW.platform := rated.result ->> 'platform';
    NEW.author := rated.result #>> '{replying_to,author}';
    NEW.drafted_text := jsonb_path_query_first(rated.result, '$.options[*] ? (@.length == $length).text',
                                               jsonb_build_object('length', NEW.option)) #>> '{}';
    NEW.created_at := now();
    RETURN NEW;
END $_$;

CREATE FUNCTION public.draft_nulls_are_defaults() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    fields text;
BEGIN
    SELECT string_agg(CASE WHEN a.attnotnull AND a.attgenerated = '' AND d.adbin IS NOT NULL
                                AND (TG_NARGS = 0 OR a.attname = ANY (TG_ARGV))
                           THEN format('coalesce(($1).%I, (%s)::%s)', a.attname, pg_get_expr(d.adbin, d.adrelid),
                                       format_type(a.atttypid, a.atttypmod))
                           ELSE format('($1).%I', a.attname) END, ', ' ORDER BY a.attnum)
      INTO fields
      FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped;
    EXECUTE 'SELECT ' || fields INTO NEW USING NEW;
    RETURN NEW;
END $_$;

CREATE FUNCTION public.draft_requests_announce() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    options jsonb := coalesce(NEW.result, NEW.partial_result) -> 'options';
BEGIN
    PERFORM pg_notify('draft_results', jsonb_build_object(
        'id', NEW.id, 'status', NEW.status,
        'options_ready', CASE WHEN jsonb_typeof(options) = 'array' THEN jsonb_array_length(options) ELSE 0 END)::text);
    RETURN NULL;
END $$;

CREATE FUNCTION public.draft_requests_begin() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.lease_token <> 0 OR NEW.result IS NOT NULL
       OR NEW.lease_until IS NOT NULL OR NEW.worker_id IS NOT NULL OR NEW.finished_at IS NOT NULL THEN
        RAISE EXCEPTION 'draft_requests: a new request is pending; status, attempt, lease and result are written by draftd'
            USING ERRCODE = 'check_violation';
    END IF;
    NEW.id := coalesce(NEW.id, gen_random_uuid());
    NEW.requester_id := coalesce(NEW.requester_id, '');
    NEW.agent := coalesce(NEW.agent, 'comment_generator');
    NEW.image_urls := coalesce(NEW.image_urls, '{}');
    NEW.options := coalesce(NEW.options, '{}');
    NEW.priority := coalesce(NEW.priority, 0);
    NEW.available_at := coalesce(NEW.available_at, now());
    NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));
    NEW.max_attempts := coalesce(NEW.max_attempts, 5);
    NEW.metadata := coalesce(NEW.metadata, '{}');
    NEW.status := 'pending';
    NEW.attempt := 0;
    NEW.lease_token := 0;
    NEW.given_back := 0;
    NEW.errors := '[]';
    NEW.deadline_at := NULL;
    NEW.claimed_at := NULL;
    NEW.partial_result := NULL;
    NEW.reading := NULL;
    NEW.error_code := NULL;
    NEW.error_message := NULL;
    NEW.error_details := NULL;
    NEW.images := NULL;
    NEW.model := NULL;
    NEW.prompt_version := NULL;
    NEW.input_tokens := NULL;
    NEW.output_tokens := NULL;
    NEW.cost_usd := NULL;
    NEW.trace_id := NULL;
    NEW.created_at := now();
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE FUNCTION public.draft_requests_check_shape() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    option_keys CONSTANT text[] := '{tone,language,reader_language,me,voice_samples,max_chars}';
    unknown jsonb;
    entry text;
BEGIN
    IF NEW.image_urls IS DISTINCT FROM OLD.image_urls OR NEW.parent_id IS DISTINCT FROM OLD.parent_id THEN
        IF NEW.parent_id IS NULL AND cardinality(NEW.image_urls) NOT BETWEEN 1 AND 8 THEN
            RAISE EXCEPTION 'draft_requests: image_urls takes 1 to 8 entries, not %', cardinality(NEW.image_urls)
                USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.parent_id IS NOT NULL AND cardinality(NEW.image_urls) > 0 THEN
            RAISE EXCEPTION 'draft_requests: a refinement (parent_id) takes no image_urls'
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NEW.parent_id IS NOT NULL
       AND (NEW.parent_id IS DISTINCT FROM OLD.parent_id OR NEW.requester_id IS DISTINCT FROM OLD.requester_id) THEN
        IF NOT EXISTS (
            SELECT FROM draft_requests AS p WHERE p.id = NEW.parent_id AND p.requester_id = NEW.requester_id) THEN
            RAISE EXCEPTION 'draft_requests: parent_id is no earlier request of this requester'
                USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    IF NEW.image_urls IS DISTINCT FROM OLD.image_urls THEN
        IF coalesce(array_ndims(NEW.image_urls), 1) > 1 THEN
            RAISE EXCEPTION 'draft_requests: image_urls takes a flat list' USING ERRCODE = 'check_violation';
        END IF;
        IF (SELECT sum(octet_length(u)) FROM unnest(NEW.image_urls) AS u) > 24 * 1024 * 1024 THEN
            RAISE EXCEPTION 'draft_requests: image_urls holds more than 24 MiB' USING ERRCODE = 'check_violation';
        END IF;
        FOREACH entry IN ARRAY NEW.image_urls LOOP
            -- The entry itself stays out of the message: its path or query may be a secret.
            IF entry IS NULL OR left(entry, 200) !~* '^(https?://[^[:space:]]|data:image/[a-z0-9.+-]+;base64,)' THEN
                RAISE EXCEPTION 'draft_requests: each entry of image_urls begins with https://, http:// or data:image/…;base64,'
                    USING ERRCODE = 'check_violation';
            END IF;
            IF left(entry, 5) !~* '^data:' AND length(entry) > 8192 THEN
                RAISE EXCEPTION 'draft_requests: an image URL has at most 8,192 characters'
                    USING ERRCODE = 'check_violation';
            END IF;
        END LOOP;
    END IF;
    IF NEW.context IS DISTINCT FROM OLD.context AND length(NEW.context) > 8000 THEN
        RAISE EXCEPTION 'draft_requests: context has at most 8,000 characters, not %', length(NEW.context)
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.options IS DISTINCT FROM OLD.options OR NEW.metadata IS DISTINCT FROM OLD.metadata THEN
        IF jsonb_typeof(NEW.options) <> 'object' OR jsonb_typeof(NEW.metadata) <> 'object' THEN
            RAISE EXCEPTION 'draft_requests: options and metadata are JSON objects' USING ERRCODE = 'check_violation';
        END IF;
        IF pg_column_size(NEW.options) > 262144 OR pg_column_size(NEW.metadata) > 262144 THEN
            RAISE EXCEPTION 'draft_requests: options and metadata hold at most 256 KiB each'
                USING ERRCODE = 'check_violation';
        END IF;
        unknown := NEW.options - option_keys;
        IF unknown <> '{}' THEN
            RAISE EXCEPTION 'draft_requests: options: unknown key %',
                (SELECT quote_literal(left(k, 100)) FROM jsonb_object_keys(unknown) AS k LIMIT 1)
                USING ERRCODE = 'check_violation', HINT = format('Known are %s.', array_to_string(option_keys, ', '));
        END IF;
    END IF;
    IF NEW.priority IS DISTINCT FROM OLD.priority AND NEW.priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION 'draft_requests: priority is -100 to 100, not %', NEW.priority USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.max_attempts IS DISTINCT FROM OLD.max_attempts AND NEW.max_attempts NOT BETWEEN 1 AND 10 THEN
        RAISE EXCEPTION 'draft_requests: max_attempts is 1 to 10, not %', NEW.max_attempts
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.requester_id IS DISTINCT FROM OLD.requester_id AND length(NEW.requester_id) > 256
       OR NEW.agent IS DISTINCT FROM OLD.agent AND length(NEW.agent) > 256
       OR NEW.idempotency_key IS DISTINCT FROM OLD.idempotency_key AND length(NEW.idempotency_key) > 256 THEN
        RAISE EXCEPTION 'draft_requests: requester_id, agent and idempotency_key have at most 256 characters'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.traceparent IS DISTINCT FROM OLD.traceparent
       AND NEW.traceparent !~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$' THEN
        RAISE EXCEPTION 'draft_requests: traceparent is not a W3C trace context (00-<32 hex>-<16 hex>-<2 hex>)'
            USING ERRCODE = 'check_violation';
    END IF;
    -- Workers of the last day and not only those alive: an agent stays known while its daemons restart. Where there are none,
    -- nobody can say what is unknown.
    IF NEW.agent IS DISTINCT FROM OLD.agent
       AND NOT (SELECT bool_or(known.agent = NEW.agent) FROM draft_workers AS w, unnest(w.agents) AS known(agent)
                 WHERE w.heartbeat_at > now() - interval '1 day') THEN
        RAISE EXCEPTION 'draft_requests: no daemon has a prompt for the agent %', quote_literal(left(NEW.agent, 100))
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.available_at IS DISTINCT FROM OLD.available_at AND NOT isfinite(NEW.available_at)
       OR NEW.expires_at IS DISTINCT FROM OLD.expires_at AND NOT isfinite(NEW.expires_at) THEN
        RAISE EXCEPTION 'draft_requests: available_at and expires_at are moments, not infinity'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $_$;

CREATE FUNCTION public.draft_requests_default_expiry(available_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $_$
    SELECT least($1, timestamptz '290000-01-01 00:00+00') + make_interval(secs => s.default_expiry_s)
      FROM draft_settings AS s WHERE s.default_expiry_s > 0;
$_$;

CREATE FUNCTION public.draft_requests_finish() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF OLD.status NOT IN ('pending', 'processing') THEN
        RAISE EXCEPTION 'draft_requests: this request is % already', OLD.status USING ERRCODE = 'check_violation';
    END IF;
    NEW.finished_at := now();
    NEW.updated_at := now();
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    IF EXISTS (SELECT FROM unnest(NEW.image_urls) AS u WHERE u ILIKE 'data:%') THEN
        NEW.image_urls := draft_requests_without_pictures(NEW.image_urls);
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.draft_requests_forget_pictures() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM draft_pictures WHERE request_id = NEW.id;
    RETURN NULL;
END $$;

CREATE FUNCTION public.draft_requests_guard() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    otherwise record;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status = 'cancelled' AND OLD.status IN ('pending', 'processing') THEN
        otherwise := NEW;
        otherwise.status := OLD.status;
        IF otherwise IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'draft_requests: the role % may cancel a request that is pending or processing, and change nothing else',
        quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege', HINT = 'A role for daemons is made with draftd grants --worker.';
END $$;

CREATE FUNCTION public.draft_requests_requeue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    NEW.expires_at := coalesce(NEW.expires_at, draft_requests_default_expiry(NEW.available_at));
    NEW.lease_until := NULL;
    NEW.deadline_at := NULL;
    NEW.finished_at := NULL;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE FUNCTION public.draft_requests_ring() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_notify('draft_requests', '');
    RETURN NULL;
END $$;

CREATE FUNCTION public.draft_requests_take_turn() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    front bigint;
    mine bigint;
BEGIN
    SELECT r.turn INTO front FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority
     ORDER BY r.turn LIMIT 1;
    -- A row that comes back from an attempt has waited its turn before: it goes to the front, not behind its requester's others.
    IF TG_OP = 'UPDATE' AND OLD.status = 'processing' THEN
        NEW.turn := greatest(OLD.turn, coalesce(front, OLD.turn));
        RETURN NEW;
    END IF;
    SELECT r.turn INTO mine FROM draft_requests AS r
     WHERE r.status = 'pending' AND r.agent = NEW.agent AND r.priority = NEW.priority AND r.requester_id = NEW.requester_id
       AND r.requester_id >= ''
     ORDER BY r.turn DESC LIMIT 1;
    NEW.turn := greatest(coalesce(CASE WHEN mine < 9223372036854775807 THEN mine + 1 ELSE mine END, front, 0), coalesce(front, 0));
    RETURN NEW;
END $$;

CREATE FUNCTION public.draft_requests_without_pictures(image_urls text[]) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    entry text;
    kept text[] := '{}';
    picture bytea;
BEGIN
    FOREACH entry IN ARRAY image_urls LOOP
        IF entry ILIKE 'data:%' THEN
            BEGIN
                picture := decode(substr(entry, position(',' IN entry) + 1), 'base64');
            EXCEPTION WHEN data_exception THEN
                picture := convert_to(entry, 'UTF8');
            END;
            entry := 'sha256:' || encode(sha256(picture), 'hex');
        END IF;
        kept := kept || entry;
    END LOOP;
    RETURN kept;
END $$;

CREATE TABLE public.draft_agents (
    agent text NOT NULL,
    model text NOT NULL,
    fallback_models text[] DEFAULT '{}'::text[] NOT NULL,
    params jsonb DEFAULT '{}'::jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.draft_agents.model IS 'by name, see draft_models';

CREATE TABLE public.draft_feedback (
    id bigint NOT NULL,
    request_id uuid,
    option text,
    sent_text text,
    rating smallint,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    requester_id text DEFAULT ''::text NOT NULL,
    outcome text,
    platform text,
    author text,
    drafted_text text,
    CONSTRAINT draft_feedback_option_check CHECK ((option = ANY (ARRAY['short'::text, 'medium'::text, 'detailed'::text]))),
    CONSTRAINT draft_feedback_outcome_check CHECK ((outcome = ANY (ARRAY['sent'::text, 'edited'::text, 'rejected'::text]))),
    CONSTRAINT draft_feedback_rating_check CHECK ((rating = ANY (ARRAY['-1'::integer, 1])))
);

ALTER TABLE public.draft_feedback ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.draft_feedback_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.draft_holds (
    model text NOT NULL,
    code text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    until timestamp with time zone DEFAULT now() NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    failures integer DEFAULT 1 NOT NULL,
    probing boolean DEFAULT false NOT NULL,
    used_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.draft_holds.failures IS 'in a row; the pause doubles with each';

COMMENT ON COLUMN public.draft_holds.probing IS 'whether a probe is under way; only the end of one doubles the pause';

COMMENT ON COLUMN public.draft_holds.used_at IS 'when a daemon that uses the model last said so';

CREATE TABLE public.draft_models (
    name text NOT NULL,
    model text,
    api_base text,
    api_key_env text,
    params jsonb DEFAULT '{}'::jsonb NOT NULL,
    input_usd_per_mtok numeric,
    output_usd_per_mtok numeric,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT draft_models_input_usd_per_mtok_check CHECK (((input_usd_per_mtok >= (0)::numeric) AND (input_usd_per_mtok <= (10000)::numeric))),
    CONSTRAINT draft_models_output_usd_per_mtok_check CHECK (((output_usd_per_mtok >= (0)::numeric) AND (output_usd_per_mtok <= (10000)::numeric))),
    CONSTRAINT draft_models_prices_check CHECK (((input_usd_per_mtok IS NULL) = (output_usd_per_mtok IS NULL)))
);

COMMENT ON COLUMN public.draft_models.model IS 'the litellm name; null: the name itself';

COMMENT ON COLUMN public.draft_models.api_key_env IS 'the variable that holds the key, at the daemons';

CREATE TABLE public.draft_pictures (
    request_id uuid NOT NULL,
    "position" smallint NOT NULL,
    url_sha256 bytea NOT NULL,
    facts jsonb NOT NULL,
    data bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0', toast.autovacuum_vacuum_scale_factor='0.01', toast.autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.draft_pictures ALTER COLUMN data SET STORAGE EXTERNAL;

COMMENT ON COLUMN public.draft_pictures."position" IS 'of the entry in image_urls, from 1';

COMMENT ON COLUMN public.draft_pictures.url_sha256 IS 'of that entry as it was when it was fetched';

COMMENT ON COLUMN public.draft_pictures.facts IS 'what is known of the picture, and the sizes of its parts';

COMMENT ON COLUMN public.draft_pictures.data IS 'its parts as the model sees them, one after the other';

CREATE TABLE public.draft_profiles (
    requester_id text NOT NULL,
    me text,
    about text,
    facts text[] DEFAULT '{}'::text[] NOT NULL,
    signature text,
    voice_samples text[] DEFAULT '{}'::text[] NOT NULL,
    reader_language text
);

CREATE TABLE public.draft_requests (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    requester_id text DEFAULT ''::text NOT NULL,
    agent text DEFAULT 'comment_generator'::text NOT NULL,
    image_urls text[] DEFAULT '{}'::text[] NOT NULL,
    context text,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    parent_id uuid,
    priority smallint DEFAULT 0 NOT NULL,
    available_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    idempotency_key text,
    max_attempts smallint DEFAULT 5 NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    attempt smallint DEFAULT 0 NOT NULL,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    deadline_at timestamp with time zone,
    worker_id uuid,
    turn bigint DEFAULT 0 NOT NULL,
    partial_result jsonb,
    result jsonb,
    reading jsonb,
    error_code text,
    error_message text,
    errors jsonb DEFAULT '[]'::jsonb NOT NULL,
    images jsonb,
    model text,
    prompt_version text,
    input_tokens integer,
    output_tokens integer,
    cost_usd numeric(12,6),
    trace_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    claimed_at timestamp with time zone,
    finished_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    given_back smallint DEFAULT 0 NOT NULL,
    traceparent text,
    error_details jsonb,
    CONSTRAINT draft_requests_result_check CHECK (((status = 'completed'::text) = (result IS NOT NULL))),
    CONSTRAINT draft_requests_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='85', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_analyze_scale_factor='0.02', autovacuum_vacuum_cost_delay='0', toast.autovacuum_vacuum_scale_factor='0.01', toast.autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.draft_requests ALTER COLUMN image_urls SET STORAGE EXTERNAL;

COMMENT ON COLUMN public.draft_requests.reading IS 'the messages that mattered, verbatim, for a refinement';

COMMENT ON COLUMN public.draft_requests.given_back IS 'how often a hold gave the attempt back';

COMMENT ON COLUMN public.draft_requests.traceparent IS 'the client''s trace, in W3C''s form';

CREATE TABLE public.draft_settings (
    id boolean DEFAULT true NOT NULL,
    default_expiry_s integer DEFAULT 21600 NOT NULL,
    retention_days integer DEFAULT 0 NOT NULL,
    feedback_retention_days integer DEFAULT 0 NOT NULL,
    CONSTRAINT draft_settings_default_expiry_s_check CHECK (((default_expiry_s >= 0) AND (default_expiry_s <= 315360000))),
    CONSTRAINT draft_settings_feedback_retention_days_check CHECK (((feedback_retention_days >= 0) AND (feedback_retention_days <= 36500))),
    CONSTRAINT draft_settings_id_check CHECK (id),
    CONSTRAINT draft_settings_retention_days_check CHECK (((retention_days >= 0) AND (retention_days <= 36500)))
);

COMMENT ON COLUMN public.draft_settings.id IS 'always true: there is one row';

COMMENT ON COLUMN public.draft_settings.default_expiry_s IS 'from available_at to the expires_at that a client left null; 0: never';

COMMENT ON COLUMN public.draft_settings.retention_days IS 'final requests older than this are deleted; 0: they are kept';

COMMENT ON COLUMN public.draft_settings.feedback_retention_days IS 'feedback older than this is deleted; 0: it is kept';

CREATE TABLE public.draft_throttles (
    model text NOT NULL,
    share real DEFAULT 0.5 NOT NULL,
    bursts integer DEFAULT 1 NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.draft_throttles.share IS 'of its concurrency that each daemon may use, as of changed_at';

COMMENT ON COLUMN public.draft_throttles.bursts IS 'of rate limits in a row without a success';

CREATE TABLE public.draft_usage (
    id bigint NOT NULL,
    request_id uuid NOT NULL,
    requester_id text NOT NULL,
    attempt smallint NOT NULL,
    lease_token bigint NOT NULL,
    call smallint NOT NULL,
    model text NOT NULL,
    code text,
    input_tokens integer,
    output_tokens integer,
    cost_usd numeric(12,6),
    elapsed_s numeric(10,3),
    trace_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.draft_usage.call IS 'which model call of the attempt, from 1';

COMMENT ON COLUMN public.draft_usage.code IS 'null when the call was answered, else its error';

ALTER TABLE public.draft_usage ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.draft_usage_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.draft_workers (
    id uuid NOT NULL,
    hostname text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    state text NOT NULL,
    agents text[] DEFAULT '{}'::text[] NOT NULL,
    concurrency integer NOT NULL,
    in_flight integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT now() NOT NULL,
    beat_s real DEFAULT 4 NOT NULL,
    attempt_s real,
    CONSTRAINT draft_workers_state_check CHECK ((state = ANY (ARRAY['running'::text, 'draining'::text, 'stopped'::text])))
)
WITH (fillfactor='50');

COMMENT ON COLUMN public.draft_workers.agents IS 'whose prompts it has';

COMMENT ON COLUMN public.draft_workers.beat_s IS 'seconds between two of its heartbeats';

COMMENT ON COLUMN public.draft_workers.attempt_s IS 'the longest attempt, in seconds';

CREATE TABLE public.draftd_alembic_version (
    version_num character varying(32) NOT NULL
);

ALTER TABLE ONLY public.draft_agents
    ADD CONSTRAINT draft_agents_pkey PRIMARY KEY (agent);

ALTER TABLE ONLY public.draft_feedback
    ADD CONSTRAINT draft_feedback_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.draft_holds
    ADD CONSTRAINT draft_holds_pkey PRIMARY KEY (model);

ALTER TABLE ONLY public.draft_models
    ADD CONSTRAINT draft_models_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.draft_pictures
    ADD CONSTRAINT draft_pictures_pkey PRIMARY KEY (request_id, "position");

ALTER TABLE ONLY public.draft_profiles
    ADD CONSTRAINT draft_profiles_pkey PRIMARY KEY (requester_id);

ALTER TABLE ONLY public.draft_requests
    ADD CONSTRAINT draft_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.draft_requests
    ADD CONSTRAINT draft_requests_requester_id_idempotency_key_key UNIQUE (requester_id, idempotency_key);

ALTER TABLE ONLY public.draft_settings
    ADD CONSTRAINT draft_settings_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.draft_throttles
    ADD CONSTRAINT draft_throttles_pkey PRIMARY KEY (model);

ALTER TABLE ONLY public.draft_usage
    ADD CONSTRAINT draft_usage_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.draft_usage
    ADD CONSTRAINT draft_usage_request_id_lease_token_call_key UNIQUE (request_id, lease_token, call);

ALTER TABLE ONLY public.draft_workers
    ADD CONSTRAINT draft_workers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.draftd_alembic_version
    ADD CONSTRAINT draftd_alembic_version_pkc PRIMARY KEY (version_num);

CREATE INDEX draft_feedback_created_at_idx ON public.draft_feedback USING btree (created_at);

CREATE INDEX draft_feedback_request_id_idx ON public.draft_feedback USING btree (request_id);

CREATE INDEX draft_requests_claim_idx ON public.draft_requests USING btree (agent, priority DESC, turn, available_at, id) WHERE (status = 'pending'::text);

CREATE INDEX draft_requests_created_at_idx ON public.draft_requests USING btree (created_at);

CREATE INDEX draft_requests_expires_at_idx ON public.draft_requests USING btree (expires_at) WHERE ((status = 'pending'::text) AND (expires_at IS NOT NULL));

CREATE INDEX draft_requests_processing_idx ON public.draft_requests USING btree (deadline_at) WHERE (status = 'processing'::text);

CREATE INDEX draft_requests_turn_idx ON public.draft_requests USING btree (agent, priority, requester_id, turn DESC) WHERE ((status = 'pending'::text) AND (requester_id >= ''::text));

CREATE INDEX draft_usage_answered_idx ON public.draft_usage USING btree (model, created_at) WHERE (code IS NULL);

CREATE TRIGGER "00_draft_requests_guard" BEFORE DELETE OR UPDATE ON public.draft_requests FOR EACH ROW WHEN ((NOT has_type_privilege(('public.draft_worker'::regtype)::oid, 'USAGE'::text))) EXECUTE FUNCTION public.draft_requests_guard();

CREATE TRIGGER "00_draft_requests_guard_truncate" BEFORE TRUNCATE ON public.draft_requests FOR EACH STATEMENT WHEN ((NOT has_type_privilege(('public.draft_worker'::regtype)::oid, 'USAGE'::text))) EXECUTE FUNCTION public.draft_requests_guard();

CREATE TRIGGER draft_agents_05_defaults BEFORE INSERT OR UPDATE ON public.draft_agents FOR EACH ROW EXECUTE FUNCTION public.draft_nulls_are_defaults();

CREATE TRIGGER draft_feedback_05_defaults BEFORE INSERT OR UPDATE ON public.draft_feedback FOR EACH ROW EXECUTE FUNCTION public.draft_nulls_are_defaults();

CREATE TRIGGER draft_feedback_10_begin BEFORE INSERT ON public.draft_feedback FOR EACH ROW EXECUTE FUNCTION public.draft_feedback_begin();

CREATE TRIGGER draft_models_05_defaults BEFORE INSERT OR UPDATE ON public.draft_models FOR EACH ROW EXECUTE FUNCTION public.draft_nulls_are_defaults();

CREATE TRIGGER draft_profiles_05_defaults BEFORE INSERT OR UPDATE ON public.draft_profiles FOR EACH ROW EXECUTE FUNCTION public.draft_nulls_are_defaults();

CREATE TRIGGER draft_requests_05_begin BEFORE INSERT ON public.draft_requests FOR EACH ROW EXECUTE FUNCTION public.draft_requests_begin();

CREATE TRIGGER draft_requests_05_defaults BEFORE UPDATE OF requester_id, agent, image_urls, options, priority, available_at, max_attempts, metadata ON public.draft_requests FOR EACH ROW WHEN (((new.requester_id IS NULL) OR (new.agent IS NULL) OR (new.image_urls IS NULL) OR (new.options IS NULL) OR (new.priority IS NULL) OR (new.available_at IS NULL) OR (new.max_attempts IS NULL) OR (new.metadata IS NULL))) EXECUTE FUNCTION public.draft_nulls_are_defaults('requester_id', 'agent', 'image_urls', 'options', 'priority', 'available_at', 'max_attempts', 'metadata');

CREATE TRIGGER draft_requests_10_check_changed_moments BEFORE UPDATE OF available_at, expires_at ON public.draft_requests FOR EACH ROW WHEN (((NOT isfinite(new.available_at)) OR (NOT isfinite(new.expires_at)))) EXECUTE FUNCTION public.draft_requests_check_shape();

CREATE TRIGGER draft_requests_10_check_changed_shape BEFORE UPDATE OF image_urls, context, options, metadata, parent_id, requester_id, agent, idempotency_key, max_attempts, priority, traceparent ON public.draft_requests FOR EACH ROW EXECUTE FUNCTION public.draft_requests_check_shape();

CREATE TRIGGER draft_requests_10_check_shape BEFORE INSERT ON public.draft_requests FOR EACH ROW EXECUTE FUNCTION public.draft_requests_check_shape();

CREATE TRIGGER draft_requests_10_finish BEFORE UPDATE ON public.draft_requests FOR EACH ROW WHEN (((new.status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) AND (old.status IS DISTINCT FROM new.status))) EXECUTE FUNCTION public.draft_requests_finish();

CREATE TRIGGER draft_requests_10_requeue BEFORE UPDATE ON public.draft_requests FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status = 'pending'::text))) EXECUTE FUNCTION public.draft_requests_requeue();

CREATE TRIGGER draft_requests_20_take_turn BEFORE INSERT ON public.draft_requests FOR EACH ROW EXECUTE FUNCTION public.draft_requests_take_turn();

CREATE TRIGGER draft_requests_20_take_turn_again BEFORE UPDATE ON public.draft_requests FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status = 'pending'::text))) EXECUTE FUNCTION public.draft_requests_take_turn();

CREATE TRIGGER draft_requests_80_forget_pictures AFTER UPDATE ON public.draft_requests FOR EACH ROW WHEN (((new.status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) AND (old.status IS DISTINCT FROM new.status) AND (new.lease_token >
        CASE new.status
            WHEN 'completed'::text THEN 1
            ELSE 0
        END))) EXECUTE FUNCTION public.draft_requests_forget_pictures();

CREATE TRIGGER draft_requests_90_announce AFTER UPDATE ON public.draft_requests FOR EACH ROW WHEN (((new.status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) AND (old.status = ANY (ARRAY['pending'::text, 'processing'::text])))) EXECUTE FUNCTION public.draft_requests_announce();

CREATE TRIGGER draft_requests_90_announce_progress AFTER UPDATE OF partial_result ON public.draft_requests FOR EACH ROW WHEN (((new.status = 'processing'::text) AND (new.partial_result IS NOT NULL))) EXECUTE FUNCTION public.draft_requests_announce();

CREATE TRIGGER draft_requests_90_ring AFTER INSERT ON public.draft_requests FOR EACH STATEMENT EXECUTE FUNCTION public.draft_requests_ring();

CREATE TRIGGER draft_requests_90_ring_again AFTER UPDATE ON public.draft_requests FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status = 'pending'::text))) EXECUTE FUNCTION public.draft_requests_ring();

CREATE TRIGGER draft_settings_05_defaults BEFORE INSERT OR UPDATE ON public.draft_settings FOR EACH ROW EXECUTE FUNCTION public.draft_nulls_are_defaults();

ALTER TABLE ONLY public.draft_feedback
    ADD CONSTRAINT draft_feedback_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.draft_requests(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.draft_pictures
    ADD CONSTRAINT draft_pictures_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.draft_requests(id) ON DELETE CASCADE;

ALTER TABLE public.draft_agents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_feedback ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_holds ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_models ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_pictures ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_profiles ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_throttles ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_usage ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draft_workers ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.draftd_alembic_version ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON TYPE public.draft_worker FROM PUBLIC;

REVOKE ALL ON FUNCTION public.cancel_draft_request(id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.create_draft_request(request jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_feedback_begin() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_nulls_are_defaults() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_announce() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_begin() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_check_shape() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_default_expiry(available_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_finish() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_forget_pictures() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_guard() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_requeue() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_ring() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_take_turn() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.draft_requests_without_pictures(image_urls text[]) FROM PUBLIC;
