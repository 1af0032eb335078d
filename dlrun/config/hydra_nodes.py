"""Hydra's share: composing the chosen parts. Through the compose API, from nodes that were read and refused or accepted before.

Hydra gets every file as plain data through its ConfigStore and has no search path, so it never opens a file itself.
"""

from __future__ import annotations

from typing import Any

from dlrun.config.layers import Path
from dlrun.config.library import Library, Part
from dlrun.config.places import printable
from dlrun.errors import UsageError

ROOT = "dlrun_root"


def compose_nodes(library: Library, parts: dict[Path, Part]) -> dict[Path, dict[str, Any]]:
    """The composed node of each slot, interpolations left as they are. Raises UsageError."""
    from hydra import compose, initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    store = ConfigStore.instance()
    before, store.repo = store.repo, _hydra_own(store.repo)
    outer = GlobalHydra.instance().hydra  # of a notebook or program that uses Hydra itself
    GlobalHydra.instance().hydra = None
    try:
        defaults: list[Any] = [{f"/{part.group}@{'.'.join(slot)}": part.name} for slot, part in parts.items()]
        store.store(name=ROOT, node={"defaults": [*defaults, "_self_"]})
        for part in parts.values():
            _store(store, library, part)
        with initialize(config_path=None, version_base="1.3"):
            tree = OmegaConf.to_container(compose(ROOT), resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(f"the parts cannot be composed: {printable(' '.join(str(error).split()))}") from None
    finally:
        store.repo = before
        GlobalHydra.instance().hydra = outer
    assert isinstance(tree, dict)
    return {slot: tree[slot[0]] if len(slot) == 1 else tree[slot[0]][slot[1]] for slot in parts}


def _hydra_own(repo: dict[str, Any]) -> dict[str, Any]:
    """Hydra's own entries of its store, without those of whoever else uses it in this process."""
    return {key: value for key, value in repo.items() if key in ("hydra", "_dummy_empty_config_.yaml", "_hydra_.yaml")}


def _store(store: Any, library: Library, part: Part) -> None:
    for name, document in library.bases_of(part).items():
        store.store(group=part.group, name=name, node=_node(document.values, library.bases(part.group, document)))
    store.store(group=part.group, name=part.name, node=_node(part.values, part.bases))


def _node(values: dict[str, Any], bases: tuple[str, ...]) -> dict[str, Any]:
    return {"defaults": [*bases, "_self_"], **values} if bases else values
