"""Networks that compute several policies at once, and what acting with them and training them share.

A module belongs here if it is about tensors of policies and at least two of actor, learner, distiller, evaluator and
methods need it. What only the learner computes, such as losses and returns, belongs there; a method's own network
belongs to the method. Importing anything from here loads torch.
"""
