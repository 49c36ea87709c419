#!/usr/bin/env bash
# A run in containers from build to down, with every command and what it printed: deploy/transcript.sh > FILE
# Needs a Docker engine and docker-compose; takes about ten minutes.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp)
cat >"$ENVIRONMENT" <<'SETTINGS'
COMPOSE_PROJECT_NAME=trial
RUN=trial
METHOD=bidist
SUBSTRATE=pure_coordination_in_the_matrix__arena
STEPS=100000000
SEED=0
REDIS_PASSWORD=not-shown
LEARNER_ARGS=--set run.checkpoint_s=20
SETTINGS
compose() { docker-compose --env-file "$ENVIRONMENT" "$@" 2>&1; }
say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }
redis() { printf '\n$ docker-compose exec redis redis-cli %s\n' "$*"; compose exec -T redis redis-cli "$@"; }
ledger() { compose exec -T learner bidist status | grep -A 2 -E 'ledger|player steps|rate'; }
crash() {
    say "The $1 crashes: its process is killed with SIGKILL, and the engine starts it again."
    run docker inspect -f '{{.Name}} restarts {{.RestartCount}}' "trial_$1_1"
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "trial_$1_1")"
    sleep 45
    run docker inspect -f '{{.Name}} restarts {{.RestartCount}}, {{.State.Health.Status}}' "trial_$1_1"
    ledger
}

date -u
run docker version --format 'engine {{.Server.Version}}'
run docker-compose version --short
cat "$ENVIRONMENT"
say "Build"
run compose build -q
run docker images --filter dangling=false --format '{{.Repository}}:{{.Tag}} {{.Size}}'
say "Up"
run compose up -d
sleep 60
run compose ps
run compose exec -T learner bidist status
say "Scale up while it runs, and down again"
run compose up -d --no-recreate --scale actor=3
sleep 45
ledger
run compose up -d --no-recreate --scale actor=2
sleep 20
ledger
say "Who is there, how long the queue is, who waits for whom, how far it is"
redis --scan --pattern 'bidist:trial:worker:*'
redis hgetall bidist:trial:queue
redis get bidist:trial:starvation
redis hgetall bidist:trial:progress
redis hgetall bidist:trial:ledger
redis hmget bidist:trial:theta version digest
redis hmget bidist:trial:phi version source_version direction
redis xrevrange bidist:trial:events + - COUNT 2
for role in actor distiller learner redis; do crash "$role"; done
say "An orderly end: all leave with 0, the ledger adds up"
run compose stop actor
sleep 10
run compose exec -T learner bidist status
run compose stop learner distiller
for name in actor_1 actor_2 distiller_1 learner_1; do
    docker inspect -f '{{.Name}} left with {{.State.ExitCode}}' "trial_$name"
done
redis hgetall bidist:trial:ledger
redis hgetall bidist:trial:sequences
run compose down -v
rm -f "$ENVIRONMENT"
