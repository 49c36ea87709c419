"""The command `bidist`: the arguments of each sub-command, and what it calls.

A module belongs here if it parses arguments or checks this machine. What a command does belongs to the packages below,
which are imported inside the command's function, so that `bidist --help` loads neither torch nor Melting Pot.
"""
