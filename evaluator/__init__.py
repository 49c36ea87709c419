"""The evaluator: plays checkpoints and says what they earn.

What belongs here plays policies without training them; it learns of a run from its folder alone.
"""
