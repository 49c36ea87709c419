"""BiDist whose strangers have other conventions: beyond the paper, after other-play (Hu et al. 2020).

Distillation changes phi action by action. A symmetry of the game changes what a player is after: phi, seeing the game
through it, plays as well as before but keeps to another convention, and theta has to follow.
"""

from methods.bidist import BiDist


class SymmetricBiDist(BiDist):
    """The fictitious players of an episode see the game through one of its symmetries, drawn for the episode."""

    symmetric = True
