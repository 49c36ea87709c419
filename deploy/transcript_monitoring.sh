#!/usr/bin/env bash
# Records a run that Prometheus watches, and an alert about an actor that is paused: deploy/transcript_monitoring.sh > FILE
# Needs a Docker engine, docker-compose, the images and an image of Prometheus (PROMETHEUS_IMAGE), and takes about ten minutes.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp)
printf '%s\n' COMPOSE_PROJECT_NAME=watched RUN=watched STEPS=100000000 ${PROMETHEUS_IMAGE:+PROMETHEUS_IMAGE="$PROMETHEUS_IMAGE"} \
    >"$ENVIRONMENT"
say() { printf '\n# %s\n' "$*"; }
compose() { docker-compose --env-file "$ENVIRONMENT" "$@" 2>&1 | grep -vE '^(Creat|Start|Stopp|Remov|Recreat).*( \.\.\.|volume)'; }
run() { printf '\n$ docker-compose %s\n' "$*"; compose "$@"; }
api() { # asks Prometheus, and shows of each answer what a jq-like expression in Python names
    printf '\n$ curl http://localhost:9090/api/v1/%s\n' "$1"
    python3 - "http://$(docker-compose --env-file "$ENVIRONMENT" port prometheus 9090)/api/v1/$1" "$2" <<'ASK'
import json, sys, urllib.request
data = json.load(urllib.request.urlopen(sys.argv[1]))["data"]
for line in eval(sys.argv[2]):
    print(*line)
ASK
}
alerts() { date -u +%T; api alerts '[(a["state"], a["labels"], a["annotations"]["summary"]) for a in data["alerts"]] or [("none",)]'; }

date -u
run --profile monitoring up -d exporter prometheus learner distiller actor
sleep 120
run ps
say "What is scraped, and which rules are loaded"
api targets '[(t["scrapeUrl"], t["health"], t["lastError"]) for t in data["activeTargets"]]'
api rules '[(r["name"], r["health"], r["state"]) for g in data["groups"] for r in g["rules"]]'
say "The run in numbers"
for metric in bidist_run_state==1 bidist_player_steps bidist_updates bidist_ledger_unrolls bidist_ledger_imbalance_unrolls bidist_workers; do
    api "query?query=$metric" '[(r["metric"], r["value"][1]) for r in data["result"]]'
done
alerts
say "The only actor is paused, as if its host were"
run pause actor
sleep 60
alerts
sleep 150
alerts
say "It goes on"
run unpause actor
sleep 60
alerts
api "query?query=bidist_ledger_imbalance_unrolls" '[(r["metric"], r["value"][1]) for r in data["result"]]'
run --profile monitoring down -v
rm -f "$ENVIRONMENT"
