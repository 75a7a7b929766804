"""Images that need no files."""

import numpy as np


def random_fields(n: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """Images with the 1/f amplitude spectrum of natural ones, [n, size, size, 3] float32."""
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1 / size
    noise = np.random.default_rng(seed).normal(size=(n, size, size, 3))
    spectrum = np.fft.fft2(noise, axes=(1, 2)) / radius[None, :, :, None]
    return np.real(np.fft.ifft2(spectrum, axes=(1, 2))).astype(np.float32)
