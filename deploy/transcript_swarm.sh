#!/usr/bin/env bash
# Records a run as a stack on a Swarm of one node: deploy, scale, update, lose a task: deploy/transcript_swarm.sh > FILE
# Needs a Docker engine, docker-compose and the images, and takes about ten minutes.
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
task() { docker ps -q -f "name=swarmed_$1" | head -1; }
services() { run docker service ls --format '{{.Name}} {{.Replicas}}'; }
tasks() { run docker stack ps swarmed --format '{{.Name}} {{.CurrentState}} {{.Error}}'; }
status() { docker exec "$(task learner)" bidist status 2>&1; }
ledger() {
    printf '\n$ bidist status, in the task of the learner\n'
    status | grep -A 2 -E 'ledger|player steps|rate'
}
until_() { # waits, for ten minutes at most, until a command succeeds
    for _ in $(seq 200); do "$@" && return; sleep 3; done
    echo "waited in vain: $*"
}
complete() { # every service has the tasks that it should have
    [[ -z $(docker service ls --format '{{.Replicas}}' | awk -F '[/ ]' '$1 != $2') ]]
}
update() { status | grep -oE 'update [0-9,]+' | tr -dc 0-9 | grep . || echo 0; }
beyond() { [[ $(update) -gt $1 ]]; }
trains() { until_ beyond $(($(update) + 3)); }
updated() { [[ $(docker service inspect -f '{{.UpdateStatus.State}}' swarmed_actor) == completed ]]; }

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
until_ complete
trains
services
ledger
say "An actor holds its own keys and no others"
run docker exec "$(task actor)" ls /keys
say "Scale"
run docker service scale -d swarmed_actor=3
until_ complete
trains
services
say "Roll out an update to the actors, one task at a time"
run docker service update -d --update-order start-first --env-add ROLLED=1 swarmed_actor
until_ updated
tasks
ledger
say "A task is lost: the learner's container is killed"
docker kill "$(task learner)" >/dev/null
sleep 10
until_ complete
trains
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
