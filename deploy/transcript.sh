#!/usr/bin/env bash
# Records runs in containers, from up to down, with every command and its output: deploy/transcript.sh > FILE
# Needs a Docker engine, docker-compose 1.29, the images (docker-compose build) and one of Prometheus (PROMETHEUS_IMAGE), and takes
# about a quarter of an hour. The last run is evaluated if BOTS names the archive in deploy/bots/ that the images have.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp)
compose() { docker-compose --env-file "$ENVIRONMENT" "$@" 2>&1 | grep -vE '^(Creat|Start|Stopp|Remov|Recreat|Paus|Unpaus).*( \.\.\.[^a-z]*$|volume)|legacy builder|BuildKit|buildx'; }
say() { printf '\n# %s\n' "$*"; }
shown() { printf '\n$ %s\n' "$*"; "$@" 2>&1; }
run() { printf '\n$ docker-compose %s\n' "$*"; compose "$@"; }
redis-cli() { docker exec trial_redis_1 sh -c 'REDISCLI_AUTH="$(cat /keys/viewer-password)" exec redis-cli --user viewer "$@"' - "$@"; }
redis() { printf '\n$ redis-cli %s\n' "$*"; redis-cli "$@"; }
piped() { # redis-cli's arguments, then a pipeline
    printf '\n$ redis-cli %s | %s\n' "$1" "$2"
    # shellcheck disable=SC2086
    redis-cli $1 | eval "$2"
}
pairs() { piped "$*" 'paste - -'; }
ledger() {
    printf '\n$ docker exec trial_learner_1 bidist status\n'
    docker exec trial_learner_1 bidist status | grep -A 2 -E 'ledger|player steps|rate'
}
state() { shown docker inspect -f '{{.Name}} restarts {{.RestartCount}}, {{.State.Health.Status}}' "trial_$1_1"; }
left() { for name in "$@"; do docker inspect -f '{{.Name}} exited with {{.State.ExitCode}}, restarted {{.RestartCount}} times' "trial_$name"; done; }
ask() { shown docker exec trial_prometheus_1 promtool query instant http://localhost:9090 "$1"; }

until_() { # waits, for ten minutes at most, until a command succeeds
    for _ in $(seq 200); do "$@" && return; sleep 3; done
    echo "waited in vain: $*"
}
version() { redis-cli hget bidist:trial:theta version | grep -xE '[0-9]+' || echo 0; }
beyond() { [[ $(version) -gt $1 ]]; }
trains() { until_ beyond $(($(version) + 3)); }
healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "trial_$1_1") == "$2" ]]; }
alert() { docker exec trial_prometheus_1 promtool query instant http://localhost:9090 "ALERTS{alertname='BidistRoleMissing',alertstate='$1'}" | grep -q .; }
withdrawn() { docker logs trial_actor_1 2>&1 | grep -q "this actor's key"; }
silent() { ! alert firing && ! alert pending; }
killed() { # kills a container's processes, as the kernel would
    say "The $1 crashes: its process is killed with SIGKILL, and the engine restarts it."
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "trial_$1_1")"
    sleep 5
    trains
    until_ healthy "$1" healthy
    state "$1"
    ledger
}
settings() { # writes the settings of the run, and more NAME=VALUE lines
    printf '%s\n' COMPOSE_PROJECT_NAME=trial RUN=trial SUBSTRATE=matrix_coordination \
        BOTS="${BOTS:-}" ${PROMETHEUS_IMAGE:+PROMETHEUS_IMAGE="$PROMETHEUS_IMAGE"} "$@" >"$ENVIRONMENT"
}

settings STEPS=100000000 \
    LEARNER_ARGS='--set environment.episode_length=32 --set run.checkpoint_s=20'
date -u
shown docker version --format 'engine {{.Server.Version}}'
shown docker-compose version --short
cat "$ENVIRONMENT"
shown docker images --filter dangling=false --format '{{.Repository}}:{{.Tag}} {{.Size}}'
say "Up, with Prometheus, but without Grafana, whose image is not at hand"
run --profile monitoring up -d prometheus exporter learner distiller actor
until_ healthy learner healthy
trains
run --profile monitoring ps
shown docker exec trial_learner_1 bidist status
say "Each role has keys of its own, made by the service keys, and a user of its own in Redis"
shown docker exec trial_actor_1 ls -l /keys
printf '\n$ redis-cli as the user of the actors\n'
theirs=$(docker exec trial_actor_1 cat /keys/redis-password)
for words in "hget bidist:trial:theta version" "hset bidist:trial:theta version 9" "hget bidist:other:theta version" flushall; do
    printf '> %s\n' "$words"
    # shellcheck disable=SC2086
    docker exec -e REDISCLI_AUTH="$theirs" trial_redis_1 redis-cli --user actor $words
