"""Networks that compute several policies at once, and what acting with them and training them takes.

A module belongs here if it is about tensors of policies and two of actor, learner, distiller, evaluator and methods
need it. What only the learner computes, such as losses and returns, belongs to the learner; a method's own network to
the method. Importing anything from here loads torch.
"""
