"""Ice: how far light goes in it around the idealised telescope, by z: metres upwards from the middle of the telescope.

An analytic form in place of measured layers: ice that clears with depth, with lengths of effective scattering of 18 m
at the top of the telescope and 72 m at its bottom, and one layer of dust, 5 m. It has the size and the broad shape of
what IceCube measured with its LEDs (arXiv 1301.5361), but no finer layers, no tilt and no anisotropy.
"""

from __future__ import annotations

import numpy as np

SURFACE = 1948.07  # z of the surface
ICE_REACH = 1000  # m up and down to which the ice is known
LEVELS = np.arange(-ICE_REACH, ICE_REACH) + 0.5  # z in the middle of every metre


def ideal_inverse_lengths() -> tuple[np.ndarray, np.ndarray]:
    """Inverse lengths (1/m) of effective scattering and of absorption at the LEVELS, (levels,) float64.

    36 m at a depth of 1950 m, doubling every 500 m, with dust 2045 m deep; absorption is 3.45 times as long.
    """
    depth = SURFACE - LEVELS
    dust = 0.178 * np.exp(-0.5 * ((depth - 2045) / 23) ** 2)
    inverse = 1 / (36 * 2 ** ((depth - 1950) / 500)) + dust
    return inverse, inverse / 3.45
