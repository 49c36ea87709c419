"""Shows runs to people, as a web page, and to Prometheus, as metrics.

Everything here is read-only, and only `source.py` reads what other packages wrote. A module is admitted if it presents
the state of runs to the outside, and never if it changes that state.
"""
