"""Whether what a run holds fits: settings that are fine one by one may together be too much for Redis or the memory."""

import math

import numpy as np

from common.config import Config
from common.errors import ConfigError
from common.spec import EnvironmentSpec
from common.unroll import UnrollSpec

MB = 1 << 20
REDIS_VALUE_BYTES = 512 * MB
"""The most that Redis holds in a value, unless its `proto-max-bulk-len` is changed."""


def check_fits(config: Config, spec: EnvironmentSpec, memory_bytes: int) -> None:
    """Checks the settings of a new run together, without allocating anything.

    A method or network from outside BiDist is not measured, because its constructor may do anything.

    Args:
      config: the run's.
      spec: of its game.
      memory_bytes: of this machine.

    Raises:
      ConfigError: if theta or the observations of an update are too large for Redis, or the learner's unrolls for the
        memory.
    """
    import torch

    from methods import make_method

    network, actor, learner = config.network, config.actor, config.learner
    if ":" in config.method.name or network.name:
        return
    method = make_method(config)
    policies = method.policies(spec.players)
    with torch.device("meta"):  # shapes without memory
        theta = method.network(spec, policies)
    widths = f"network.dense={network.dense}, network.core_size={network.core_size}, network.channels"
    parameters = sum(p.numel() * p.element_size() for p in theta.parameters())
    _check(f"theta, from {widths} and {policies} policies", parameters, REDIS_VALUE_BYTES, "a value in Redis")
    shapes = UnrollSpec(spec, actor.unroll_length, theta.state_size, policies).shapes(actor.unroll_length)
    sizes = {name: math.prod(shape) * np.dtype(dtype).itemsize for name, (dtype, shape) in shapes.items()}
    batch = f"learner.batch_unrolls={learner.batch_unrolls} and actor.unroll_length={actor.unroll_length}"
    if method.directions:
        observations = learner.batch_unrolls * max(sizes["rgb"], sizes["features"])
        _check(f"the distiller's observations, from {batch}", observations, REDIS_VALUE_BYTES, "a value in Redis")
    held = learner.batch_unrolls * (1 + learner.queue_batches) * sum(sizes.values())
    queue = f"{batch} and learner.queue_batches={learner.queue_batches:g}"
    _check(f"the learner's unrolls, from {queue}", held, memory_bytes, "this machine's memory")


def _check(what: str, size: float, most: float, where: str) -> None:
    if size > most:
        raise ConfigError(f"{what}, take {size / MB:,.0f} MB; {where} holds at most {most / MB:,.0f} MB")
