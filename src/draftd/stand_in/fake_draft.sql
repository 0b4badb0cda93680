-- fake_draft plays the daemon for one request, in SQL: for the tests of an app, without a daemon and without a model.
--
-- `draftd stand-in --sql` prints this file. Apply it to a test database that has draftd's schema (`draftd migrate --sql`), with
-- the search_path that finds the tables. It is in no migration, and it refuses a database that a daemon has worked on.
--
-- It has the rights of its caller and adds none. Call it as the owner of the tables, or as a role of `draftd grants --worker`.
--
--   SELECT fake_draft(id);                                       completes the request
--   SELECT fake_draft(id, platform => 'email');                  … as one about an email
--   SELECT fake_draft(id, result => '{"confidence": "low"}');    … with these keys of the result
--   SELECT fake_draft(id, options_ready => 1);                   publishes the first option; call again for more
--   SELECT fake_draft(id, error_code => 'image_invalid');        fails the request
--
-- Everything it writes says that it is a stand-in's.
BEGIN;

-- Finishes a pending or processing request, or publishes a part of its drafts.
--
-- id             the request
-- platform       of the result
-- result         keys of the result that replace the fake ones; `options` replaces all drafts
-- options_ready  publishes this many options, at least one; the request stays processing, or fails with error_code
-- error_code     fails the request with this code
--
-- Returns what the channel draft_results announces: id, status, options_ready.
CREATE OR REPLACE FUNCTION fake_draft(
    id uuid,
    platform text DEFAULT 'linkedin',
    result jsonb DEFAULT '{}',
    options_ready integer DEFAULT NULL,
    error_code text DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql SECURITY INVOKER SET search_path FROM CURRENT AS $$
DECLARE
    codes CONSTANT jsonb := '{codes}';
    request draft_requests;
    published jsonb;
    draft jsonb;
    drafts jsonb;
    unknown text;
BEGIN
    IF EXISTS (SELECT FROM draft_workers) OR EXISTS (SELECT FROM draft_usage) THEN
        RAISE EXCEPTION 'fake_draft: a daemon has worked on this database; fake drafts are for test databases without one'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT r.* INTO request FROM draft_requests AS r WHERE r.id = fake_draft.id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fake_draft: there is no request %', coalesce(fake_draft.id::text, 'null')
            USING ERRCODE = 'no_data_found';
    END IF;
    IF request.status NOT IN ('pending', 'processing') THEN
        RAISE EXCEPTION 'fake_draft: the request is % already', request.status USING ERRCODE = 'check_violation';
    END IF;
    IF NOT codes ? fake_draft.error_code THEN
        RAISE EXCEPTION 'fake_draft: unknown error code %', quote_literal(fake_draft.error_code)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('Known are %s.', (SELECT string_agg(k, ', ') FROM jsonb_object_keys(codes) AS k));
    END IF;

    IF request.status = 'pending' THEN
        UPDATE draft_requests AS r SET
            status = 'processing', attempt = r.attempt + 1, lease_token = r.lease_token + 1, limited = false,
            lease_until = now() + interval '10 seconds', deadline_at = now() + interval '2 minutes',
            worker_id = gen_random_uuid(), claimed_at = now(), updated_at = now()
         WHERE r.id = request.id;
    ELSE
        published := request.partial_result;
    END IF;

    draft := jsonb_build_object(
        'schema_version', 1,
        'platform', fake_draft.platform,
        'platform_name', coalesce(
            '{"linkedin": "LinkedIn", "whatsapp": "WhatsApp", "sms": "Messages", "github": "GitHub", "youtube": "YouTube"}'::jsonb
            ->> fake_draft.platform, initcap(fake_draft.platform)),
        'content_type', CASE WHEN fake_draft.platform = 'email' THEN 'email'
                             WHEN fake_draft.platform IN ('whatsapp', 'telegram', 'sms') THEN 'direct_message'
                             WHEN fake_draft.platform IN ('slack', 'discord', 'teams') THEN 'group_chat'
                             ELSE 'post' END,
        'language', 'en',
        'summary', 'Stand-in: no model looked at the screenshot.',
        'me', coalesce(request.options ->> 'me',
                       (SELECT p.me FROM draft_profiles AS p
                         WHERE p.requester_id = request.requester_id AND p.requester_id <> ''), 'the signed-in user'),
        'replying_to', jsonb_build_object('author', 'the stand-in', 'gist', 'asks whether Friday works', 'expects', 'decision'),
        'reply_needed', 'yes',
        'other_targets', '[]'::jsonb,
        'unsent_text', NULL,
        'missing', '[]'::jsonb,
        'confidence', 'high',
        'warnings', '[]'::jsonb);
    SELECT string_agg(quote_literal(k), ', ') INTO unknown FROM jsonb_object_keys(fake_draft.result) AS k
     WHERE k <> 'options' AND NOT draft ? k;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'fake_draft: a result has no key %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A refinement keeps what was seen, and options that are published do not change.
    draft := draft
        || coalesce((SELECT p.result FROM draft_requests AS p
                      WHERE p.id = request.parent_id AND p.requester_id = request.requester_id), '{}')
        || coalesce(published, '{}') || fake_draft.result;

    SELECT jsonb_agg(
               jsonb_build_object('length', o.length, 'angle', o.angle, 'stance', o.stance, 'unsupported', '[]'::jsonb,
                                  'text', left(o.text, coalesce((request.options ->> 'max_chars')::integer, 20000)))
               || CASE WHEN (request.options ->> 'reader_language') !~* '^en'
                       THEN jsonb_build_object('translation', format('Stand-in translation (%s).', o.length))
                       ELSE '{}' END
               ORDER BY o.place)
      INTO drafts
      FROM (SELECT w.place, w.length, s.stance, s.angle,
                   format('Stand-in reply (%s%s): %s%s', w.length, CASE WHEN d.depth > 0 THEN ', version ' || d.depth + 1 END,
                          s.says, w.adds) AS text
              FROM (SELECT row_number() OVER (ORDER BY l.place) AS place, l.length, l.adds
                      FROM (VALUES (1, 'short', ''),
                                   (2, 'medium', ' I will write to you again tomorrow morning with the details.'),
                                   (3, 'detailed', ' I will write to you again tomorrow morning with the details, and copy the'
                                                   ' others in, so that everybody can say what suits them.')
                           ) AS l(place, length, adds)
                     WHERE coalesce(nullif(nullif(request.options -> 'lengths', 'null'), '[]') ? l.length, true)) AS w
              JOIN (VALUES (1, 'accept', 'accepts Friday', 'yes, Friday works.'),
                           (2, 'decline', 'declines, offers Monday', 'not Friday, sorry. Monday?'),
                           (3, 'open', 'leaves it open', 'I am not sure about Friday yet.')
                   ) AS s(place, stance, angle, says)
                ON coalesce(s.stance = request.options ->> 'stance', s.place = w.place)
             CROSS JOIN (WITH RECURSIVE earlier AS (
                             SELECT request.parent_id AS id, 0 AS depth
                             UNION ALL
                             SELECT p.parent_id, e.depth + 1 FROM earlier AS e JOIN draft_requests AS p ON p.id = e.id
                              WHERE e.depth < 20)
                         SELECT max(e.depth) AS depth FROM earlier AS e) AS d) AS o;
    published := coalesce(published -> 'options', '[]');
    IF NOT fake_draft.result ? 'options' THEN
        draft := draft || jsonb_build_object('options', published || coalesce(
            (SELECT jsonb_agg(o.value ORDER BY o.place) FROM jsonb_array_elements(drafts) WITH ORDINALITY AS o(value, place)
              WHERE o.place > jsonb_array_length(published)), '[]'));
    END IF;
    drafts := draft -> 'options';

    IF fake_draft.options_ready IS NOT NULL THEN
        IF fake_draft.options_ready NOT BETWEEN greatest(1, jsonb_array_length(published)) AND jsonb_array_length(drafts) THEN
            RAISE EXCEPTION 'fake_draft: options_ready is % to %',
                greatest(1, jsonb_array_length(published)), jsonb_array_length(drafts)
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        UPDATE draft_requests AS r SET
            partial_result = draft || jsonb_build_object('options', (
                SELECT jsonb_agg(o.value ORDER BY o.place) FROM jsonb_array_elements(drafts) WITH ORDINALITY AS o(value, place)
                 WHERE o.place <= fake_draft.options_ready)),
            first_option_at = coalesce(r.first_option_at, now()), updated_at = now()
         WHERE r.id = request.id;
    END IF;
    IF fake_draft.error_code IS NOT NULL THEN
        UPDATE draft_requests AS r SET
            status = 'failed',
            error_code = fake_draft.error_code,
            error_message = 'Stand-in: ' || (codes -> fake_draft.error_code ->> 'user_message'),
            error_details = jsonb_build_object('action', codes -> fake_draft.error_code -> 'action'),
            errors = r.errors || jsonb_build_object('attempt', r.attempt, 'at', now(), 'code', fake_draft.error_code,
                                                    'message', 'fake_draft was asked to fail', 'model', 'stand-in')
         WHERE r.id = request.id;
    ELSIF fake_draft.options_ready IS NULL THEN
        UPDATE draft_requests AS r SET
            status = 'completed', result = draft, error_code = NULL, error_message = NULL, error_details = NULL,
            model = 'stand-in', prompt_version = 'stand-in', input_tokens = 0, output_tokens = 0, cost_usd = 0,
            images = (SELECT jsonb_agg(jsonb_build_object(
                          'host', coalesce(substring(u.url FROM '^https?://(?:[^/?#]*@)?([^/?#:]+)'), ''),
                          'sha256', encode(sha256(convert_to(u.url, 'UTF8')), 'hex'),
                          'width', 1170, 'height', 2532, 'parts', 1) ORDER BY u.place)
                        FROM unnest(r.image_urls) WITH ORDINALITY AS u(url, place))
         WHERE r.id = request.id;
    END IF;
    RETURN (SELECT jsonb_build_object('id', r.id, 'status', r.status, 'options_ready', coalesce(
                       jsonb_array_length(coalesce(r.result, r.partial_result) -> 'options'), 0))
              FROM draft_requests AS r WHERE r.id = request.id);
END $$;

-- Where a daemon has worked, not even the function is left behind: this call fails, and with it the transaction.
DO $$
BEGIN
    PERFORM fake_draft('00000000-0000-0000-0000-000000000000');
EXCEPTION WHEN no_data_found THEN
    NULL;
END $$;

COMMIT;
