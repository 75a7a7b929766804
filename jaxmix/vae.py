"""A convolutional VAE in Flax for images of any size, whose loss matches the prior by MMD, KL divergence, or both.

`import jaxmix` does not import it: `pip install -e '.[vae]'`, then `from jaxmix import vae`.
"""

from collections.abc import Sequence
import itertools
from typing import Literal, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks

Kernel = Literal["gaussian", "inverse_multiquadric"]


class Outputs(NamedTuple):
    """The outputs of a VAE for a batch.

    Attributes:
      images: mean of the likelihood at the sampled latents, in [0, 1], [n, h, w, c].
      latents: a sample of the posterior, [n, d].
      mean: mean of the posterior, [n, d].
      log_variance: log-variance of the posterior, [n, d].
    """

    images: Float[Array, "n h w c"]
    latents: Float[Array, "n d"]
    mean: Float[Array, "n d"]
    log_variance: Float[Array, "n d"]


class Terms(NamedTuple):
    """The unweighted terms of the loss.

    Attributes:
      reconstruction: squared error, summed over an image's pixels and averaged over images.
      mmd: estimated squared maximum mean discrepancy between latents and prior; may be negative.
      kl: KL divergence of the posterior from the prior in nats, averaged over images.
    """

    reconstruction: Float[Array, ""]
    mmd: Float[Array, ""]
    kl: Float[Array, ""]


