#!/usr/bin/env bash
# Records a run as a stack on a Swarm of one node: deploy, scale, update, lose a task: deploy/transcript_swarm.sh > FILE
# Needs a Docker engine, docker-compose and the image, and takes about five minutes.
set -u
cd "$(dirname "$0")/.."
ENVIRONMENT=$(mktemp) STACK=$(mktemp) KEYS=$(mktemp -d)
cat >"$ENVIRONMENT" <<'SETTINGS'
RUN=swarm
SUBSTRATE=matrix_coordination
STEPS=100000000
LEARNER_ARGS=--set environment.episode_length=32 --set run.checkpoint_s=10
SETTINGS
say() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@" 2>&1; }
tasks() { run docker stack ps swarmed --format '{{.Name}} {{.CurrentState}} {{.Error}}'; }
ledger() {
    printf '\n$ bidist status, in the task of the learner\n'
    docker exec "$(docker ps -q -f name=swarmed_learner | head -1)" bidist status | grep -A 2 -E 'ledger|player steps|rate'
}

date -u
docker swarm init --advertise-addr 127.0.0.1 >/dev/null 2>&1 && MADE=1
docker-compose --env-file "$ENVIRONMENT" config 2>/dev/null \
    | docker run -i --rm bidist:cpu stack >"$STACK"
say "A secret for each file of keys: bidist keys keys --run swarm, and docker secret create for each of them"
docker run --rm --user "$(id -u)" -v "$KEYS":/made bidist:cpu keys /made/keys --run swarm
SECRETS=()
for file in "$KEYS"/keys/*/*; do
    SECRETS+=("$(basename "$(dirname "$file")")-$(basename "$file")")
    docker secret create "${SECRETS[-1]}" "$file" >/dev/null
done
run docker secret ls --format '{{.Name}}'
say "docker-compose config | docker run -i --rm bidist:cpu stack | docker stack deploy -c - swarmed"
run docker stack deploy -c "$STACK" swarmed
sleep 75
run docker service ls --format '{{.Name}} {{.Replicas}}'
ledger
say "Scale"
run docker service scale -d swarmed_actor=3
sleep 50
run docker service ls --format '{{.Name}} {{.Replicas}}'
say "Roll out an update to the actors, one task at a time"
run docker service update -d --update-order start-first --env-add ROLLED=1 swarmed_actor
sleep 75
tasks
ledger
say "A task is lost: the learner's container is killed"
docker kill "$(docker ps -q -f name=swarmed_learner)" >/dev/null
sleep 60
tasks
ledger
run docker stack rm swarmed
docker secret rm "${SECRETS[@]}" >/dev/null
for _ in $(seq 30); do # they outlive the stack
    docker volume rm swarmed_runs swarmed_redis >/dev/null 2>&1 && break
    sleep 2
done
[[ -n ${MADE:-} ]] && docker swarm leave --force >/dev/null
rm -rf "$ENVIRONMENT" "$STACK" "$KEYS"
