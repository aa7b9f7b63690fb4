"""Kernels by least squares that stay near the ones they were, and small where dropout will blank out what they read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-2
"""What moving a weight costs beside the mean square error, in units of the inputs' mean square."""

Floats = NDArray[np.float64]


def fit_kernel(
    seen: NDArray[np.float32],
    wanted: NDArray[np.float32],
    kernel: NDArray[np.float32],
    *,
    shifted: bool,
    dropped: float = 0.0,
) -> tuple[Floats, Floats]:
    """The kernel, shaped as the one given, and what is to be added to each output, (channels out,).

    seen: (n, inputs). wanted: (n, channels out). kernel: (..., channels out), where it was. shifted: whether anything
    can be added; else it is 0. dropped: share of the inputs that dropout blanks out in training. Fewer samples than
    inputs hold the kernel tighter.
    """
    x, y = seen.astype(np.float64), wanted.astype(np.float64)
    old = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    squares = (x**2).mean(axis=0)
    held = RIDGE * max(1, x.shape[1] / len(x)) * squares.mean() + 1e-12
    # What dropout adds to the mean square error, over all that it may blank out (Wager et al. 2013, section 2).
    blanked = dropped / (1 - dropped) * squares
    cost = held + blanked
    start = old * (held / cost)[:, np.newaxis]
    mean_x, mean_y = (x.mean(axis=0), y.mean(axis=0)) if shifted else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x -= mean_x
    left = y - mean_y - x @ start
    if x.shape[1] <= len(x):
        new = start + np.linalg.solve(x.T @ x / len(x) + np.diag(cost), x.T @ left / len(x))
    else:
        # The same by as many unknowns as there are samples.
        narrow = x / cost
        new = start + narrow.T @ np.linalg.solve(x @ narrow.T + len(x) * np.eye(len(x)), left)
    return new.reshape(kernel.shape), mean_y - mean_x @ new


def fit_depthwise(
    seen: NDArray[np.float32], wanted: NDArray[np.float32], kernel: NDArray[np.float32], *, shifted: bool
) -> tuple[Floats, Floats]:
    """The same of a depthwise kernel, (rows, columns, channels, 1): each channel on its own.

    seen: (n, taps, channels). wanted: (n, channels).
    """
    x, y = seen.transpose(2, 0, 1).astype(np.float64), wanted.T.astype(np.float64)
    old = kernel.reshape(-1, kernel.shape[2]).T.astype(np.float64)
    cost = RIDGE * max(1, x.shape[2] / x.shape[1]) * (x**2).mean(axis=(1, 2)) + 1e-12
    mean_x, mean_y = x.mean(axis=1) * shifted, y.mean(axis=1) * shifted
    x -= mean_x[:, np.newaxis]
    left = y - mean_y[:, np.newaxis] - np.einsum("cnt,ct->cn", x, old)
    turned = x.transpose(0, 2, 1) / x.shape[1]
    system = turned @ x + cost[:, np.newaxis, np.newaxis] * np.eye(x.shape[2])
    new = old + np.linalg.solve(system, turned @ left[..., np.newaxis])[..., 0]
    return new.T.reshape(kernel.shape), mean_y - (mean_x * new).sum(axis=1)