class VAE(nn.Module):
    """A VAE with normal latents: convolutions halve the image, resizing and convolutions double it again.

    Attributes:
      image_shape: (h, w, c), with sides of at least 8.
      latent_size: d, the number of latent coordinates.
      widths: number of channels after each halving.

    Example:
      >>> model = vae.VAE(image_shape=(28, 28, 1), latent_size=16, widths=(8, 16))
      >>> images = jnp.zeros((4, 28, 28, 1))
      >>> variables = model.init(jax.random.key(0), images, jax.random.key(1))
      >>> mean, log_variance = model.apply(variables, images, method="encode")
      >>> model.apply(variables, mean, method="decode").shape
      (4, 28, 28, 1)
    """

    image_shape: tuple[int, int, int]
    latent_size: int = 64
    widths: Sequence[int] = (64, 128, 256)

    def setup(self):
        """Creates the layers."""
        height, width, channels = self.image_shape
        if min(height, width) < 8 or channels < 1:
            raise ValueError(f"image_shape={self.image_shape}: give (h, w, c) with sides of at least 8")
        if self.latent_size < 1 or not self.widths or min(self.widths) < 1:
            raise ValueError(
                f"latent_size={self.latent_size}, widths={tuple(self.widths)}: give at least one, of at least 1 each"
            )
        halved = itertools.accumulate(
            self.widths, lambda size, _: tuple(-(-side // 2) for side in size), initial=(height, width)
        )
        self.sizes = tuple(halved)
        self.downs = [nn.Conv(width, (4, 4), 2) for width in self.widths]
        self.down_norms = [_norm(width) for width in self.widths]
        self.mean = nn.Dense(self.latent_size)
        self.log_variance = nn.Dense(self.latent_size, bias_init=nn.initializers.constant(-4.0))  # codes before noise
        self.start = nn.Dense(self.sizes[-1][0] * self.sizes[-1][1] * self.widths[-1])
        ups = (*self.widths[-2::-1], self.widths[0])
        self.ups = [nn.Conv(width, (3, 3)) for width in ups]
        self.up_norms = [_norm(width) for width in ups]
        self.head = nn.Conv(channels, (3, 3))

    def encode(self, images: Float[Array, "n h w c"]) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """Returns mean and log-variance of the posterior.

        Args:
          images: floats in [0, 1], [n, *image_shape].

        Returns:
          Mean and log-variance [n, d].

        Raises:
          ValueError: if images do not have the model's image_shape.
          TypeError: if images are not floats.
        """
        checks.floats("images", images)
        if images.shape[1:] != tuple(self.image_shape):
            raise ValueError(f"images have shape {images.shape}, and this VAE takes [n, *{tuple(self.image_shape)}]")
        maps = 2 * images.astype(jnp.float32) - 1
        for conv, norm in zip(self.downs, self.down_norms, strict=True):
            maps = nn.silu(norm(conv(maps)))
        flat = maps.reshape(len(maps), -1)
        return self.mean(flat), jnp.clip(self.log_variance(flat), -10, 10)

    def decode(self, latents: Float[Array, "n d"]) -> Float[Array, "n h w c"]:
        """Returns the mean of the likelihood.

        Args:
          latents: floats [n, d].

        Returns:
          Images in [0, 1], [n, *image_shape].
        """
        maps = self.start(latents).reshape(len(latents), *self.sizes[-1], self.widths[-1])
        for conv, norm, size in zip(self.ups, self.up_norms, self.sizes[-2::-1], strict=True):
            maps = jax.image.resize(maps, (len(maps), *size, maps.shape[-1]), "bilinear")
            maps = nn.silu(norm(conv(maps)))
        return nn.sigmoid(self.head(maps))

    def __call__(self, images: Float[Array, "n h w c"], rng: PRNGKeyArray) -> Outputs:
        """Encodes, samples and decodes.

        Args:
          images: floats in [0, 1], [n, *image_shape].
          rng: a JAX key, for the sample of the posterior.

        Returns:
          The outputs, from which `vae_loss` computes the loss.
        """
        mean, log_variance = self.encode(images)
        latents = mean + jnp.exp(log_variance / 2) * jax.random.normal(rng, mean.shape, jnp.float32)
        return Outputs(self.decode(latents), latents, mean, log_variance)


def vae_loss(
    images: Float[Array, "n h w c"],
    outputs: Outputs,
    rng: PRNGKeyArray,
    *,
    mmd_weight: float = 100.0,
    kl_weight: float = 0.0,
    kernel: Kernel = "gaussian",
) -> tuple[Float[Array, ""], Terms]:
    r"""Returns the loss of a VAE and its terms.

    .. math:: L = \|x - \hat x\|^2 + \gamma\, \mathrm{MMD}^2(q(z), N(0, I)) + \beta\, \mathrm{KL}(q(z|x), N(0, I))

    By default only the MMD matches latents to the prior. It compares all latents together rather
    than each posterior, so latents stay informative. If gamma is too large for the images, noise
    fits the prior soonest and the reconstruction error stays large. Check that both terms fall.

    Args:
      images: the encoded images, floats in [0, 1], [n, h, w, c].
      outputs: the VAE's outputs for them; n must be at least 2.
      rng: a JAX key, for a sample of the prior.
      mmd_weight: gamma, the weight of the MMD, >= 0.
      kl_weight: beta, the weight of the KL divergence, >= 0.
      kernel: kernel of the MMD, "gaussian" or "inverse_multiquadric".

    Returns:
      The loss, and its unweighted terms.

    Raises:
      ValueError: if shapes do not match, a weight is negative, the kernel is unknown, or n is 1.

    Example:
      >>> images, zeros = jnp.zeros((2, 8, 8, 1)), jnp.zeros((2, 3))
      >>> outputs = vae.Outputs(images + 0.5, zeros, zeros, zeros)
      >>> loss, terms = vae.vae_loss(images, outputs, jax.random.key(0))
      >>> terms.reconstruction.item(), terms.kl.item()
      (16.0, 0.0)

    References:
      Zhao et al., `InfoVAE: Balancing Learning and Inference in Variational Autoencoders
      <https://arxiv.org/abs/1706.02262>`_, 2019
    """
    checks.key(rng)
    checks.non_negative("mmd_weight", mmd_weight)
    checks.non_negative("kl_weight", kl_weight)
    if images.shape != outputs.images.shape:
        raise ValueError(f"images have shape {images.shape}, but the VAE returned {outputs.images.shape}")
    errors = (images.astype(jnp.float32) - outputs.images) ** 2
    prior = jax.random.normal(rng, outputs.latents.shape, jnp.float32)
    terms = Terms(
        reconstruction=jnp.mean(jnp.sum(errors, axis=(1, 2, 3))),
        mmd=squared_mmd(outputs.latents, prior, kernel=kernel),
        kl=jnp.mean(kl_divergence(outputs.mean, outputs.log_variance)),
    )
    return terms.reconstruction + mmd_weight * terms.mmd + kl_weight * terms.kl, terms


def kl_divergence(mean: Float[Array, "n d"], log_variance: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Returns the KL divergence from N(0, I) of normal distributions with independent coordinates, in nats.

    Args:
      mean: means of the distributions, [n, d].
      log_variance: log-variances of their coordinates, [n, d].

    Returns:
      One divergence for each distribution, [n].

    Example:
      >>> vae.kl_divergence(jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2))).tolist()
      [0.5]
    """
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=1)


def squared_mmd(x: Float[Array, "n d"], y: Float[Array, "m d"], *, kernel: Kernel = "gaussian") -> Float[Array, ""]:
    r"""Returns the unbiased estimate of the squared maximum mean discrepancy between two samples.

    .. math:: \mathrm{MMD}^2 = \mathbb{E} k(x, x') + \mathbb{E} k(y, y') - 2\, \mathbb{E} k(x, y)

    The kernel is :math:`k(x, y) = \exp(-\|x - y\|^2 / 2d)` or :math:`2d / (2d + \|x - y\|^2)`. Its
    scale 2d is the mean squared distance between two samples of N(0, I), which lets it tell N(0, I)
    from other distributions.

    Args:
      x: samples [n, d], with n at least 2.
      y: samples [m, d], with m at least 2.
      kernel: "gaussian" or "inverse_multiquadric", as above.

    Returns:
      The estimate, a float32 scalar. If both distributions are equal, its mean is 0, so it may be
      negative.

    Raises:
      ValueError: if shapes do not match, there are fewer than two samples, or the kernel is unknown.

    Example:
      >>> vae.squared_mmd(jnp.zeros((2, 1)), jnp.zeros((3, 1))).item()
      0.0

    References:
      Gretton et al., `A Kernel Two-Sample Test <https://jmlr.org/papers/v13/gretton12a.html>`_, 2012
    """
    if jnp.ndim(x) != 2 or jnp.ndim(y) != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"samples must be [n, d] and [m, d], n and m at least 2, got {x.shape} and {y.shape}")
    if kernel not in ("gaussian", "inverse_multiquadric"):
        raise ValueError(f"unknown kernel {kernel!r}: take one of gaussian, inverse_multiquadric")
    scale = 2 * x.shape[1]

    def similarities(a: Array, b: Array) -> Array:
        squares = jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None]
        distances = jnp.maximum(squares - 2 * jnp.matmul(a, b.T, precision="highest"), 0)
        return jnp.exp(-distances / scale) if kernel == "gaussian" else scale / (scale + distances)

    def of_others(a: Array) -> Array:
        """Returns the mean over pairs of two different samples."""
        pairs = similarities(a, a)
        return (jnp.sum(pairs) - jnp.trace(pairs)) / (len(a) * (len(a) - 1))

    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    return of_others(x) + of_others(y) - 2 * jnp.mean(similarities(x, y))


def _norm(width: int) -> nn.Module:
    """Returns group normalisation: it does not depend on the batch, nor differ between training and test."""
    return nn.GroupNorm(num_groups=next(groups for groups in (8, 4, 2, 1) if width % groups == 0))
