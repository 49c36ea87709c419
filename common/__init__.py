"""The contracts between processes: what one writes and another reads, and the settings that all of them share.

A module belongs here only if it is such a contract and two processes need it; this is not a place for helpers. Nothing
here knows about games, networks or methods, or imports another package of this project. `cores` is here because
everything that starts processes or threads must count them alike.
"""
