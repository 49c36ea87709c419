"""The ledger: the outcome of every unroll ever produced, kept in Redis so that it survives any process.

    produced = trained + stale + rejected + rewound + lost + in flight

Unrolls are numbered 1, 2, 3, ... within an incarnation of an actor, and the learner accounts for them in that order, so
two numbers per incarnation are enough: the last one produced and the last one accounted for. Every change is one
atomic, idempotent Lua script; a caller whose connection broke simply calls again.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import redis

from common.errors import SetupError, StoreError

log = logging.getLogger(__name__)

Outcome = Literal["trained", "stale", "rejected"]

Entry = tuple[str, int, Outcome, str]
"""The outcome of one unroll: its incarnation, its sequence number, the outcome, and the reason or ''."""

CHANGES_KEPT = 1_000
"""How many of its changes a learner can repeat. A Redis crash loses at most the last second or two."""

CLOSED_KEPT = 10_000
"""How many closed incarnations to remember. A paused actor may be counted again if that many others close meanwhile."""

# An actor writes only its own number in `reported`, and adds nothing to the totals: the learner copies the number when
# it records outcomes and when it closes the incarnation. So no actor can change or erase an account. Non-numeric values
# count as 0; a `reported` of the wrong type is deleted.
_NUMBER = """
local function number(key, incarnation)
  local text = redis.call('HGET', key, incarnation) or ''
  return string.match(text, '^%d+$') and #text < 13 and tonumber(text) or 0
