"""The actor: plays copies of a game with a mix of learning and distilled policies, and ships unrolls.

Only what an actor alone does belongs here. An actor is given Redis' URL and the run's name, and reads everything else
there.
"""
