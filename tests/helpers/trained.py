"""Runs with a checkpoint of random parameters, for tests of what plays them."""

from pathlib import Path

import pytest
import torch

import environments
from common import checkpoint
from common.errors import SetupError
from common.run_folder import RunFolder
from common.settings import load_config
from evaluator.scenarios import require_bots, scenarios_of
from networks.network import Network


def trained(folder: Path, substrate: str = "coins", policies: int = 3, *settings: str) -> RunFolder:
    """Creates a run; its policies are random but have preferences, so they choose different actions."""
    overrides = [
        *(f"environment.substrate={substrate}", f"run.name={folder.name}", f"run.folder={folder.parent}"),
        *("run.seed=4", "method.name=mappo", "network.dense=16", "network.core_size=16", *settings),
    ]
    config = load_config(overrides=overrides, environ={})
    run = RunFolder(folder)
    run.create(config)
    torch.manual_seed(1)
    network = Network(environments.spec(config.environment), config.network, policies)
    theta = {n: p.detach() * (200 if n.startswith("policy.") else 1) for n, p in network.named_parameters()}
    checkpoint.save(run.checkpoints, 5, {"theta": theta}, {"updates": 5, "player_steps": 700}, keep=None)
    return run


def _missing() -> bool:
    try:
        require_bots(scenarios_of("coins"))
    except SetupError:
        return True
    return False


needs_bots = pytest.mark.skipif(_missing(), reason="the bots of coins are not installed")
