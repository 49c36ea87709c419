"""The evaluator: plays checkpoints and says what they earn.

What belongs here plays policies without training them.
"""
