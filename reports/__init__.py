"""Tables, pictures and statistics of what runs and evaluations left behind.

A module belongs here if it turns files of results into something for people to read, or says how sure a number is.
Nothing here trains; what measures (plays episodes, times processes) belongs to the evaluator or to `experiments`.
"""
