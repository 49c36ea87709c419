"""The divergence that distillation moves. Arrays are [P, T, S, ...]."""

from torch import Tensor

from networks.sequences import policy_mean


def kl_divergence(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """KL(pi_theta || pi_phi) in nats, the mean over a policy's observations (eq. 2 before its mean over i): [P].

    Args:
      teacher: [P, T, S, A], log-probabilities of theta.
      student: [P, T, S, A], log-probabilities of phi.
      mask: [P, T, S] bool, the observations that count.
    """
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return policy_mean(divergence, mask)


def mean_entropy(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Entropy in nats, the mean over a policy's observations: [P]."""
    entropy = -(log_probs.exp() * log_probs).sum(-1)
    return policy_mean(entropy, mask)
