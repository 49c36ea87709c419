"""Games behind one interface: Melting Pot's substrates, matrix games, PettingZoo.

A game belongs here if it has a `common.spec.EnvironmentSpec` and can be played through `Environment`. Adding one means
a file with those two and a line in `registry.build`. Who plays, and by which policy, is none of a game's business.
"""

from environments.interface import Environment, Observation, Step
from environments.registry import build, spec

__all__ = ["Environment", "Observation", "Step", "build", "spec"]
