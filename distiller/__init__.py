"""The distiller: owns phi, which it distils from theta, towards it and away from it in turn.

It runs beside the learner, which never waits for it. Only what the distiller alone does belongs here.
"""
