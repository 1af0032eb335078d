"""What all tests share: a clean environment, one thread, the slow tests on request, and a way to say that real data is absent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from dlrun import plugins, registry

# Before torch is imported anywhere: two test processes with all threads each slow each other down 5 to 10 times.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Processes that tests start in other folders find this checkout as well.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
# What a developer's shell may hold and a run would obey.
for name in [name for name in os.environ if name.startswith(("WANDB_", "HYDRA_")) or name in {"DLRUN_PYTHON", "COLUMNS", "NO_COLOR"}]:
    del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, unless it was asked for: by --slow, by -m, or by naming the one test."""
    named = any("::" in argument for argument in config.args)
    if config.getoption("--slow") or "slow" in config.option.markexpr or named:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


REQUIRED = {"Fashion-MNIST"}
"""Real data that CI has to have; it tries to bring the others too."""


@pytest.fixture
def absent() -> Callable[[str], NoReturn]:
    """`absent("Fashion-MNIST")` ends a test whose real data is not there: a skip, but a failure where CI was to have brought it."""

    def end(what: str) -> NoReturn:
        if os.environ.get("DLRUN_CI") and what in REQUIRED:
            pytest.fail(f"{what} is absent, and CI fetches it before the tests")
        pytest.skip(f"{what} is absent; `scripts/dlrun data dataset=NAME --fetch` brings it")

    return end


def without_new_plugins() -> Iterator[None]:
    """Whatever plugins are loaded meanwhile are forgotten: the manifest of a later run in this process would name them."""
    parts = {group: dict(known) for group, known in registry.PLUGINS.items()}
    loaded = set(plugins._loaded)
    yield
    for group, known in parts.items():
        registry.PLUGINS[group] = known
    for module in set(plugins._loaded) - loaded:
        del plugins._loaded[module]
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True, scope="module")
def plugins_end_with_their_module() -> Iterator[None]:
    yield from without_new_plugins()


@pytest.fixture(autouse=True)
def plugins_end_with_their_test() -> Iterator[None]:
    yield from without_new_plugins()
