"""Starting and watching the roles: one machine's supervisor, all roles in one process, their Redis server, containers.

A module belongs here if it starts roles or monitors them. What runs inside a role belongs to that role's folder, tools
for many runs to `experiments`, and command-line arguments to `cli`.
"""
