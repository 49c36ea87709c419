"""Games behind one interface: Melting Pot's substrates, matrix games, PettingZoo.

A game belongs here if it has a `common.spec.EnvironmentSpec` and implements `Environment`. Adding one takes a file with
those two and a line in `registry.build`. Games know nothing about who plays them, or with which policy.
"""

from environments.interface import Environment, Observation, Step
from environments.registry import build, guarded, spec

__all__ = ["Environment", "Observation", "Step", "build", "guarded", "spec"]
