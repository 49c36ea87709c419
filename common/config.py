"""The configuration model: every setting, its default and its meaning.

The learner writes a run's configuration to Redis, and the other roles read it from there and nowhere else.
`common.settings` resolves the values.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from common.cores import core_count

MAX_NUMBER = 2**63
MAX_NAME_LENGTH = 200
"""Of a run, in characters: it names files and travels in every message."""

Channels = Annotated[int, Field(ge=1, le=1024)]


class Section(BaseModel):
    """Part of the configuration: immutable; unknown settings are an error."""

    # Settings travel through Redis as JSON, which has no infinity.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what only Python takes for a number: YAML reads `yes` as true, which would be 1."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("Input should not be true or false")
        if isinstance(value, int) and abs(value) >= MAX_NUMBER:
            raise ValueError("Input should be a number of at most 63 bits")
        return value


class RunConfig(Section):
    """The run: its name, its length and where it is kept."""

    name: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$", max_length=MAX_NAME_LENGTH)
    """Name of the run, its folder and its keys in Redis; derived from method, substrate and time if empty."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seeds parameters, environments, player draws and shuffling; actors derive theirs from it and their name."""
    player_steps: int = Field(20_000_000, ge=1, le=10**15)
    """Length of the run: environment steps trained on, times the number of players."""
    folder: Path = Path("runs")
    """The folder that contains the runs' folders."""
    heartbeat_s: float = Field(2.0, ge=0.05, le=600)
    """Seconds between a role's heartbeats to Redis; it counts as gone after missing four."""
    checkpoint_s: float = Field(60.0, ge=0.01, le=86_400)
    """Seconds between checkpoints; another is written at the end and at an orderly stop."""
    keep_checkpoints: int = Field(5, ge=1, le=10_000)
    """Number of newest checkpoints to keep."""


class EnvironmentConfig(Section):
    """The game."""

    substrate: str = "pure_coordination_in_the_matrix__arena"
    """A Melting Pot substrate, a matrix game (`matrix_coordination`), or `pettingzoo:module:function`."""
    block: int = Field(8, ge=1, le=1024)
    """Edge in pixels of the squares whose mean a policy sees: 8 reduces 88x88 to 11x11, 1 keeps every pixel."""
    last_action_and_reward: bool = True
    """Whether players observe their own last action and reward, in training and in evaluation alike."""
    players: int | None = Field(None, ge=1, le=256)
    """Number of players of a matrix game; Melting Pot's substrates have their own."""
    episode_length: int = Field(16, ge=1, le=1_000_000)
    """Steps per episode of a matrix game; Melting Pot's substrates have their own."""


class NetworkConfig(Section):
    """The agent's network, the same for every method."""

    name: str = ""
    """`module:Class` for your own network; empty for the one that the other settings describe."""
    parameters: Literal["shared", "per_player"] = "shared"
    """`per_player`: a theta_i for each player i, as in the paper; `shared`: one theta for all."""
    channels: tuple[Channels, Channels] = (16, 32)
    """Output channels of the two 3x3 convolutions; the second has stride 2."""
    dense: int = Field(128, ge=1, le=8192)
    """Width of the dense layer after the convolutions, which makes the embedding."""
    core: Literal["gru", "lstm"] = "gru"
    """Type of the recurrent core."""
    core_size: int = Field(128, ge=1, le=8192)
    """Width of the recurrent core."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Of the convolutions and the dense layer; `auto` uses bfloat16 where the hardware multiplies it faster."""


