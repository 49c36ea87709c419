#!/usr/bin/env bash
# Records a run as a stack on a Swarm of one node: deploy, scale, update, lose a task: deploy/transcript_swarm.sh > FILE
# Needs a Docker engine, docker-compose and the image, and takes about five minutes.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp) STACK=$(mktemp)
cat >"$ENVIRONMENT" <<'SETTINGS'
RUN=swarm
SUBSTRATE=matrix_coordination
STEPS=100000000
LEARNER_ARGS=--set environment.episode_length=32 --set run.checkpoint_s=10
SETTINGS
say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@" 2>&1; }
tasks() { run docker stack ps trial --format '{{.Name}} {{.CurrentState}} {{.Error}}'; }
ledger() {
    printf '\n$ bidist status, in the task of the learner\n'
    docker exec "$(docker ps -q -f name=trial_learner | head -1)" bidist status | grep -A 2 -E 'ledger|player steps|rate'
}

date -u
docker swarm init --advertise-addr 127.0.0.1 >/dev/null 2>&1 && MADE=1
docker-compose --env-file "$ENVIRONMENT" config 2>/dev/null \
    | docker run -i --rm bidist:cpu stack >"$STACK"
say "docker-compose config | docker run -i --rm bidist:cpu stack | docker stack deploy -c - trial"
run docker stack deploy -c "$STACK" trial
sleep 75
run docker service ls --format '{{.Name}} {{.Replicas}}'
ledger
say "Scale"
run docker service scale -d trial_actor=3
sleep 50
run docker service ls --format '{{.Name}} {{.Replicas}}'
say "Roll out an update to the actors, one task at a time"
run docker service update -d --update-order start-first --env-add ROLLED=1 trial_actor
sleep 75
tasks
ledger
say "A task is lost: the learner's container is killed"
docker kill "$(docker ps -q -f name=trial_learner)" >/dev/null
sleep 60
tasks
ledger
run docker stack rm trial
for _ in $(seq 30); do # they outlive the stack
    docker volume rm trial_runs trial_redis >/dev/null 2>&1 && break
    sleep 2
done
[[ -n ${MADE:-} ]] && docker swarm leave --force >/dev/null
rm -f "$ENVIRONMENT" "$STACK"
