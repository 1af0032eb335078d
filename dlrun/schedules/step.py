"""A staircase: the rate is multiplied by `gamma` at some steps.

Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", section 4.2 (a tenth at one half and three quarters of
the run); equal to torch.optim.lr_scheduler.StepLR(step_size=every) and MultiStepLR(milestones), counted in steps.
"""

from __future__ import annotations

from bisect import bisect_right

from dlrun.ranges import Count, Positive


def step(step: int, steps: int, *, every: Count | None, milestones: list[Count] | None, gamma: Positive) -> float:
    """gamma^k after k falls: one every `every` steps, or one at each of `milestones`; with neither, after 1/2 and 3/4 of the run.

    A fall at n means that n steps are taken at the rate before. Raises ValueError where both are given.
    """
    if every is not None and milestones is not None:
        raise ValueError(f"takes every or milestones, found every={every} and milestones={milestones}: leave one of them null")
    if every is not None:
        return gamma ** (step // every)
    falls = sorted(milestones) if milestones is not None else [(steps + 1) // 2, (3 * steps + 3) // 4]
    return gamma ** bisect_right(falls, step)
