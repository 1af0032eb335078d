"""How many modes of a labelled mixture a generator's samples reach.

Source: Srivastava et al. 2017, "VEEGAN", section 5.1 (modes captured), with a least number of samples a mode instead of one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.ring import covered, fitted
from dlrun.ranges import Count
from dlrun.registry import facts


@facts(best="max", whole=True, reads=("samples",))
def modes_covered(out: Tensor, y: Tensor, *, least: Count) -> Tensor:
    """Number of modes with at least `least` samples within three standard deviations of their centre.

    out: samples [N, D]; y: real rows with their mode as last column [M, D + 1], from which centres and deviations are taken.
    """
    at, std = fitted(y[:, :-1], y[:, -1])
    return torch.tensor(float(covered(out, at, std, least)))
