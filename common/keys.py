"""Key files: which actors a learner admits, and how the two recognise each other.

Each party has a folder of its own and needs nothing from the others' (`bidist keys` makes them all):

    learner   curve.secret      its secret key
              authorized_keys   a line `NAME KEY` for each actor it admits; without its line, it is out at once
    actor     curve.secret      its secret key
              learner.public    the key of the only learner that it sends unrolls to

The keys are CurveZMQ's: 32 bytes as 40 characters of Z85. Every connection negotiates new session keys from them, so a
recorded session is useless.
"""

import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from common.errors import SetupError

log = logging.getLogger(__name__)

SECRET, LEARNER, ALLOWED = "curve.secret", "learner.public", "authorized_keys"
KEY_CHARACTERS, KEY_BYTES = 40, 32


@dataclass(frozen=True)
class KeyPair:
    """A public key and its secret counterpart, both in Z85."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "KeyPair":
        """Reads the pair of the secret key in a folder.

        Raises:
          SetupError: if its file is missing or holds no key.
        """
        secret = _key(folder / SECRET)
        return cls(public_key(secret), secret)


@dataclass(frozen=True)
class ActorKeys:
    """What an actor connects with.

    Attributes:
      own: its key pair.
      learner: the learner's public key.
    """

    own: KeyPair
    learner: bytes

    @classmethod
    def read(cls, folder: Path) -> "ActorKeys":
        """Reads an actor's folder.

        Raises:
          SetupError: if a file is missing or holds no key.
        """
        return cls(KeyPair.read(folder), _key(folder / LEARNER))


@dataclass(frozen=True)
class LearnerKeys:
    """What a learner admits actors with.

    Attributes:
      own: its key pair.
      allowed: the keys that it admits.
    """

    own: KeyPair
    allowed: "AllowList"

    @classmethod
    def read(cls, folder: Path) -> "LearnerKeys":
        """Reads a learner's folder.

        Raises:
          SetupError: if a file is missing or holds no key.
        """
        allowed = AllowList(folder / ALLOWED)
        allowed.read()
        return cls(KeyPair.read(folder), allowed)


class AllowList:
    """The actors' keys in a file, which is read again whenever it changes.

    Args:
      path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[bytes, str] = {}

    def name(self, key: bytes) -> str | None:
        """Returns the name under which a key is admitted; None if it is not, or the file cannot be read."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                keys, problems = self._parsed()
                for problem in problems:
                    log.error("this line admits nobody: %s", problem)
                self._names = {admitted: name for name, admitted in keys.items()}
                self._seen = seen
        except (OSError, SetupError) as error:
            if self._names or self._seen is not None:
                log.error("no actor is admitted until this is fixed: %s", error)
            self._names, self._seen = {}, None
        return self._names.get(key)

    def read(self) -> Mapping[str, bytes]:
        """Returns the key of each name in the file.

        Raises:
          SetupError: if it cannot be read, a line is not `NAME KEY`, or a name occurs twice.
        """
        keys, problems = self._parsed()
        if problems:
            raise SetupError(problems[0])
        return keys

    def _parsed(self) -> tuple[dict[str, bytes], list[str]]:
        """Returns the key of each name, and what is wrong with the lines that are left out."""
        keys, problems, twice = dict[str, bytes](), list[str](), set[str]()
        for number, line in enumerate(_text(self._path).splitlines(), start=1):
            name, _, key = line.strip().partition(" ")
            if name in keys:
                problems.append(f"{self._path}, line {number}: a second key for {name}; remove one of the two lines")
                twice.add(name)  # which of them is meant is unknown, so neither counts
            elif name and not name.startswith("#"):
                try:
                    keys[name] = _checked(key.strip(), f"{self._path}, line {number}, expected NAME KEY")
                except SetupError as error:
                    problems.append(str(error))
        return {name: key for name, key in keys.items() if name not in twice}, problems


def public_key(secret: bytes) -> bytes:
    """Returns the public key of a secret one, both in Z85."""
    return bytes(zmq.curve_public(secret))


def _key(path: Path) -> bytes:
    return _checked(_text(path).strip(), str(path), " and repeat `bidist keys`, which makes such files")


def _checked(key: str, place: str, otherwise: str = "") -> bytes:
    try:
        whole = len(key) == KEY_CHARACTERS and len(z85.decode(key)) == KEY_BYTES
    except (KeyError, ValueError, struct.error):  # a character, or five of them, that Z85 does not have
        whole = False
    if not whole:
        raise SetupError(
            f"{place}: found no key of {KEY_CHARACTERS} characters in Z85; copy it again, or remove it{otherwise}"
        )
    return key.encode()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path}: {error}; `bidist keys` makes such files") from None
