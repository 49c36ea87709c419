"""The actor: steps copies of a game with a mix of learning and distilled policies, and ships unrolls.

What belongs here is what only an actor does. It knows Redis' URL and the run's name, and nothing else.
"""
