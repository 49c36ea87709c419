"""The distiller: turns theta into phi, towards it and away from it in turn, beside the learner and never in its way.

What belongs here is what only the distiller does.
"""
