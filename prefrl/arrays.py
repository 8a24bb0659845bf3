"""Array types, and the letters for shapes.

Docstrings write shapes with these letters: K members of the ensemble, B comparisons (pairs), L steps of a segment,
N rows, T steps of a rollout, E environments, F features of a step (observation and action together).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
