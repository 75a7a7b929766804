r"""Mixup as empirical risk minimisation on contracted and perturbed data.

With :math:`\theta = \max(\lambda, 1 - \lambda)`, a uniform partner j, and means over the data
under a bar, what Mixup shows of sample i is :math:`\tilde x_i + \delta_i`:

.. math:: \tilde x_i = \bar x + \bar\theta (x_i - \bar x), \quad
    \delta_i = (\theta - \bar\theta)(x_i - \bar x) + (1 - \theta)(x_j - \bar x), \quad E \delta_i = 0

and likewise of its label, :math:`\tilde y_i + \epsilon_i`. Hence what to do at test time, and a
second-order loss whose terms say what Mixup regularizes.
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
