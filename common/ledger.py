"""The ledger: the outcome of every unroll ever produced, kept in Redis so that it survives any process.

    produced = trained + stale + rejected + rewound + lost + in flight

Unrolls are numbered 1, 2, 3, ... within an incarnation of an actor, and the learner accounts for them in that order, so
two numbers per incarnation are enough: the last one produced and the last one accounted for. Every change is one
atomic, idempotent Lua script; a caller whose connection broke simply calls again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from common.errors import SetupError, StoreError

Outcome = Literal["trained", "stale", "rejected"]

Entry = tuple[str, int, Outcome, str]
"""The outcome of one unroll: its incarnation, its sequence number, the outcome, and the reason or ''."""

CLOSED_KEPT = 10_000
"""How many closed incarnations are remembered; one that was only stopped counts again if it outlasts so many others."""

# KEYS: ledger, sequences, closed, closings and, for a learner, the run's owner, without whom no learner may change
# anything. If Redis comes back with an older state of its file, the accounts may be ahead of the production; `_ACCOUNT`
# then raises `produced` to match.
_PRODUCE = """
if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then return 0 end
local field = ARGV[1] .. ':produced'
local before = tonumber(redis.call('HGET', KEYS[2], field) or 0)
local now = tonumber(ARGV[2])
if now > before then
  redis.call('HSET', KEYS[2], field, now)
  redis.call('HINCRBY', KEYS[1], 'produced', now - before)
end
return 1
"""
_OWNED = """
if ARGV[1] ~= '' then
  local owner = redis.call('GET', KEYS[5])
  if owner and owner ~= ARGV[1] then return -1 end
end
"""
_ACCOUNT = """
for i = 2, #ARGV, 4 do
  local incarnation, sequence = ARGV[i], tonumber(ARGV[i + 1])
  local produced = tonumber(redis.call('HGET', KEYS[2], incarnation .. ':produced') or 0)
  local accounted = tonumber(redis.call('HGET', KEYS[2], incarnation .. ':accounted') or 0)
  if sequence > accounted and redis.call('SISMEMBER', KEYS[3], incarnation) == 0 then
    if sequence > produced then
      redis.call('HSET', KEYS[2], incarnation .. ':produced', sequence)
      redis.call('HINCRBY', KEYS[1], 'produced', sequence - produced)
    end
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
local produced = tonumber(redis.call('HGET', KEYS[2], ARGV[2] .. ':produced') or 0)
local accounted = tonumber(redis.call('HGET', KEYS[2], ARGV[2] .. ':accounted') or 0)
redis.call('HDEL', KEYS[2], ARGV[2] .. ':produced', ARGV[2] .. ':accounted')
if redis.call('SADD', KEYS[3], ARGV[2]) == 1 then
  if redis.call('LPUSH', KEYS[4], ARGV[2]) > tonumber(ARGV[3]) then
    redis.call('SREM', KEYS[3], redis.call('RPOP', KEYS[4]))
  end
end
if produced > accounted then
  redis.call('HINCRBY', KEYS[1], 'lost', produced - accounted)
end
return produced - accounted
"""
_REWIND = """
local trained = tonumber(redis.call('HGET', KEYS[1], 'trained') or 0)
local kept = tonumber(ARGV[2])
if trained > kept then
  redis.call('HSET', KEYS[1], 'trained', kept)
  redis.call('HINCRBY', KEYS[1], 'rewound', trained - kept)
end
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


class Ledger:
    """The counters of one run.

    Args:
      client: a Redis client that does not decode responses.
      ledger: key of the hash with the totals.
      sequences: key of the hash with each open incarnation's two numbers.
      closed: key of the set of closed incarnations, whose late reports are ignored.
      closings: key of the list of the same incarnations, the last one closed first.
      owner: key of the incarnation of the run's learner.
      token: this ledger can be changed only while `owner` holds it, or has been lost; empty for no such condition.
      closed_kept: how many closed incarnations are remembered.
    """

    def __init__(
        self,
        client: Any,
        ledger: str,
        sequences: str,
        closed: str,
        closings: str,
        owner: str,
        token: str = "",
        *,
        closed_kept: int = CLOSED_KEPT,
    ) -> None:
        self._client, self._owner, self._token, self._closed_kept = client, owner, token, closed_kept
        self._keys = (ledger, sequences, closed, closings)
        self._guarded = (*self._keys, owner) if token else self._keys
        scripts = (_PRODUCE, _OWNED + _ACCOUNT, _OWNED + _CLOSE, _OWNED + _REWIND)
        self._produce, self._account, self._close, self._rewind = map(client.register_script, scripts)

    def of(self, token: str) -> "Ledger":
        """Returns the same ledger for the run's learner, which can change it only while it owns the run."""
        return Ledger(self._client, *self._keys, self._owner, token, closed_kept=self._closed_kept)

    def produced(self, incarnation: str, sequence: int) -> bool:
        """Records that an actor has produced everything up to a sequence number; call it before sending.

        Returns False, and records nothing, if the incarnation missed its heartbeats and was closed.
        """
        return bool(self._produce(keys=self._keys, args=[incarnation, sequence]))

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

    def rewind(self, trained: int) -> None:
        """Records that the learner resumed from a checkpoint with that many unrolls trained."""
        self._change(self._rewind, trained)

    def _change(self, script: Any, *args: str | int) -> int:
        done = int(script(keys=self._guarded, args=[self._token, *args]) or 0)
        if done < 0:
            raise SetupError("another learner took this run over; a run has only one")
        return done

    def incarnations(self) -> dict[str, tuple[int, int]]:
        """Returns the last produced and last accounted sequence number of each open incarnation."""
        fields = _integers(self._client.hgetall(self._keys[1]))
        names = {field.rpartition(":")[0] for field in fields}
        return {n: (fields.get(f"{n}:produced", 0), fields.get(f"{n}:accounted", 0)) for n in names}

    def balance(self) -> Balance:
        """Reads both sides at the same moment."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys[0])
            pipe.hgetall(self._keys[1])
            totals, sequences = map(_integers, pipe.execute())
        sign = {"produced": 1, "accounted": -1}
        in_flight = sum(sign[field.rpartition(":")[2]] * n for field, n in sequences.items())
        counts = {k: totals.get(k, 0) for k in ("produced", "trained", "stale", "rejected", "rewound", "lost")}
        reasons = {name: n for name, n in sorted(totals.items()) if ":" in name}
        return Balance(**counts, in_flight=in_flight, reasons=reasons)


def _integers(fields: Any) -> dict[str, int]:
    try:
        return {name.decode(): int(value) for name, value in fields.items()}
    except ValueError as error:
        raise StoreError(f"the ledger in Redis is damaged: {error}") from None
