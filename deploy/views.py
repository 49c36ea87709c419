"""What a run looks like: one screen from its data in Redis, for `train`, `status` and `watch`.

Each function raises a `StoreError` if that data is damaged.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from common.config import Config
from common.errors import StoreError
from common.ledger import Balance
from common.run_folder import renamed
from common.store import Store
from common.third_party import foreign
from methods import Method, make_method

POINTS = 60
BARS = "▁▂▃▄▅▆▇█"


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(f"the run's data in Redis is damaged: {type(error).__name__} {reason}") from None


@dataclass(frozen=True)
class Snapshot:
    """The state of a run, read from Redis."""

    run: str
    config: Config | None
    progress: Mapping[str, str]
    queue: Mapping[str, str]
    workers: Mapping[tuple[str, str], Mapping[str, str]]
    ledger: Balance
    metrics: Mapping[str, float]
    returns: list[float]
    distillation: Mapping[str, str]

    @property
    def player_steps(self) -> int:
        """Player steps so far."""
        return int(self.progress.get("player_steps", 0))

    @property
    def budget(self) -> int:
        """The run's length in player steps."""
        return int(self.progress.get("budget_player_steps", 0))

    @property
    def seconds_left(self) -> float | None:
        """Time left at the current rate, or None if that is unknown or nothing is trained."""
        rate = 0.0 if self.halted else float(self.progress.get("player_steps_per_s", 0))
        return (self.budget - self.player_steps) / rate if rate > 0 else None

    @property
    def distils(self) -> bool:
        """Whether the run's method has distillation events."""
        return bool(self.distillation) if self._method is None else bool(self._method.directions)

    @property
    def _method(self) -> Method | None:
        # Looking at a run must not import what its configuration names.
        return None if self.config is None or foreign(self.config) else make_method(self.config)

    def missing(self) -> list[str]:
        """Returns the roles that the run needs and that send no heartbeats."""
        if self.progress.get("state") != "running":
            return []
        roles = {role for role, _ in self.workers}
        phi = self.distils if self._method is None else self._method.phi is not None
        return [role for role in ("learner", "actor", *["distiller"] * phi) if role not in roles]

    @property
    def halted(self) -> str:
        """Why nothing is trained: the learner is `missing` or `starting`; empty if it is at work or the run is over."""
        if "learner" in self.missing():
            return "missing"
        states = [fields.get("state") for (role, _), fields in self.workers.items() if role == "learner"]
        return "starting" if states == ["starting"] else ""

    def unsaved(self) -> list[str]:
        """Returns, for each role whose newest checkpoint could not be saved, why."""
        found = {role: fields.get("unsaved") for (role, _), fields in self.workers.items()}
        return [f"the {role}'s checkpoint is missing: {why}" for role, why in found.items() if why]


@_reading()
def snapshot(store: Store) -> Snapshot:
    """Reads a run's state."""
    text = store.client.get(store.key("config"))
    history = [renamed(fields) for _, fields in store.stream("metrics", POINTS)]
    events = [f for _, f in store.stream("events", 100) if f["event"] == "distillation"]
    return Snapshot(
        run=store.run,
        config=None if text is None else Config.model_validate(json.loads(text)),
        progress=store.hash("progress"),
        queue=store.hash("queue"),
        workers=store.workers(),
        ledger=store.ledger.balance(),
        metrics={k: float(v) for k, v in history[-1].items()} if history else {},
        returns=[float(f["return_learning"]) for f in history if "return_learning" in f],
        distillation=events[-1] if events else {},
    )


@_reading()
def plain(s: Snapshot) -> str:
    """Returns one line for logs, which add the time."""
    if not s.metrics:
        return _starting(s)
    parts = [
        f"{s.player_steps:,}/{s.budget:,} player steps",
        *([] if s.halted else [f"{_rate(s)}/s", f"left {_duration(s.seconds_left)}"]),
        f"return {_returns(s)}",
        f"lag {number(s.metrics, 'policy_lag_mean', 1)}",
        f"entropy {number(s.metrics, 'entropy_nats')}",
    ]
    if s.distillation:
        d = s.distillation
        kl = f"{float(d['kl_before_nats']):.3f}->{float(d['kl_after_nats']):.3f}"
        parts.append(f"{d['direction']} {d['events']} KL {kl}")
    parts += [_halted(s)] if s.halted else []
    parts += [f"{role} is missing" for role in s.missing() if role != "learner"] + s.unsaved()
    return " | ".join(parts)


