"""The divergence that distillation changes. Arrays are [P, T, S, ...]."""

from torch import Tensor

from networks.sequences import policy_mean


def kl_divergence(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """Returns KL(pi_theta || pi_phi) in nats, averaged over each policy's observations: [P].

    The mean over policies is eq. 2.

    Args:
      teacher: [P, T, S, A], log-probabilities of theta.
      student: [P, T, S, A], log-probabilities of phi.
      mask: [P, T, S] bool, the observations that count.
    """
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return policy_mean(divergence, mask)


def mean_entropy(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Returns the entropy in nats, averaged over each policy's observations: [P]."""
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    return policy_mean(entropy, mask)
