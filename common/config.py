"""The one configuration model: every setting, its default and what it means.

The learner writes a run's configuration to Redis; the other roles read it there and see nothing else. Where its values
come from is `common.settings`.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.cores import core_count


class Section(BaseModel):
    """A part of the configuration: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class RunConfig(Section):
    """What is run, for how long, and where it is kept."""

    name: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$")
    """Name of the run, of its folder and of its keys in Redis; made from method, substrate and time if empty."""
    seed: int = Field(0, ge=0)
    """Seeds parameters, environments, draws of players and shuffles; actors derive theirs from it and their name."""
    player_steps: int = Field(20_000_000, gt=0)
    """Length of the run: steps trained on or played beside, summed over players."""
    folder: Path = Path("runs")
    """Where run folders are made."""
    heartbeat_s: float = Field(2.0, gt=0)
    """How often a role reports to Redis; it counts as gone after four missed reports."""
    checkpoint_s: float = Field(60.0, gt=0)
    """Seconds between checkpoints; one more is written at the end and at an orderly stop."""
    keep_checkpoints: int = Field(5, ge=1)
    """How many of the newest checkpoints stay; the older ones go."""


class EnvironmentConfig(Section):
    """The game."""

    substrate: str = "pure_coordination_in_the_matrix__arena"
    """A Melting Pot substrate, a matrix game (`matrix_coordination`), or `pettingzoo:module:function`."""
    block: int = Field(8, ge=1)
    """Edge in pixels of the squares whose mean a policy sees: 8 reduces 88x88 to 11x11; 4 and 1 keep more."""
    last_action_and_reward: bool = True
    """Whether players observe their own last action and reward, in training and in evaluation alike."""
    players: int | None = Field(None, ge=1)
    """Number of players where the game leaves it open (matrix games); Melting Pot's substrates have their own."""
    episode_length: int = Field(16, ge=1)
    """Steps of an episode of a matrix game; Melting Pot's substrates have their own."""


class NetworkConfig(Section):
    """The agent's network, the same for every method."""

    parameters: Literal["shared", "per_player"] = "shared"
    """`per_player`: theta_i for each player i, as the paper indexes them; `shared`: one theta for all."""
    channels: tuple[int, int] = (16, 32)
    """Output channels of the two 3x3 convolutions; the second has stride 2."""
    dense: int = Field(128, gt=0)
    """Width of the dense layer after the convolutions: the embedding."""
    core: Literal["gru", "lstm"] = "gru"
    """Kind of the recurrent core."""
    core_size: int = Field(128, gt=0)
    """Width of the recurrent core."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions and the dense layer; `auto` takes bfloat16 where the hardware multiplies it faster."""


class MethodConfig(Section):
    """The method, and beside its name the settings that are its own: see the method's file for them."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    name: str = "bidist"
    """One of `methods.METHODS`, or `module:Class` for one of your own."""


class ActorConfig(Section):
    """How an actor process plays."""

    environments: int = Field(8, ge=1)
    """Copies of the game that one actor process steps; their players share a forward pass. More: faster, staler."""
    unroll_length: int = Field(32, ge=1)
    """T, the steps of an unroll; an unroll also ends where an episode does."""
    threads: int = Field(1, ge=1)
    """Threads that one actor process computes with."""


class LearnerConfig(Section):
    """The update: recurrent PPO with a centralised critic."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the learner computes: `auto` takes a GPU if there is one."""
    threads: int = Field(0, ge=0)
    """CPU threads that the learner computes with; 0 takes two fifths of the cores, and leaves the rest to actors."""
    batch_unrolls: int = Field(32, ge=1)
    """B, the unrolls of one update; fewer are too noisy where rewards are rare."""
    queue_batches: float = Field(1.0, ge=1)
    """Unrolls that may be under way or waiting, in batches: the back-pressure, and so the usual policy lag."""
    max_policy_lag: int = Field(4, ge=0)
    """Unrolls that acted on an older version of theta than this many back are stale: counted, not trained on."""
    epochs: int = Field(2, ge=1)
    """Passes over a batch."""
    minibatches: int = Field(0, ge=0)
    """Parts a batch is split into, by whole unrolls of single players; 0 makes parts of about 256 steps."""
    learning_rate: float = Field(5e-4, gt=0)
    """Adam's step size."""
    final_learning_rate: float | None = Field(None, ge=0)
    """Where the step size ends: it moves there linearly over the run's player steps; null keeps it constant."""
    adam_eps: float = Field(1e-5, gt=0)
    """Adam's epsilon."""
    max_grad_norm: float = Field(0.5, gt=0)
    """Gradients are scaled down to this norm, each policy by itself."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    targets: Literal["gae", "vtrace"] = "gae"
    """Value targets and advantages, both from the learner's own values of the unroll."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """Lambda of the generalised advantage estimate, and of V-trace's trace."""
    clip: float = Field(0.2, gt=0)
    """PPO's clip range, for the ratio and for the change of the value."""
    entropy_coef: float = Field(0.01, ge=0)
    """Weight of the entropy bonus."""
    final_entropy_coef: float | None = Field(None, ge=0)
    """Where the entropy bonus' weight ends, moving linearly likewise; null keeps it constant."""
    value_coef: float = Field(1.0, ge=0)
    """Weight of the value loss."""
    huber_delta: float = Field(10.0, gt=0)
    """Where the value loss turns from quadratic to linear, in normalised units."""
    value_norm_beta: float = Field(0.99, gt=0, lt=1)
    """Decay per update of the return's running mean and variance."""
    average_decay: float = Field(0.95, ge=0, lt=1)
    """Decay per update of the running average of theta that checkpoints hold beside theta; 0 makes it theta itself."""


class DistillerConfig(Section):
    """Bidirectional distillation of theta into phi."""

    every: int = Field(8, ge=1)
    """k_d: learner updates from one distillation event to the next."""
    phase_events: int = Field(1, ge=1)
    """Events in the same direction before it turns: 1 alternates, more makes phases of consecutive updates."""
    forward_epochs: int = Field(2, ge=1)
    """Passes over D of a forward event; few, so that phi keeps a trace of what it was."""
    reverse_epochs: int = Field(1, ge=1)
    """Passes over D of a reverse event."""
    minibatches: int = Field(16, ge=1)
    """Parts that D is split into, by whole unrolls."""
    forward_learning_rate: float = Field(5e-4, gt=0)
    """eta_f, phi's step size towards theta."""
    reverse_learning_rate: float = Field(1e-4, gt=0)
    """eta_r, phi's step size away from theta."""
    reverse_bound: float | None = Field(1.0, gt=0)
    """A reverse event stops at a minibatch whose mean KL in nats has reached this; null: never, as in the paper."""
    max_grad_norm: float = Field(0.5, gt=0)
    """Gradients are scaled down to this norm, each policy by itself."""
    burn_in: int = Field(8, ge=0)
    """First steps of each sequence that only warm the recurrent states up (both start at zero)."""
    threads: int = Field(1, ge=1)
    """Threads that the distiller computes with."""


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
                f"distiller.burn_in={self.distiller.burn_in} leaves nothing of an unroll of "
                f"actor.unroll_length={self.actor.unroll_length} steps to distil on"
            )
        return self


def learner_threads(config: LearnerConfig) -> int:
    """Returns how many threads the learner uses on this machine."""
    return config.threads or max(1, round(0.4 * core_count()))
