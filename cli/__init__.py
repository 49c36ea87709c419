"""The command `bidist`: what each sub-command takes, and whom it calls.

A module belongs here if it reads arguments or checks this machine. What a command does belongs to the packages below,
imported inside the command's function, so that `bidist --help` loads neither torch nor Melting Pot.
"""