@_reading()
def render(s: Snapshot) -> RenderableType:
    """Returns one screen."""
    if not s.metrics:
        return Panel(_starting(s), title=s.run, border_style="dim")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    bar = ProgressBar(total=max(s.budget, 1), completed=s.player_steps, width=30)
    rows.add_row("player steps", _beside(bar, f" {s.player_steps:,} of {s.budget:,}"))
    rows.add_row("env steps", _env_steps(s))
    pace = f"{_rate(s)} player steps/s, time left {_duration(s.seconds_left)}, "
    rows.add_row("state" if s.halted else "rate", f"{'' if s.halted else pace}{s.progress.get('state', '?')}")
    rows.add_row("return", _beside(Text(_sparkline(s.returns), style="green"), f" {_returns(s)}"))
    m = s.metrics
    rows.add_row(
        "learner",
        f"update {s.progress.get('updates', '?')}: {number(m, 'update_s')} s, waited {number(m, 'wait_s')} s; "
        f"entropy {number(m, 'entropy_nats')} nats",
    )
    lag = "/".join(number(m, f"policy_lag_{name}", 1) for name in ("min", "mean", "max"))
    rows.add_row("policy lag", f"{lag} versions (min/mean/max)")
    queue = s.queue
    rows.add_row("queue", f"{queue.get('unrolls', '?')} of {queue.get('capacity_unrolls', '?')} unrolls")
    if not s.halted:
        rows.add_row("waiting", queue.get("bottleneck", "?"))
    rows.add_row("distillation", _distillation(s))
    for (role, name), fields in s.workers.items():
        rows.add_row(role if role == name else f"{role} {name}", _worker(fields))
    style = "green" if s.ledger.holds else "bold red"
    rows.add_row("ledger, unrolls", Text(str(s.ledger), style=style))
    warnings = [Text(_halted(s), style="yellow")] if s.halted else []
    warnings += [
        Text(f"{role} is missing: the run continues without it as far as possible", style="yellow")
        for role in s.missing()
        if role != "learner"
    ]
    warnings += [Text(why, style="bold red") for why in s.unsaved()]
    if refused := s.queue.get("malformed_reasons"):
        warnings.append(Text(f"dropped messages and refused keys, by reason: {refused}", style="yellow"))
    if lost := s.ledger.unrecorded:
        warnings.append(
            Text(f"Redis has lost the outcomes of {lost:,} unrolls that theta was trained on", style="yellow")
        )
    return Panel(Group(rows, *warnings), title=s.run, border_style="dim")


def _starting(s: Snapshot) -> str:
    if not s.workers:
        return "starting: waiting for the roles to come up"
    here = ", ".join(f"{role} {fields.get('state', '')}" for (role, _), fields in s.workers.items())
    absent = "".join(f"; no {role} yet" for role in s.missing())
    return f"starting: {here}{absent}; waiting for the first update"


def _halted(s: Snapshot) -> str:
    until = "back" if s.halted == "missing" else "ready"
    return f"learner is {s.halted}: nothing is trained until it is {until}"


def _rate(s: Snapshot) -> str:
    return f"{int(s.progress.get('player_steps_per_s', 0)):,}"


def _env_steps(s: Snapshot) -> str:
    """Describes the steps of the game, played and budgeted; player steps count each of its players."""
    steps, player_steps = (int(s.metrics.get(name, 0)) for name in ("env_steps", "player_steps"))
    return f"{steps:,} of {round(s.budget * steps / player_steps):,}" if player_steps else "–"


def _returns(s: Snapshot) -> str:
    text = f"{number(s.metrics, 'return_learning')} learning"
    return f"{text}, {s.metrics['return_others']:.2f} others" if "return_others" in s.metrics else text


def _distillation(s: Snapshot) -> str:
    if not s.distils:
        return "this method has none"
    if not s.distillation:
        return "none yet"
    d = s.distillation
    return (
        f"event {d['events']}, {d['direction']}: KL {float(d['kl_before_nats']):.3f} -> "
        f"{float(d['kl_after_nats']):.3f} nats, phi's entropy {float(d['phi_entropy_after_nats']):.2f}"
    )


def _worker(fields: Mapping[str, str]) -> str:
    parts = [fields.get("state", "?")]
    if "player_steps_per_s" in fields:
        parts.append(f"{int(fields['player_steps_per_s']):,}/s")
    # -1 stands for a method without phi.
    versions = {name: int(fields.get(f"{name}_version", -1)) for name in ("theta", "phi")}
    parts += [f"{name} {version}" for name, version in versions.items() if version >= 0]
    return ", ".join(parts)


def number(values: Mapping[str, float], name: str, digits: int = 2) -> str:
    """Returns a value as text, a dash if there is none."""
    value = values.get(name)
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, s = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{s:02d}s"


def _sparkline(values: list[float], width: int = 30) -> str:
    if len(values) < 2:
        return ""
    step = max(1, -(-len(values) // width))
    picked = values[::-step][::-1]
    low, high = min(picked), max(picked)
    span = (high - low) or 1.0
    return "".join(BARS[int((v - low) / span * (len(BARS) - 1))] for v in picked)


def _beside(left: RenderableType, right: str) -> RenderableType:
    grid = Table.grid()
    grid.add_row(left, right)
    return grid
