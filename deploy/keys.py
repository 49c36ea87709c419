"""Makes the keys and passwords of a run: `bidist keys`.

There is one folder for each party, with everything it needs and nothing more:

    redis/       users.acl         the users of Redis and their rights; passwords as SHA-256 only
                 viewer-password   for redis-cli beside it
    learner/     curve.secret, authorized_keys, redis-password
    actor/       curve.secret, learner.public, redis-password; likewise for each further actor
    distiller/   redis-password
    viewer/      redis-password    for `bidist watch` and the like, which only read
    dashboard/   token             what visitors of `bidist dashboard` in a container present
    grafana/     password          of Grafana's administrator, for the containers

`common.keys` describes the files for CurveZMQ. Files with something in them are kept, so the command can be repeated,
to add an actor or to finish after an interruption. Each file appears complete or not at all.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import zmq

from common.errors import ConfigError, SetupError
from common.files import write
from common.keys import ALLOWED, LEARNER, SECRET, KeyPair
from common.settings import validate
from common.store import PREFIX

ACL, PASSWORD, VIEWER = "users.acl", "redis-password", "viewer-password"
ROLES = ("learner", "distiller", "viewer")
CONTENTS = {
    "redis": (ACL, VIEWER),
    "learner": (SECRET, ALLOWED, PASSWORD),
    "actor": (SECRET, LEARNER, PASSWORD),
    "distiller": (PASSWORD,),
    "viewer": (PASSWORD,),
    "dashboard": ("token",),
    "grafana": ("password",),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONNECT = "+ping +echo +hello +auth +select +client|setname +multi +exec"
_SCRIPT = "+eval +evalsha +script|load"
# `RUN:` stands for the run's prefix. Rights to keys need Redis 7; `%R~` is for reading only.
_RIGHTS = {
    "learner": f"~RUN:* +@read +@write -@dangerous -@blocking +info +watch +unwatch {_SCRIPT} {_CONNECT}",
    "actor": (
        "%R~RUN:config %R~RUN:endpoint %R~RUN:theta %R~RUN:phi* %R~RUN:pool* %R~RUN:progress %R~RUN:worker:* "
        "%R~RUN:closed ~RUN:worker:actor:* ~RUN:starts ~RUN:events ~RUN:reported "
        f"+get +hget +hgetall +zrange +scan +hset +hincrby +pexpire +del +xadd +sismember {_SCRIPT} {_CONNECT}"
    ),
    "distiller": (
        "%R~RUN:config %R~RUN:endpoint %R~RUN:theta %R~RUN:observations %R~RUN:progress %R~RUN:worker:* "
        "~RUN:phi* ~RUN:worker:distiller:* ~RUN:events "
        "+get +hget +hgetall +xrevrange +zrange +zadd +zrem +scan +hset +pexpire +del +xadd +watch +unwatch "
        f"{_SCRIPT} {_CONNECT}"
    ),
    "viewer": f"%R~RUN:* +@read -@dangerous -@blocking +info {_CONNECT}",
}


def make(folder: Path, run: str | None, actors: Sequence[str]) -> list[Path]:
    """Makes what is missing, empty or out of date, and returns it.

    Args:
      folder: holds a folder for each party; created if missing.
      run: the only run whose keys in Redis they may use; `*` for all. None keeps that of the existing users, or takes
        all if there are none.
      actors: the names of the actors that have their own keys.

    Raises:
      ConfigError: if a run cannot be called that, or if an actor's name is not a file name or is another party's.
      SetupError: if an existing secret key or password cannot be used.
    """
    run = run or _run_of(folder / "redis" / ACL) or "*"
    if run != "*":
        validate({"run": {"name": run}})
    for name in actors:
        if not _NAME.fullmatch(name) or name in (CONTENTS.keys() - {"actor"} | {"default"}):
            raise ConfigError(
                f"{name!r} cannot be an actor's name: expected letters, digits, '.', '_' and '-', and not "
                "another party's name"
            )
    made: list[Path] = []
    folder.mkdir(0o700, parents=True, exist_ok=True)
    for party in (*ROLES, *actors, "dashboard", "grafana"):
        (folder / party).mkdir(0o700, exist_ok=True)
    for party in (*ROLES, *actors):
        _keep(folder / party / PASSWORD, secrets.token_urlsafe(32), made)
    _keep(folder / "learner" / SECRET, zmq.curve_keypair()[1].decode(), made)
    learner = KeyPair.read(folder / "learner").public.decode()
    for name in actors:
        _put(folder / name / LEARNER, learner, made)
        _admit(folder, name, made)
    _keep(folder / "dashboard" / "token", secrets.token_urlsafe(32), made)
    _keep(folder / "grafana" / "password", secrets.token_urlsafe(16), made)
    _open(folder / "grafana" / "password")
    _write_users(folder, run, made)
    return made


def _open(path: Path) -> None:
    """Lets another user in a container read a file; on a host, the folder above keeps other users out."""
    path.chmod(0o644)
    path.parent.chmod(0o755)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _keep(path: Path, text: str, made: list[Path]) -> None:
    """Writes a file unless there is one with something in it."""
    if not _text(path):
        _put(path, text, made)


def _put(path: Path, text: str, made: list[Path]) -> None:
    """Writes a file for its owner only, unless it says that already."""
    if _text(path) != text:
        write(path, f"{text}\n".encode(), 0o600)
        made.extend({path} - set(made))


def _admit(folder: Path, name: str, made: list[Path]) -> None:
    """Gives an actor a key pair and the learner's admission, unless it has a key.

    Admission comes first. After an interruption in between, the actor gets a new key and a new line; a key without a
    line would look like one that was withdrawn, which stays withdrawn.
    """
    if _text(folder / name / SECRET):
        return
    public, secret = zmq.curve_keypair()
    allowed = folder / "learner" / ALLOWED
    others = [line for line in _text(allowed).splitlines() if line.strip().partition(" ")[0] != name]
    _put(allowed, "\n".join([*others, f"{name} {public.decode()}"]), made)
    _put(folder / name / SECRET, secret.decode(), made)


def _run_of(users: Path) -> str | None:
    """Returns the run that a file's users may access; None if there is no such file."""
    text = users.read_text() if users.exists() else ""
    found = re.search(rf"^user viewer .* %R~{PREFIX}:(\S+):\* ", text, re.MULTILINE)
    return found and found[1]


def _write_users(folder: Path, run: str, made: list[Path]) -> None:
    """Writes the file of Redis' users, one for each folder with a password; it holds no readable password.

    Raises:
      SetupError: if a password is empty.
    """
    # Nobody can log in as `default`, but Redis 7.0 replays its file as this user: without the rights, a restart would
    # lose what was written by transactions and scripts, such as the ledger.
    lines = ["user default off resetpass ~* &* +@all"]
    for path in sorted(folder.glob(f"*/{PASSWORD}")):
        name, password = path.parent.name, _text(path)
        if not password:
            raise SetupError(f"{path} is empty: `bidist keys {folder} --actor {name}` fills it")
        rights = _RIGHTS.get(name, _RIGHTS["actor"]).replace("RUN:", f"{PREFIX}:{run}:")
        digest = hashlib.sha256(password.encode()).hexdigest()
        lines.append(f"user {name} on #{digest} resetchannels -@all {rights}")
    (folder / "redis").mkdir(exist_ok=True)
    for name, text in ((ACL, "\n".join(lines)), (VIEWER, _text(folder / "viewer" / PASSWORD))):
        _put(folder / "redis" / name, text, made)
        _open(folder / "redis" / name)
