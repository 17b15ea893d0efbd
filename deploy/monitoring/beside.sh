#!/usr/bin/env bash
# The quickstart, and a Prometheus with our rules beside it: `make monitoring`. What is given is handed on to `leeway run`.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v prometheus >/dev/null || {
    echo "Prometheus is not here: apt-get install prometheus, or https://prometheus.io/download. With Docker:" >&2
    echo "docker compose -f deploy/compose.yaml up, beside leeway run ... -s network.ports.status=8090" >&2
    exit 2
}
data=$(mktemp -d -t leeway-prometheus-XXXXXX)
prometheus --config.file=deploy/monitoring/prometheus.yml --storage.tsdb.path="$data" \
    --web.listen-address="127.0.0.1:${PROMETHEUS_PORT:-9090}" >"$data/prometheus.log" 2>&1 &
watcher=$!
trap 'kill $watcher 2>/dev/null || true; wait $watcher 2>/dev/null || true; rm -rf "$data"' EXIT

echo "Prometheus: http://127.0.0.1:${PROMETHEUS_PORT:-9090}/alerts; it and its data go with this command"
.venv/bin/leeway run recipes/quickstart.yaml -s network.ports.status=8090 "$@"
kill -0 $watcher 2>/dev/null || { cat "$data/prometheus.log" >&2; exit 1; }
[ -t 0 ] || exit 0
read -rp "The run has ended. Prometheus is there until you press Enter. "
