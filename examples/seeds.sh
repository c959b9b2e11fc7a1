#!/usr/bin/env bash
# Posts the examples of Vonage's own documentation to the edge, as Vonage would, and shows what
# became of them: rows in the warehouse, and the totals of the exporter.
#
# Needs a running stack (`make up`). PORT_BASE=1000 if it runs with --port-base 1000, and
# SENDTRACE_DATA_DIR as it had it. The examples are not signed, so they go through the token path
# that `up` made and printed; against an edge that verifies nothing, through the plain one.
set -euo pipefail

cd "$(dirname "$0")/.."
base=${PORT_BASE:-0}
token_file=${SENDTRACE_DATA_DIR:-.sendtrace}/secrets/local.token
edge="http://127.0.0.1:$((8080 + base))/webhooks"
if [[ -r $token_file ]]; then edge+="/$(<"$token_file")"; fi
metrics="http://127.0.0.1:$((8084 + base))/metrics"
seeds=tests/data/seeds
python=${PYTHON:-.venv/bin/python}

show() { printf '%-28s -> HTTP %s\n' "$1" "$2"; }
answer() { curl --silent --show-error --output /dev/null --write-out '%{http_code}' "$@"; }

post() { # name, path, content type
    show "$1" "$(answer --header "Content-Type: $3" --data-binary "@$seeds/$1" "$edge/$2")"
}

post messages_v1_status.json status application/json
post messages_v01_status.json status application/json
post receipt.json delivery-receipt application/json
post receipt_form.txt delivery-receipt 'application/x-www-form-urlencoded; charset=UTF-8'
show receipt_query.txt "$(answer --globoff "$edge/delivery-receipt?$(cat $seeds/receipt_query.txt)")"
post messages_v1_inbound.json inbound application/json
post messages_v01_inbound.json inbound application/json
post sms_inbound.json inbound application/json

# A row is there within a second of the webhook's 200.
sleep 2
echo
echo "Rows of the warehouse:"
"$python" examples/rows.py --port $((15432 + base)) \
    aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab aaaaaaaa-bbbb-cccc-dddd-0123456789ab \
    02000000E68951D8 0A0000001234567B 000000FFFB0356D2
echo
echo "Kept in topics, unchanged:"
"$python" examples/kept.py --port $((19092 + base)) sendtrace.quarantine sendtrace.inbound
echo
echo "Totals of the exporter:"
curl --silent --show-error "$metrics" | grep -E '^sendtrace_(messages|events)_total.*account="(none|local)"|input='
