"""What people and Prometheus see of runs: a page in the browser, and an exporter of metrics.

Everything here only reads. What belongs to the rest of the project is read through `source.py` alone; a module is
admitted if it shows the state of runs to someone outside of them, and never if it changes any.
"""