class MethodConfig(Section):
    """The method's name, and its own settings: see the method's file for them."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    name: str = "bidist"
    """One of `methods.METHODS`, or `module:Class` for your own."""


class ActorConfig(Section):
    """Actor processes."""

    environments: int = Field(8, ge=1, le=1024)
    """Copies of the game per actor process; all their players share a forward pass. More is faster, but staler."""
    unroll_length: int = Field(32, ge=1, le=4096)
    """T, the steps of an unroll; it also ends where an episode does."""
    threads: int = Field(1, ge=1, le=1024)
    """Threads per actor process."""
    hang_s: float = Field(180.0, ge=5, le=86_400)
    """Seconds without a step after which an actor ends as hung. Keep it above 60 s, the time actors wait for Redis."""


class LearnerConfig(Section):
    """The update: recurrent PPO with a centralised critic."""

    plain_tcp: bool = False
    """Whether the learner may listen beyond this machine without keys; anyone who reaches it can then send unrolls."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the learner computes: `auto` uses a GPU if there is one."""
    threads: int = Field(0, ge=0, le=1024)
    """The learner's CPU threads; 0 takes two fifths of the cores and leaves the rest to actors."""
    batch_unrolls: int = Field(32, ge=1, le=65_536)
    """B, the unrolls per update; small batches are too noisy where rewards are rare."""
    queue_batches: float = Field(1.0, ge=1, le=1000)
    """Unrolls that may be in flight or waiting, in batches: the back-pressure, and hence the typical policy lag."""
    max_policy_lag: int = Field(4, ge=0, le=1_000_000)
    """Unrolls from a theta more than this many versions old are stale: they are counted, but not trained on."""
    epochs: int = Field(2, ge=1, le=1000)
    """Passes over a batch."""
    minibatches: int = Field(0, ge=0, le=1_000_000)
    """Minibatches per batch, split by whole unrolls of single players; 0 makes them about 256 steps long."""
    learning_rate: float = Field(5e-4, gt=0, le=1)
    """Adam's step size."""
    final_learning_rate: float | None = Field(None, ge=0, le=1)
    """Adam's step size at the end of the run, reached linearly over its player steps; null keeps it constant."""
    adam_eps: float = Field(1e-5, gt=0, le=1)
    """Adam's epsilon."""
    max_grad_norm: float = Field(0.5, gt=0, le=1_000_000)
    """Gradients are clipped to this norm, separately for each policy."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    targets: Literal["gae", "vtrace"] = "gae"
    """Estimator of value targets and advantages; both use the learner's own values of the unroll."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation and of V-trace."""
    clip: float = Field(0.2, gt=0, le=10)
    """PPO's clip range, for the ratio and for the change in value."""
    entropy_coef: float = Field(0.01, ge=0, le=100)
    """Weight of the entropy bonus."""
    final_entropy_coef: float | None = Field(None, ge=0, le=100)
    """Weight of the entropy bonus at the end of the run, reached linearly; null keeps it constant."""
    value_coef: float = Field(1.0, ge=0, le=1000)
    """Weight of the value loss."""
    huber_delta: float = Field(10.0, gt=0, le=1_000_000)
    """Error at which the value loss turns from quadratic to linear, in normalised units."""
    value_norm_beta: float = Field(0.99, gt=0, lt=1)
    """Decay per update of the running mean and variance of returns."""
    average_decay: float = Field(0.95, ge=0, lt=1)
    """Decay per update of the average of theta that checkpoints keep along with theta; 0 makes it equal to theta."""


class DistillerConfig(Section):
    """Bidirectional distillation of theta into phi."""

    every: int = Field(8, ge=1, le=1_000_000)
    """k_d, the number of updates between distillation events."""
    phase_events: int = Field(1, ge=1, le=1_000_000)
    """Consecutive events in the same direction: 1 alternates."""
    forward_epochs: int = Field(2, ge=1, le=1000)
    """The most passes over D per forward event."""
    reverse_epochs: int = Field(8, ge=1, le=1000)
    """The most passes over D per reverse event; the bound usually ends it sooner."""
    minibatches: int = Field(16, ge=1, le=1_000_000)
    """Minibatches per pass, split by whole unrolls."""
    forward_learning_rate: float = Field(2e-3, gt=0, le=1)
    """eta_f, phi's step size towards theta."""
    forward_smoothing: float = Field(0.2, ge=0, lt=1)
    """Share of the uniform distribution in forward events' target. It keeps phi less certain than theta: a phi that is
    more certain raises the divergence by becoming more certain still of the same action, and reverse events fail."""
    forward_bound: float | None = Field(None, gt=0, le=1000)
    """A forward event stops at the first minibatch whose mean KL to its target, in nats, is at most this; null: never.
    Without it, and with few passes, phi falls behind a theta that becomes certain."""
    reverse_learning_rate: float = Field(2e-3, gt=0, le=1)
    """eta_r, phi's step size away from theta."""
    reverse_bound: float | None = Field(2.0, gt=0, le=1000)
    """A reverse event stops at the first minibatch whose mean KL in nats reaches this; null: never, as in the paper."""
    max_grad_norm: float = Field(0.5, gt=0, le=1_000_000)
    """Gradients are clipped to this norm, separately for each policy."""
    burn_in: int = Field(8, ge=0, lt=4096)
    """Steps at the start of each sequence that only warm up the recurrent states, which start at zero."""
    threads: int = Field(1, ge=1, le=1024)
    """The distiller's threads."""


class Config(Section):
    """A whole run."""

    run: RunConfig = RunConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    network: NetworkConfig = NetworkConfig()
    method: MethodConfig = MethodConfig()
    actor: ActorConfig = ActorConfig()
    learner: LearnerConfig = LearnerConfig()
    distiller: DistillerConfig = DistillerConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.distiller.burn_in >= self.actor.unroll_length:
            raise ValueError(
                f"distiller.burn_in={self.distiller.burn_in} leaves no steps to distil on: "
                f"it must be less than actor.unroll_length={self.actor.unroll_length}"
            )
        return self


def learner_threads(config: LearnerConfig) -> int:
    """Returns how many threads the learner uses on this machine."""
    return config.threads or max(1, round(0.4 * core_count()))
