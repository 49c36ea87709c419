#!/usr/bin/env bash
# Records runs in containers from build to down, with every command and its output: deploy/transcript.sh > FILE
# Needs a Docker engine and docker-compose, and takes about half an hour. The second run is evaluated if BOTS names an archive
# in deploy/bots/.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp)
compose() { docker-compose --env-file "$ENVIRONMENT" "$@" 2>&1 | grep -vE '^(Creat|Start|Stopp|Remov|Recreat).* \.\.\.[^a-z]*$|legacy builder|BuildKit|buildx'; }
say() { printf '\n# %s\n' "$*"; }
shown() { printf '\n$ %s\n' "$*"; "$@"; }
run() { printf '\n$ docker-compose %s\n' "$*"; compose "$@"; }
redis-cli() { compose exec -T redis sh -c 'REDISCLI_AUTH="$(cat /keys/viewer-password)" exec redis-cli --user viewer "$@"' - "$@"; }
redis() { printf '\n$ redis-cli %s\n' "$*"; redis-cli "$@"; }
pairs() { printf '\n$ redis-cli %s | paste - -\n' "$*"; redis-cli "$@" | paste - -; }
ledger() {
    printf '\n$ docker-compose exec learner bidist status\n'
    compose exec -T learner bidist status | grep -A 2 -E 'ledger|player steps|rate'
}
state() { shown docker inspect -f '{{.Name}} restarts {{.RestartCount}}, {{.State.Health.Status}}' "trial_$1_1"; }
left() { for name in "$@"; do docker inspect -f '{{.Name}} left with {{.State.ExitCode}}' "trial_$name"; done; }
crash() {
    say "The $1 crashes: its process is killed with SIGKILL, and the engine restarts it."
    kill -9 "$(docker inspect -f '{{.State.Pid}}' "trial_$1_1")"
    sleep 45
    state "$1"
    ledger
}
settings() { # writes the settings of the first run, and more NAME=VALUE lines
    printf '%s\n' COMPOSE_PROJECT_NAME=trial RUN=trial METHOD=bidist SUBSTRATE=pure_coordination_in_the_matrix__arena \
        STEPS=100000000 SEED=0 BOTS="${BOTS:-}" "$@" \
        LEARNER_ARGS='--set run.checkpoint_s=20 --set learner.batch_unrolls=8 --set distiller.every=4' >"$ENVIRONMENT"
}

settings
date -u
shown docker version --format 'engine {{.Server.Version}}'
shown docker-compose version --short
cat "$ENVIRONMENT"
say "Build"
run build -q
shown docker images --filter dangling=false --format '{{.Repository}}:{{.Tag}} {{.Size}}'
say "Up"
run up -d
sleep 60
run ps
run exec -T learner bidist status
say "Each role has keys of its own, made by the service keys, and a user of its own in Redis"
run logs --no-color keys
run exec -T actor ls -l /keys
run exec -T actor env
printf '\n$ redis-cli as the user of the actors\n'
theirs=$(compose exec -T actor cat /keys/redis-password)
for words in "hget bidist:trial:theta version" "hset bidist:trial:theta version 9" "hget bidist:other:theta version" flushall; do
    printf '> %s\n' "$words"
    compose exec -T -e REDISCLI_AUTH="$theirs" redis redis-cli --user actor $words
done
say "Scale up while it runs, and down again"
run up -d --no-recreate --scale actor=4
sleep 60
ledger
run up -d --no-recreate --scale actor=2
sleep 30
ledger
say "Roles, queue, bottleneck and progress"
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
printf '\n$ redis-cli xrevrange bidist:trial:events + - COUNT 20 | grep -A 20 -m 1 -x distillation | tail -n +2 | paste - -\n'
redis-cli xrevrange bidist:trial:events + - COUNT 20 | grep -A 20 -m 1 -x distillation | tail -n +2 | paste - -
printf '\n$ redis-cli xrevrange bidist:trial:metrics + - COUNT 1 | tail -n +2 | paste - - | head -12\n'
redis-cli xrevrange bidist:trial:metrics + - COUNT 1 | tail -n +2 | paste - - | head -12
printf '\n$ redis-cli get bidist:trial:config | cut -c 1-100\n'
redis-cli get bidist:trial:config | cut -c 1-100
for role in actor distiller learner redis; do crash "$role"; done
say "The learner hangs (SIGSTOP) and becomes unhealthy. It resumes (SIGCONT)."
hung=$(pgrep -P "$(docker inspect -f '{{.State.Pid}}' trial_learner_1)")
kill -STOP "$hung"
sleep 90
state learner
run exec -T learner bidist health learner
kill -CONT "$hung"
sleep 45
state learner
ledger
say "An orderly stop: all roles exit with 0, and the ledger balances"
run stop actor
sleep 10
run exec -T learner bidist status
run stop learner distiller
left actor_1 actor_2 distiller_1 learner_1
pairs hgetall bidist:trial:ledger
pairs hgetall bidist:trial:sequences
say "Backup: stop, pack the volumes, and lose them"
run stop
printf '\n$ docker run --rm --user 0 --entrypoint tar -v trial_runs:/runs:ro -v trial_redis:/data:ro \\\n'
printf '      bidist:cpu -C / -cz runs data > backup.tar.gz\n'
docker run --rm --user 0 --entrypoint tar -v trial_runs:/runs:ro -v trial_redis:/data:ro \
    bidist:cpu -C / -cz runs data >"$ENVIRONMENT.tar.gz"
du -h "$ENVIRONMENT.tar.gz" | cut -f 1
run down -v
say "Restore into new volumes, and go on"
printf '\n$ docker run --rm -i --user 0 --entrypoint tar -v trial_runs:/runs -v trial_redis:/data \\\n'
printf '      bidist:cpu -C / -xz < backup.tar.gz\n'
docker run --rm -i --user 0 --entrypoint tar -v trial_runs:/runs -v trial_redis:/data \
    bidist:cpu -C / -xz <"$ENVIRONMENT.tar.gz"
run up -d
sleep 60
ledger
run down -v
rm -f "$ENVIRONMENT.tar.gz"

say "A short run to its end${BOTS:+, with an evaluator}: up returns when Redis, too, has left"
settings STEPS=60000
run ${BOTS:+--profile evaluator} up --no-color
left learner_1 actor_1 distiller_1 redis_1 ${BOTS:+evaluator_1}
say "A finished run stays finished"
run up -d
sleep 30
run ps -a
run logs --no-color --tail 3 learner
run --profile evaluator down -v
rm -f "$ENVIRONMENT"
