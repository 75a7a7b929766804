"""jaxmix: mixed-sample augmentation as pure functions on JAX arrays.

Every method maps (batch, labels, rng) to a mixed batch and mixed labels. Bind
hyperparameters with `functools.partial`. All of it works under jit, vmap, pmap and grad.
"""

from jaxmix import (
    assignment,
    attention,
    coefficients,
    embedding,
    latent,
    masks,
    pairings,
    policies,
    ratios,
    regularization,
    saliency,
)
from jaxmix.blending import gmix, hmix, kmixup, mixup, smoothmix
from jaxmix.combinators import in_latent_space, one_of, sometimes
from jaxmix.core import Mix, apply, combine, draw, mix
from jaxmix.cutting import cutmix, fmix, gridmix
from jaxmix.embedding import dense_multimix, multimix
from jaxmix.guided import attentivemix, saliencymix
from jaxmix.latent import varmixup
from jaxmix.policies import policy
from jaxmix.resizing import resizemix
from jaxmix.types import AssignmentFn, AttentionFn, FeatureFn, MaskFn, MixFn, PairingFn, RatioFn

__version__ = "0.1.0"

__all__ = [
    "AssignmentFn",
    "AttentionFn",
    "FeatureFn",
    "MaskFn",
    "Mix",
    "MixFn",
    "PairingFn",
    "RatioFn",
    "apply",
    "assignment",
    "attention",
    "attentivemix",
    "coefficients",
    "combine",
    "cutmix",
    "dense_multimix",
    "draw",
    "embedding",
    "fmix",
    "gmix",
    "gridmix",
    "hmix",
    "in_latent_space",
    "kmixup",
    "latent",
    "masks",
    "mix",
    "mixup",
    "multimix",
    "one_of",
    "pairings",
    "policies",
    "policy",
    "ratios",
    "regularization",
    "resizemix",
    "saliency",
    "saliencymix",
    "smoothmix",
    "sometimes",
    "varmixup",
]
