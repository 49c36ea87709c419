"""Games behind one interface: Melting Pot's substrates, matrix games, PettingZoo.

A game belongs here if it can say its `EnvironmentSpec` and play by `Environment`. Adding one means a file with those
two and a line in `build`.
"""

from environments.interface import Environment, Observation, Step
from environments.registry import build, spec

__all__ = ["Environment", "Observation", "Step", "build", "spec"]
