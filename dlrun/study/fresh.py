"""A process that trains one job after another begins each as a new process would: what one leaves behind is put back.

Weights do not depend on generators (noise is keyed), but a user's part may draw from one while it is built, set torch's default type or
hang a hook on all modules. What a plugin keeps in globals of its own is beyond this.
"""

from __future__ import annotations

import gc
import os
import random
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as hooks

HOOKS = [name for name in vars(hooks) if name.startswith("_global_") and isinstance(getattr(hooks, name), OrderedDict)]


class Fresh:
    """The settings of this process as they were when this was made."""

    def __init__(self) -> None:
        self.threads, self.dtype, self.state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
        self.precision, self.environment = torch.get_float32_matmul_precision(), dict(os.environ)
        self.folder, self.filters = os.getcwd(), list(warnings.filters)
        self.hooks: dict[str, Any] = {name: OrderedDict(getattr(hooks, name)) for name in HOOKS}
        self.python, self.numpy, self._jobs = random.getstate(), np.random.get_state(), 0

    def again(self) -> None:
        """Put them back."""
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        torch.set_rng_state(self.state)
        torch.set_float32_matmul_precision(self.precision)
        torch.set_grad_enabled(True)
        torch.set_flush_denormal(False)
        torch.set_default_device(None)
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        for name, known in self.hooks.items():
            now = getattr(hooks, name)
            now.clear()
            now.update(known)
        warnings.filters[:] = self.filters  # type: ignore[index]
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        if os.getcwd() != self.folder:
            os.chdir(self.folder)
        gc.collect()
        if self._jobs < 2:  # what is imported by now and with the first job stays: looking through it again costs 0.1 s
            gc.freeze()
        self._jobs += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
