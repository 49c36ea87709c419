"""Who reaches the learner's port, over real TCP: nobody but the actors whose keys are in the list."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from tcp import pump_until
from unrolls import RUN, SPEC, make_unroll

from cli.main import main
from common.admission import Admission
from common.config import LearnerConfig
from common.errors import ConfigError, SetupError, StoreError
from common.inbox import Inbox
from common.keys import ALLOWED, LEARNER, SECRET, ActorKeys, AllowList, LearnerKeys, public_key
from common.outbox import Outbox
from common.spec import EnvironmentSpec
from common.unroll import PROTOCOL, UnrollSpec
from common.wire import MAX_HEADER_BYTES, Hello, pack
from deploy.keys import make
from learner.service import check_exposure

PATIENCE_S = 30.0
ERROR_WITHIN_S = 10.0


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make(tmp_path / "keys", RUN, ["actor", "other"])
    return tmp_path / "keys"


@pytest.fixture
def inbox(keys: Path) -> Iterator[Inbox]:
    inbox = Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 100, {}, keys=LearnerKeys.read(keys / "learner"))
    with inbox:
        yield inbox


def outbox(port: int, keys: ActorKeys | None, name: str = "a", run: str = RUN) -> Outbox:
    return Outbox(run, name, f"{name}-1", f"tcp://127.0.0.1:{port}", keys=keys)


def refusal(inbox: Inbox, keys: ActorKeys | None) -> str:
    """The error of an actor that is not admitted; the learner must not notice it at all."""
    with outbox(inbox.port, keys, "intruder") as intruder, pytest.raises(SetupError) as error:
        pump_until(lambda: False, inbox, intruder)
    assert not inbox.peers and not inbox.arrivals and not inbox.malformed.keys() - {"key"}
    return str(error.value)


def test_an_actor_in_the_list_is_admitted(inbox: Inbox, keys: Path) -> None:
    with outbox(inbox.port, ActorKeys.read(keys / "actor")) as actor:
        actor.put(make_unroll())
        pump_until(lambda: len(inbox.arrivals) == 1, inbox, actor)
    assert not inbox.malformed


def test_the_largest_unroll_that_there_may_be_arrives_encrypted(keys: Path) -> None:
    spec = UnrollSpec(EnvironmentSpec("large", 2, 5, (88, 88, 3), 6), unroll_length=7, state_size=8, policies=2)
    assert spec.largest_bytes > MAX_HEADER_BYTES, "otherwise the limit is not that of the unroll"
    with (
        Inbox("tcp://127.0.0.1:*", RUN, "learner-1", spec, 100, {}, keys=LearnerKeys.read(keys / "learner")) as inbox,
        outbox(inbox.port, ActorKeys.read(keys / "actor")) as actor,
    ):
        actor.put(make_unroll(spec))
        pump_until(lambda: len(inbox.arrivals) == 1, inbox, actor)
        assert inbox.arrivals[0].unroll is not None


def test_without_a_key_nobody_gets_in_and_the_error_says_so(inbox: Inbox) -> None:
    assert "only admits actors with keys: name this actor's folder with --keys" in refusal(inbox, None)


def test_an_unknown_key_is_refused_by_name(inbox: Inbox, tmp_path: Path, keys: Path) -> None:
    make(tmp_path / "elsewhere", RUN, ["actor"])
    stranger = ActorKeys.read(tmp_path / "elsewhere" / "actor")
    mixed = ActorKeys(stranger.own, ActorKeys.read(keys / "actor").learner)
    assert f"does not admit this actor's key {mixed.own.public.decode()}" in refusal(inbox, mixed)
    assert inbox.malformed["key"] > 0, "an operator can see it"


@pytest.mark.slow
def test_an_actor_of_another_run_does_not_take_this_learner_for_its_own(inbox: Inbox, tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "elsewhere", ["actor"])
    started = time.monotonic()
    assert "its key is not the one in learner.public" in refusal(
        inbox, ActorKeys.read(tmp_path / "elsewhere" / "actor")
    )
    assert time.monotonic() - started < ERROR_WITHIN_S


def test_an_admitted_actor_of_another_run_is_not_heard(inbox: Inbox, keys: Path) -> None:
    with outbox(inbox.port, ActorKeys.read(keys / "actor"), run="another") as actor:
        pump_until(lambda: inbox.malformed["run"] > 0, inbox, actor)
    assert not inbox.peers


def test_a_withdrawn_key_is_out_at_once_and_the_others_are_not(inbox: Inbox, keys: Path) -> None:
    pair = {name: ActorKeys.read(keys / name) for name in ("actor", "other")}
    with outbox(inbox.port, pair["actor"], "a") as actor, outbox(inbox.port, pair["other"], "b") as other:
        pump_until(lambda: len(inbox.peers) == 2, inbox, actor, other)
        actor.pump()
        allowed = keys / "learner" / ALLOWED
        kept = [line for line in allowed.read_text().splitlines() if not line.startswith("actor ")]
        allowed.write_text("\n".join(kept) + "\n")
        with pytest.raises(SetupError, match="no longer admits this actor's key .* was withdrawn while .* connected"):
            actor.put(make_unroll())
            pump_until(lambda: False, inbox, actor)
        assert inbox.malformed["revoked"] > 0
        other.put(make_unroll(actor="b", incarnation="b-1"))
        pump_until(lambda: bool(inbox.arrivals), inbox, other)
        assert {arrival.incarnation for arrival in inbox.arrivals} == {"b-1"}


def test_a_withdrawn_key_is_refused_when_it_comes_back(inbox: Inbox, keys: Path) -> None:
    withdrawn, learner = ActorKeys.read(keys / "actor"), LearnerKeys.read(keys / "learner")
    before = Inbox("tcp://127.0.0.1:*", RUN, "learner-0", SPEC, 100, {}, keys=learner)
    with before, outbox(before.port, withdrawn) as actor:
        pump_until(lambda: bool(before.peers), before, actor)
    (keys / "learner" / ALLOWED).write_text("")
    assert "does not admit this actor's key" in refusal(inbox, withdrawn)


def test_a_line_that_cannot_be_read_admits_nobody_and_the_others_stay(keys: Path) -> None:
    path = keys / "learner" / ALLOWED
    allowed = AllowList(path)
    key = ActorKeys.read(keys / "actor").own.public
    assert allowed.name(key) == "actor"
    text = path.read_text()
    path.write_text(text + "new nonsense\n")
    assert allowed.name(key) == "actor"
    path.write_text("actor nonsense\n")
    assert allowed.name(key) is None
    path.write_text(text + f"actor {public_key(b'0' * 40).decode()}\n")
    assert allowed.name(key) is None, "which of the two is meant?"
    with pytest.raises(SetupError, match=r"authorized_keys, line \d+: a second key for \w+; remove one of the two"):
        allowed.read()
    path.unlink()
    assert allowed.name(key) is None
    path.write_text(text)
    assert allowed.name(key) == "actor"


def test_a_recorded_session_is_of_no_use(inbox: Inbox, keys: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tap:
        sent = bytearray()
        pipes = threading.Thread(target=_record, args=(tap, inbox.port, sent))
        pipes.start()
        with outbox(tap.getsockname()[1], ActorKeys.read(keys / "actor")) as actor:
            actor.put(make_unroll())
            pump_until(lambda: len(inbox.arrivals) == 1, inbox, actor)
        pump_until(lambda: not pipes.is_alive(), inbox)
        pipes.join()
    inbox.forget("a-1")
    assert len(sent) > make_unroll().rgb.nbytes, "the tap saw nothing"
    with socket.create_connection(("127.0.0.1", inbox.port)) as replay:
        replay.sendall(sent)
        replay.settimeout(0.01)
        hung_up = False
        deadline = time.monotonic() + PATIENCE_S
        while not hung_up:
            assert time.monotonic() < deadline, "the learner went on with the recording"
            inbox.poll(0.01)
            with contextlib.suppress(TimeoutError):
                try:
                    hung_up = not replay.recv(65536)
                except ConnectionError:
                    hung_up = True
    assert not inbox.peers and not inbox.arrivals and not inbox.malformed


def _record(tap: socket.socket, port: int, sent: bytearray) -> None:
    """Passes one connection through and keeps what the actor sends."""
    actor, _ = tap.accept()
    with actor, socket.create_connection(("127.0.0.1", port)) as learner:
        back = threading.Thread(target=_copy, args=(learner, actor, bytearray()))
        back.start()
        _copy(actor, learner, sent)
        back.join()


def _copy(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_without_anybody_to_ask_nobody_is_admitted(keys: Path) -> None:
    """Should the handler ever be missing, libzmq must not let everybody in; here it answers in another context."""
    learner, actor = LearnerKeys.read(keys / "learner"), ActorKeys.read(keys / "actor")
    with zmq.Context() as elsewhere, zmq.Context() as context:
        admission = Admission(learner, elsewhere, Counter())
        router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        admission.guard(router)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        deadline = time.monotonic() + PATIENCE_S
        with outbox(port, actor) as sender, pytest.raises(SetupError):
            while time.monotonic() < deadline:
                sender.pump(0.01)
        assert not router.poll(0)
        router.close(linger=0)
        admission.close()


@pytest.mark.parametrize("name", [SECRET, LEARNER])
def test_a_missing_or_broken_key_file_is_named(keys: Path, name: str) -> None:
    (keys / "actor" / name).write_text("short\n")
    with pytest.raises(SetupError, match=rf"actor/{name}: found no key of 40 characters"):
        ActorKeys.read(keys / "actor")
    for wrong in ("", "~" * 40, "#" * 40):  # nothing, no characters of Z85, and more than 32 bits hold
        (keys / "actor" / name).write_text(f"{wrong}\n")
        with pytest.raises(SetupError, match=rf"actor/{name}: found no key of 40 characters .* repeat `bidist keys`"):
            ActorKeys.read(keys / "actor")
    (keys / "actor" / name).unlink()
    with pytest.raises(SetupError, match=rf"actor/{name}.*No such file"):
        ActorKeys.read(keys / "actor")


def test_commands_name_a_broken_key_file_in_one_line(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (keys / "learner" / SECRET).write_text("~" * 40 + "\n")
    learner = ["learner", "--redis", "redis://127.0.0.1:1/0", "--run", RUN, "--folder", str(keys / "runs")]
    learner += ["--substrate", "matrix_coordination", "--keys", str(keys / "learner")]
    for command in (learner, ["keys", str(keys), "--run", RUN]):
        assert main(command) == SetupError.status
        error = capsys.readouterr().err
        assert f"learner/{SECRET}: found no key" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "listen", ["tcp://*:5555", "tcp://0.0.0.0:*", "tcp://[::]:1", "tcp://10.0.0.1:5", "tcp://eth0:5", "ws://*:1"]
)
def test_a_port_beyond_this_machine_needs_keys_or_consent(listen: str, keys: Path) -> None:
    with pytest.raises(ConfigError, match=r"make keys with `bidist keys` .* or accept it with learner\.plain_tcp=true"):
        check_exposure(listen, LearnerConfig(), None)
    check_exposure(listen, LearnerConfig(plain_tcp=True), None)
    check_exposure(listen, LearnerConfig(), LearnerKeys.read(keys / "learner"))


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:*", "tcp://[::1]:5", "tcp://localhost:5"])
def test_a_port_of_this_machine_needs_neither(listen: str) -> None:
    check_exposure(listen, LearnerConfig(), None)


def test_the_command_refuses_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner = ["learner", "--redis", "redis://127.0.0.1:1/0", "--run", "open", "--folder", str(tmp_path)]
    learner += ["--substrate", "matrix_coordination", "--listen", "tcp://*:*"]
    assert main(learner) == ConfigError.status
    assert "lets anybody who reaches this machine send unrolls" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*learner, "learner.plain_tcp=true"]) == StoreError.status, "it gets as far as Redis, which is away"
    assert main([*learner, "--keys", str(tmp_path / "none")]) == SetupError.status
    assert "`bidist keys` makes such files" in capsys.readouterr().err


def test_the_test_can_fail_without_keys_an_intruder_gets_in() -> None:
    with Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 100, {}) as inbox:
        dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, b"a-1")
        dealer.connect(f"tcp://127.0.0.1:{inbox.port}")
        dealer.send(pack(Hello(protocol=PROTOCOL, kind="hello", run=RUN, actor="a", incarnation="a-1")))
        pump_until(lambda: "a-1" in inbox.peers, inbox)
        dealer.close(linger=0)
