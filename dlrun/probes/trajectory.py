"""What a metric did over a run: its mean and spread over the evaluations, how much of the time it held a level and how often it fell below.

Source: Srivastava et al. 2017, "VEEGAN", section 5.1, and Metz et al. 2017, "Unrolled Generative Adversarial Networks", section 3.1, whose
generators lose modes again that they had: the last value alone depends on when one stops. Jitter: von Neumann, Kent, Bellinson, Hart 1941,
"The Mean Square Successive Difference".
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean, stdev

from dlrun.ranges import Decay
from dlrun.trained import Trained


def trajectory(run: Trained, *, metric: str, level: float, after: Decay) -> dict[str, float]:
    """Over the values of `metric` ("val/accuracy") at steps >= `after` x the last one, with that of step 0 where `after` is 0: mean; std,
    their standard deviation (n - 1); jitter, what is left of it where they rise or fall slowly (root mean square of the steps between
    neighbours, over the root of 2); share in 0..1 of those at or above `level`; lost, how often one below it follows one that is not;
    values, how many there are.

    Raises ValueError for a metric that the run did not log, and for fewer than two values.
    """
    steps, values = run.series(metric)
    kept = [value for step, value in zip(steps, values, strict=True) if step >= after * steps[-1]]
    if len(kept) < 2:
        raise ValueError(f"{metric} has {len(kept)} value from step {after * steps[-1]:g} on: a trajectory has at least two")
    held = [value >= level for value in kept]
    jitter = math.sqrt(fmean((now - before) ** 2 for before, now in pairwise(kept)) / 2)
    lost = sum(before and not now for before, now in pairwise(held))
    return {"mean": fmean(kept), "std": stdev(kept), "jitter": jitter, "share": fmean(held), "lost": lost, "values": len(kept)}
