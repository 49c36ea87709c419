"""The settings under which peers train: this project's, in their words, and otherwise their own defaults."""

from typing import Any, NamedTuple

from common.config import Config
from experiments.speed.peers.reports import EPISODES

GAME = "bidist"
"""The name under which peers register the game."""
MODULE = "shared"
"""The name of the policy that drives all players."""
MINIBATCH = 1024
"""Player steps of a minibatch: Sample Factory's default."""
NEVER_S = 10**6
SAMPLE_S = 600.0
"""RLlib throws away what took longer to play; its default is 60, which a busy machine exceeds."""


class Sizes(NamedTuple):
    """What a run has to do with: copies of the game, its players, and cores."""

    environments: int
    players: int
    cores: int


def sample_factory(config: Config, sizes: Sizes) -> dict[str, Any]:
    """Returns Sample Factory's command-line arguments: a worker for each core, as is its default.

    Each worker plays an even number of games, because it steps one half of them while the policy looks at the other.
    """
    learner, network = config.learner, config.network
    return {
        "env": GAME,
        "experiment": "bench",
        "device": "cpu",
        "seed": config.run.seed,
        "num_workers": sizes.cores,
        "num_envs_per_worker": 2 * max(1, round(sizes.environments / sizes.cores / 2)),
        "rollout": config.actor.unroll_length,
        "batch_size": MINIBATCH,
        "num_epochs": learner.epochs,
        "use_rnn": True,
        "rnn_type": network.core,
        "rnn_size": network.core_size,
        "normalize_input": False,
        "learning_rate": learner.learning_rate,
        "gamma": learner.gamma,
        "gae_lambda": learner.gae_lambda,
        "ppo_clip_ratio": learner.clip,
        "exploration_loss_coeff": learner.entropy_coef,
        "stats_avg": EPISODES * sizes.players,
        "save_every_sec": NEVER_S,
        "save_best_every_sec": NEVER_S,
    }


def rllib(config: Config, sizes: Sizes) -> dict[str, Any]:
    """Returns the arguments of the methods of RLlib's `PPOConfig`: one core is left for the update."""
    learner, network = config.learner, config.network
    runners = max(1, sizes.cores - 1)
    games = max(1, sizes.environments // runners)
    return {
        "env_runners": {
            "num_env_runners": runners,
            "num_envs_per_env_runner": games,
            "sample_timeout_s": SAMPLE_S,
        },
        "training": {
            "train_batch_size_per_learner": learner.batch_unrolls * config.actor.unroll_length,
            "minibatch_size": MINIBATCH,
            "num_epochs": learner.epochs,
            "lr": learner.learning_rate,
            "gamma": learner.gamma,
            "lambda_": learner.gae_lambda,
            "clip_param": learner.clip,
            "vf_clip_param": 1e6,  # its default ignores errors above 3, and returns here reach 40
            "entropy_coeff": learner.entropy_coef,
        },
        "model": {"max_seq_len": config.actor.unroll_length, "network": network.model_dump(mode="json")},
        "debugging": {"seed": config.run.seed, "log_level": "WARN"},
        "ray": {"num_cpus": sizes.cores, "include_dashboard": False},
    }
