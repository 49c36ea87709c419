"""Made-up unrolls."""

from typing import Any

import numpy as np

from common.spec import EnvironmentSpec
from common.unroll import ARRAYS, PROTOCOL, EpisodeSummary, Unroll, UnrollHeader, UnrollSpec

RUN = "r"
SPEC = UnrollSpec(EnvironmentSpec("made_up", 2, 5, (4, 3, 3), 6), unroll_length=7, state_size=8, policies=2)
BLIND = UnrollSpec(EnvironmentSpec("blind", 3, 2, (0, 0, 3), 0), unroll_length=4, state_size=2, policies=1)


def make_unroll(
    spec: UnrollSpec = SPEC,
    sequence: int = 1,
    env_steps: int | None = None,
    actor: str = "a",
    incarnation: str = "a-1",
    run: str = RUN,
    episode: EpisodeSummary | None = None,
    **arrays: Any,
) -> Unroll:
    """Makes up a valid unroll, with its sequence number as the seed; `arrays` replaces some of its arrays."""
    rng = np.random.default_rng(sequence)
    players = spec.environment.players
    drawn: dict[str, Any] = {}
    for name, (dtype, shape) in spec.shapes(env_steps or spec.unroll_length).items():
        if name == "action":
            drawn[name] = rng.integers(0, spec.environment.actions, shape, dtype=np.int32)
        elif dtype is np.float32:
            drawn[name] = rng.random(shape, np.float32)
        else:
            drawn[name] = rng.integers(0, 2 if dtype is np.bool_ else 256, shape).astype(dtype)
    drawn |= arrays
    header = UnrollHeader(
        protocol=PROTOCOL,
        run=run,
        actor=actor,
        incarnation=incarnation,
        sequence=sequence,
        environment=3,
        theta_version=12,
        drivers=["phi:4:forward" if i % 2 else "theta" for i in range(players)],
        policy=[i % spec.policies for i in range(players)],
        episode=episode,
        arrays=[(name, drawn[name].dtype.str, drawn[name].shape) for name in ARRAYS],
    )
    return Unroll(header, **drawn)
