"""Bringing the roles up: one machine's supervisor, all of them in one process, their Redis server, containers.

A module belongs here if it starts roles or looks after those that run. What runs inside a role belongs to that role's
folder, what many runs need to `experiments`, and reading arguments to `cli`.
"""
