"""BiDist in Python: load what was trained, play the fast games, evaluate any policy among DeepMind's bots.

What `__all__` lists is the public interface and follows semantic versioning; everything else may change. A module
belongs here if a user's script calls it. It stays thin: whatever plays or trains belongs to a package below.
"""

from importlib.metadata import version

from bidist._packages import own_packages

with own_packages():
    from bidist.evaluation import evaluate
    from bidist.game import env
    from bidist.population import Population, State, load
    from common.errors import BidistError
    from evaluator.external import Policy

__version__ = version("bidist")
__all__ = ["BidistError", "Policy", "Population", "State", "__version__", "env", "evaluate", "load"]
