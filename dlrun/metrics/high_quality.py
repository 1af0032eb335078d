"""Share of a generator's samples that lie near a mode of a labelled mixture.

Source: Srivastava et al. 2017, "VEEGAN", section 5.1 (high quality: within three standard deviations of the nearest mode).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrun.functional.ring import fitted
from dlrun.functional.ring import high_quality as share
from dlrun.registry import facts


@facts(best="max", whole=True, reads=("samples",))
def high_quality(out: Tensor, y: Tensor) -> Tensor:
    """Share in [0, 1] of samples within three standard deviations of the nearest centre; shapes as in `modes_covered`."""
    return torch.tensor(share(out, *fitted(y[:, :-1], y[:, -1])))
