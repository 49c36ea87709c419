"""Makes phi's first version."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from common.spec import EnvironmentSpec
from common.weights import Weights
from methods import Method

RANDOM_STREAM = 1
"""Keeps phi's initialisation apart from theta's, which comes from the run's seed alone."""


def first_phi(method: Method, spec: EnvironmentSpec, theta: Weights) -> Weights:
    """Makes phi's first version: a copy of theta, or networks of its own if the method starts it at random."""
    policies = method.phi_policies(spec.players)
    parameters: Mapping[str, Tensor] = each(theta.parameters, policies)
    if method.phi == "random":
        seed = np.random.SeedSequence([method.config.run.seed, RANDOM_STREAM]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed[0]) % 2**63)
            network = method.network(spec, policies)
        parameters = {name: p.detach() for name, p in network.named_parameters()}
    return Weights(0, parameters, theta.version, "initial")


def each(theta: Mapping[str, Tensor], policies: int) -> dict[str, Tensor]:
    """Gives each of phi's policies its teacher: theta's policies, repeated along P until there are enough."""
    return {name: x[torch.arange(policies) % len(x)] for name, x in theta.items()}