done
say "Scale up while it runs, and down again"
run up -d --no-recreate --scale actor=4
until_ healthy actor healthy
trains
ledger
run up -d --no-recreate --scale actor=2
trains
ledger
say "What Redis holds"
redis --scan --pattern 'bidist:trial:*'
pairs hgetall bidist:trial:worker:learner:learner
pairs hgetall bidist:trial:queue
redis get bidist:trial:starvation
pairs hgetall bidist:trial:progress
pairs hgetall bidist:trial:ledger
pairs hgetall bidist:trial:sequences
redis smembers bidist:trial:closed
pairs hgetall bidist:trial:starts
redis get bidist:trial:endpoint
redis hmget bidist:trial:theta version digest
redis hmget bidist:trial:phi version source_version direction
redis xlen bidist:trial:observations
piped 'xrevrange bidist:trial:events + - COUNT 20' 'grep -A 20 -m 1 -x distillation | tail -n +2 | paste - -'
piped 'xrevrange bidist:trial:metrics + - COUNT 1' 'tail -n +2 | paste - - | head -12'
piped 'get bidist:trial:config' 'cut -c 1-100'
for role in actor distiller learner redis; do killed "$role"; done
say "What an autoscaler reads, by HTTP"
exporter=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' trial_exporter_1)
printf '\n$ curl -s http://exporter:9105/metrics | grep -E ...\n'
curl -s "http://$exporter:9105/metrics" | grep -E '^bidist_(starvation|run_state|workers|ledger_imb)'
say "Prometheus scrapes the same"
ask up
ask 'bidist_run_state == 1'
ask bidist_ledger_imbalance_unrolls
say "The actors are paused, as if their hosts were: an alert is pending, then fires"
run pause actor
until_ alert pending
ask ALERTS
until_ alert firing
date -u +%T
ask ALERTS
say "They go on"
run unpause actor
until_ silent
trains
ask ALERTS
ask bidist_ledger_imbalance_unrolls
say "The dashboard wants the token that its container has in a file"
run --profile dashboard up -d dashboard
until_ curl -s -o /dev/null http://localhost:8050
shown curl -s -o /dev/null -w '%{http_code}\n' http://localhost:8050/api/results
printf '\n$ curl -s -H "Authorization: Bearer $(docker exec trial_dashboard_1 cat /token/token)" "http://localhost:8050/events?run=trial" | head -c 300\n'
curl -s -m 5 -H "Authorization: Bearer $(docker exec trial_dashboard_1 cat /token/token)" "http://localhost:8050/events?run=trial" | head -c 300
echo
say "The actors' key is withdrawn: within seconds nothing more arrives, and each says why"
edit=(docker run --rm --user 0 --entrypoint sed -v trial_keys-learner:/keys bidist:cpu -i '/^[^#]/d' /keys/authorized_keys)
shown "${edit[@]}"
until_ withdrawn
printf '\n$ docker logs trial_actor_1 | grep -m 1 key\n'
docker logs trial_actor_1 2>&1 | grep -m 1 "this actor's key"
say "New keys and passwords for every role: the run continues"
run --profile monitoring --profile dashboard down
printf '\n$ docker volume rm $(docker volume ls -q --filter name=trial_keys-)\n'
# shellcheck disable=SC2046
docker volume rm $(docker volume ls -q --filter name=trial_keys-)
run up -d
trains
ledger
say "An orderly stop: all roles exit with 0, and the ledger balances"
run stop actor
shown docker exec trial_learner_1 bidist status
run stop learner distiller
left actor_1 distiller_1 learner_1
pairs hgetall bidist:trial:ledger
pairs hgetall bidist:trial:sequences
say "A backup, everything deleted, and the backup restored: the run goes on, and its ledger holds"
backup=$(mktemp)
run stop
printf '\n$ docker run --rm --user 0 --entrypoint tar -v trial_runs:/runs:ro -v trial_redis:/data:ro bidist:cpu -C / -cz runs data > backup.tar.gz\n'
docker run --rm --user 0 --entrypoint tar -v trial_runs:/runs:ro -v trial_redis:/data:ro bidist:cpu -C / -cz runs data >"$backup"
run down -v
printf '\n$ docker run --rm -i --user 0 --entrypoint tar -v trial_runs:/runs -v trial_redis:/data bidist:cpu -C / -xz < backup.tar.gz\n'
docker run --rm -i --user 0 --entrypoint tar -v trial_runs:/runs -v trial_redis:/data bidist:cpu -C / -xz <"$backup"
run up -d
trains
shown docker exec trial_learner_1 bidist status
ledger
run down -v
rm -f "$backup"

say "A short run to its end${BOTS:+, with an evaluator}; its distiller is killed on the way. up returns when Redis, too, has exited"
settings STEPS=60000 ${BOTS:+SUBSTRATE=pure_coordination_in_the_matrix__arena}
{ until_ beyond 3; kill -9 "$(docker inspect -f '{{.State.Pid}}' trial_distiller_1)"; } >/dev/null 2>&1 &
run ${BOTS:+--profile evaluator} up --no-color
left learner_1 actor_1 distiller_1 redis_1 ${BOTS:+evaluator_1}
run --profile evaluator down -v
rm -f "$ENVIRONMENT"
