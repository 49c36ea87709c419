"""Tables, figures and statistics from the files of runs and evaluations.

A module belongs here if it turns results into something for people to read, or quantifies their uncertainty. Nothing
here trains; what measures (plays episodes, times processes) belongs to the evaluator or to `experiments`.
"""
