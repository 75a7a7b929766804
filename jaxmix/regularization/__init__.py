r"""Mixup as empirical risk minimisation on contracted and perturbed data.

Let :math:`\theta = \max(\lambda, 1 - \lambda)`, let j be a uniform partner, and let bars denote
means over the data. Then Mixup shows the network :math:`\tilde x_i + \delta_i` for sample i:

.. math:: \tilde x_i = \bar x + \bar\theta (x_i - \bar x), \quad
    \delta_i = (\theta - \bar\theta)(x_i - \bar x) + (1 - \theta)(x_j - \bar x), \quad E \delta_i = 0

and, in the same way, :math:`\tilde y_i + \epsilon_i` for its label. From this follow a correction
at test time, and a second-order loss whose terms show what Mixup regularizes.
"""

from jaxmix.regularization.contraction import contract, dataset_means, perturbed_erm, rescale, theta_moments
from jaxmix.regularization.expansion import Terms, approximate_mixup_loss
from jaxmix.regularization.linearization import linearized_mixup

__all__ = [
    "Terms",
    "approximate_mixup_loss",
    "contract",
    "dataset_means",
    "linearized_mixup",
    "perturbed_erm",
    "rescale",
    "theta_moments",
]