end
"""
# KEYS of an actor: reported. It may only read `closed`, which is therefore an argument: Redis runs no script of a user
# who may not write all its keys.
_PRODUCE = """
if redis.call('SISMEMBER', ARGV[3], ARGV[1]) == 1 then return 0 end
if tonumber(ARGV[2]) > number(KEYS[1], ARGV[1]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""
# KEYS of a learner: ledger, sequences, closed, closings, reported, change and the run's owner, who alone may change
# anything. A learner numbers its changes, so late duplicates are ignored and lost changes are detected. ARGV: its
# token, the number, 1 to accept a gap; then the change's own. If Redis comes back with an older file, the accounts may
# also be ahead of what was reported; `produced` is raised to match.
_OWNED = """
if redis.call('TYPE', KEYS[5]).ok ~= 'hash' then redis.call('DEL', KEYS[5]) end
if ARGV[1] ~= '' then
  local owner = redis.call('GET', KEYS[7])
  if owner and owner ~= ARGV[1] then return -1 end
  local who, last = string.match(redis.call('GET', KEYS[6]) or '', '^(.*) (%d+)$')
  if who == ARGV[1] then
    if tonumber(ARGV[2]) <= tonumber(last) then return 0 end
    if tonumber(ARGV[2]) > last + 1 and ARGV[3] == '0' then return -2 - last end
  end
  redis.call('SET', KEYS[6], ARGV[1] .. ' ' .. ARGV[2])
end
local function take_over(incarnation, sequence)
  local before = tonumber(redis.call('HGET', KEYS[2], incarnation .. ':produced') or 0)
  local now = math.max(before, number(KEYS[5], incarnation), sequence)
  if now > before then
    redis.call('HSET', KEYS[2], incarnation .. ':produced', now)
    redis.call('HINCRBY', KEYS[1], 'produced', now - before)
  end
  return now
end
"""
_ACCOUNT = """
for i = 4, #ARGV, 4 do
  local incarnation, sequence = ARGV[i], tonumber(ARGV[i + 1])
  local accounted = tonumber(redis.call('HGET', KEYS[2], incarnation .. ':accounted') or 0)
  if sequence > accounted and redis.call('SISMEMBER', KEYS[3], incarnation) == 0 then
    take_over(incarnation, sequence)
    if sequence > accounted + 1 then
      redis.call('HINCRBY', KEYS[1], 'lost', sequence - accounted - 1)
    end
    redis.call('HSET', KEYS[2], incarnation .. ':accounted', sequence)
    redis.call('HINCRBY', KEYS[1], ARGV[i + 2], 1)
    if ARGV[i + 3] ~= '' then
      redis.call('HINCRBY', KEYS[1], ARGV[i + 2] .. ':' .. ARGV[i + 3], 1)
    end
  end
end
"""
_CLOSE = """
local incarnation = ARGV[4]
local produced = take_over(incarnation, 0)
local accounted = tonumber(redis.call('HGET', KEYS[2], incarnation .. ':accounted') or 0)
redis.call('HDEL', KEYS[2], incarnation .. ':produced', incarnation .. ':accounted')
redis.call('HDEL', KEYS[5], incarnation)
if redis.call('SADD', KEYS[3], incarnation) == 1 then
  if redis.call('LPUSH', KEYS[4], incarnation) > tonumber(ARGV[5]) then
    redis.call('SREM', KEYS[3], redis.call('RPOP', KEYS[4]))
  end
end
if produced > accounted then
  redis.call('HINCRBY', KEYS[1], 'lost', produced - accounted)
end
return produced - accounted
"""
# A checkpoint ahead of the ledger means that Redis has lost outcomes: the difference is kept, so that later rewinds are
# counted from the right number.
_REWIND = """
local trained = tonumber(redis.call('HGET', KEYS[1], 'trained') or 0)
local unrecorded = tonumber(redis.call('HGET', KEYS[1], 'unrecorded') or 0)
local ahead = trained + unrecorded - tonumber(ARGV[4])
local taken = math.max(0, math.min(trained, ahead))
if taken > 0 then
  redis.call('HSET', KEYS[1], 'trained', trained - taken)
  redis.call('HINCRBY', KEYS[1], 'rewound', taken)
end
if ahead ~= taken then redis.call('HINCRBY', KEYS[1], 'unrecorded', taken - ahead) end
return math.max(0, ahead)
"""


@dataclass(frozen=True)
class Balance:
    """Both sides of the ledger, in unrolls."""

    produced: int
    trained: int
    stale: int
    rejected: int
    rewound: int
    lost: int
    in_flight: int
    reasons: Mapping[str, int]
    """How many were stale or rejected, by reason."""
    unrecorded: int = 0
    """Unrolls that theta was trained on whose outcome Redis lost; they count elsewhere, or nowhere if it lost all."""

    @property
    def accounted(self) -> int:
        """The right-hand side of the identity."""
        return self.trained + self.stale + self.rejected + self.rewound + self.lost + self.in_flight

    @property
    def holds(self) -> bool:
        """Whether the identity holds."""
        return self.produced == self.accounted

    def __str__(self) -> str:
        sign = "=" if self.holds else "≠"
        return (
            f"produced {self.produced:,} {sign} trained {self.trained:,} + stale {self.stale:,} + rejected "
            f"{self.rejected:,} + rewound {self.rewound:,} + lost {self.lost:,} + in flight {self.in_flight:,}"
        )


class _Change(NamedTuple):
    """A learner's change of the ledger: its number, its script and the script's arguments."""

    number: int
    script: Any
    args: tuple[str | int, ...]


class Ledger:
    """The counters of one run.

    Args:
      client: a Redis client that does not decode responses.
      key: returns the full name of one of the run's keys. The ledger's are `ledger`, a hash with the totals;
        `sequences`, a hash with each open incarnation's two numbers; `reported`, a hash with the number of unrolls that
        each open incarnation says it produced; `closed`, the set of closed incarnations, whose late reports are
        ignored; `closings`, the list of the same, the last one closed first; `change`, the learner's last change; and
        `learner`, who owns the run.
      token: this ledger can be changed only while the run's owner is this one, or has been lost; empty for no such
        condition.
      closed_kept: how many closed incarnations are remembered.
    """

    def __init__(
        self, client: Any, key: Callable[[str], str], token: str = "", *, closed_kept: int = CLOSED_KEPT
    ) -> None:
        self._client, self._key, self._token, self._closed_kept = client, key, token, closed_kept
        self._keys = [*map(key, ("ledger", "sequences", "closed", "closings", "reported", "change", "learner"))]
        self._changes: deque[_Change] = deque(maxlen=CHANGES_KEPT)
        self._produce = client.register_script(_NUMBER + _PRODUCE)
        self._account, self._close, self._rewind = (
            client.register_script(_NUMBER + _OWNED + script) for script in (_ACCOUNT, _CLOSE, _REWIND)
        )

    def of(self, token: str) -> "Ledger":
        """Returns the same ledger for the run's learner, which can change it only while it owns the run."""
        return Ledger(self._client, self._key, token, closed_kept=self._closed_kept)

    def produced(self, incarnation: str, sequence: int) -> bool:
        """Records that an actor has produced everything up to a sequence number; call it before sending.

        Returns False, and records nothing, if the incarnation missed its heartbeats and was closed.
        """
        reported, closed = self._key("reported"), self._key("closed")
        return bool(self._produce(keys=[reported], args=[incarnation, sequence, closed]))

    def account(self, entries: Iterable[Entry]) -> None:
        """Records outcomes; those of one incarnation must be in order of sequence.

        Raises, like `close` and `rewind`:
          SetupError: if another learner has taken the run over.
        """
        args = [field for entry in entries for field in entry]
        if args:
            self._change(self._account, *args)

    def close(self, incarnation: str) -> int:
        """Closes an incarnation and returns how many of its unrolls are lost: produced, but not accounted for."""
        return self._change(self._close, incarnation, self._closed_kept)

    def rewind(self, trained: int) -> int:
        """Records that theta was trained on that many unrolls; returns how many fewer that is than before.

        If it is more, the ledger has lost outcomes, which the balance shows as `unrecorded`.
        """
        return self._change(self._rewind, trained)

    def _change(self, script: Any, *args: str | int) -> int:
        number = self._changes[-1].number + 1 if self._changes else 1
        self._changes.append(_Change(number, script, args))
        done = self._apply(self._changes[-1])
        if done < 0:
            lost = [change for change in self._changes if change.number > -2 - done]
            log.warning("Redis lost the last %d changes of the ledger: repeating them", len(lost) - 1)
            if gone := lost[0].number - (-2 - done) - 1:
                log.error("%d older ones are beyond repair: the next learner counts them as unrecorded", gone)
            done = [self._apply(change, gap=True) for change in lost][-1]
        return done

    def _apply(self, change: "_Change", gap: bool = False) -> int:
        """Returns what a script returns; if Redis lacks changes, -2 less the number of the last one it has."""
        done = int(change.script(keys=self._keys, args=[self._token, change.number, int(gap), *change.args]) or 0)
        if done == -1:
            raise SetupError("another learner took this run over; a run has only one")
        return done

    def closed(self) -> list[str]:
        """Returns the closed incarnations that are remembered, in order of closing."""
        return [name.decode(errors="replace") for name in reversed(self._client.lrange(self._key("closings"), 0, -1))]

    def incarnations(self) -> dict[str, tuple[int, int]]:
        """Returns the last produced and last accounted sequence number of each open incarnation."""
        return self._read()[1]

    def balance(self) -> Balance:
        """Reads both sides at the same moment."""
        totals, living, unseen = self._read()
        in_flight = sum(produced - accounted for produced, accounted in living.values())
        counts = {k: totals.get(k, 0) for k in ("trained", "stale", "rejected", "rewound", "lost")}
        reasons = {name: n for name, n in sorted(totals.items()) if ":" in name}
        counts |= {"in_flight": in_flight, "unrecorded": totals.get("unrecorded", 0)}
        return Balance(totals.get("produced", 0) + unseen, **counts, reasons=reasons)

    def _read(self) -> tuple[dict[str, int], dict[str, tuple[int, int]], int]:
        """Returns the totals, the numbers of `incarnations`, and how many reported unrolls no total counts yet."""
        with self._client.pipeline(transaction=True) as pipe:
            for name in ("ledger", "sequences", "reported"):
                pipe.hgetall(self._key(name))
            totals, sequences, reported = pipe.execute(raise_on_error=False)
        reported = reported if isinstance(reported, dict) else {}  # an actor's user may have made it something else
        totals, sequences = (_integers(fields, self._key("ledger")) for fields in (totals, sequences))
        numbers = {name.decode(errors="replace"): n for name, n in reported.items() if re.fullmatch(rb"\d{1,12}", n)}
        reported = {name: int(n) for name, n in numbers.items() if "\N{REPLACEMENT CHARACTER}" not in name}
        living, unseen = {}, 0
        for name in {field.rpartition(":")[0] for field in sequences} | reported.keys():
            counted = sequences.get(f"{name}:produced", 0)
            produced = max(counted, reported.get(name, 0))
            living[name] = produced, sequences.get(f"{name}:accounted", 0)
            unseen += produced - counted
        return totals, living, unseen


def _integers(fields: Any, key: str) -> dict[str, int]:
    try:
        if isinstance(fields, redis.ResponseError):
            raise ValueError(fields)
        return {name.decode(): int(value) for name, value in fields.items()}
    except ValueError as error:
        words = f"delete {key} and {key.removesuffix('ledger')}sequences, and its counts restart from zero"
        raise StoreError(f"the ledger in Redis is damaged: {error}; to continue, {words}") from None
