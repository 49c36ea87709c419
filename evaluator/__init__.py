"""The evaluator: plays checkpoints in scenarios, in self-play and against one another, a row for each episode.

A module belongs here if it plays policies without training them, or defines the rows that come of it. It learns of a
run from its folder alone. What makes tables and pictures of rows belongs to `reports`.
"""
