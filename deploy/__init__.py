"""Bringing the roles up on a machine: command line, supervisor, Redis server, check of the machine.

This is the one folder that may import every package. What runs inside a role belongs to that role's folder.
"""
