#!/bin/sh
# Draft replies to a screenshot with psql alone:  DATABASE_URL=… psql.sh IMAGE_URL [WHAT_TO_SAY]
set -eu

query() { psql "$DATABASE_URL" --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"; }

id=$(query --set=url="$1" --set=context="${2-}" <<'SQL'
SELECT create_draft_request(jsonb_build_object(
           'image_urls', jsonb_build_array(:'url'),
           'context', nullif(:'context', ''),
           'idempotency_key', gen_random_uuid())) ->> 'id';
SQL
)

while status=$(echo "SELECT status FROM draft_requests WHERE id = :'id'" | query --set=id="$id"); do
    case $status in
        completed | failed | cancelled) break ;;
        '') echo "the request was deleted" >&2; exit 1 ;;
    esac
    sleep 0.5
done

query --set=id="$id" <<'SQL'
SELECT coalesce((SELECT string_agg(format('%s: %s', o ->> 'length', o ->> 'text'), E'\n\n')
                   FROM jsonb_array_elements(result -> 'options') AS o),
                format('%s: %s', status, error_message))
  FROM draft_requests WHERE id = :'id';
SQL
[ "$status" = completed ]
