"""The evaluator: plays checkpoints in scenarios, in self-play and in cross-play, and writes a row for each episode.

A module belongs here if it plays policies without training them, or defines the rows this produces. It learns about a
run from its folder alone. Whatever turns rows into tables and pictures belongs to `reports`.
"""
