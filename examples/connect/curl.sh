#!/bin/sh
# Draft replies to a screenshot with curl and jq, as a signed-in user:
#   SUPABASE_URL=… SUPABASE_KEY=<publishable key> USER_TOKEN=<access token> curl.sh IMAGE_URL [WHAT_TO_SAY]
set -eu

call() {
    path=$1
    shift
    curl --silent --show-error --fail-with-body "$SUPABASE_URL/rest/v1/$path" \
        -H "apikey: $SUPABASE_KEY" -H "Authorization: Bearer $USER_TOKEN" "$@"
}

stop() {
    printf '%s\n' "$1" >&2
    exit 1
}

request=$(jq --null-input --arg url "$1" --arg context "${2-}" --arg key "$(date +%s)-$$" '
    {request: ({image_urls: [$url], idempotency_key: $key} + if $context == "" then {} else {context: $context} end)}')
made=$(call rpc/create_draft_request -H "Content-Type: application/json" --data "$request") || stop "$made"
id=$(printf '%s' "$made" | jq --raw-output .id)

while
    reply=$(call "draft_replies?id=eq.$id" -H "Accept: application/vnd.pgrst.object+json") || stop "$reply"
    status=$(printf '%s' "$reply" | jq --raw-output .status)
    case $status in completed | failed | cancelled) false ;; esac
do
    sleep 0.5
done

printf '%s' "$reply" | jq --raw-output '
    if .result then [.result.options[] | "\(.length): \(.text)"] | join("\n\n") else "\(.status): \(.error_message)" end'
[ "$status" = completed ]
