#!/usr/bin/env bash
# The quickstart, and a Prometheus with our rules beside it: `make monitoring`. What is given is handed on to `leeway run`.
set -euo pipefail
cd "$(dirname "$0")/../.."
port=${PROMETHEUS_PORT:-9090}

command -v prometheus >/dev/null || {
    echo "Prometheus is not here: apt-get install prometheus, or https://prometheus.io/download. With Docker:" >&2
    echo "docker compose -f deploy/compose.yaml up, beside leeway run ... -s network.ports.status=8090" >&2
    exit 2
}
data=$(mktemp -d -t leeway-prometheus-XXXXXX)
prometheus --config.file=deploy/monitoring/prometheus.yml --storage.tsdb.path="$data" \
    --web.listen-address="127.0.0.1:$port" >"$data/prometheus.log" 2>&1 &
watcher=$!
trap 'kill $watcher 2>/dev/null || true; wait $watcher 2>/dev/null || true; rm -rf "$data"' EXIT

# Asked of its own log: at the port somebody else may answer. A run of minutes is not begun without it.
ready() { grep -q 'Server is ready to receive web requests' "$data/prometheus.log"; }
for _ in $(seq 300); do
    ready || ! kill -0 $watcher 2>/dev/null && break
    sleep 0.1
done
ready && kill -0 $watcher 2>/dev/null || {
    tail -n 3 "$data/prometheus.log" >&2
    echo "Prometheus did not start. Where port $port is taken, PROMETHEUS_PORT names another." >&2
    exit 1
}

echo "Prometheus: http://127.0.0.1:$port/alerts; it and its data go with this command"
.venv/bin/leeway run recipes/quickstart.yaml -s network.ports.status=8090 "$@"
kill -0 $watcher 2>/dev/null || { tail -n 3 "$data/prometheus.log" >&2; exit 1; }
[ -t 0 ] || exit 0
read -rp "The run has ended. Prometheus is there until you press Enter. "
