"""What two or more roles need: the contracts between processes and the parts that several of them run.

A file is admitted here when a second process needs it. Nothing here imports a sibling package.
"""
