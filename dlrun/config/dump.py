"""A composed config as YAML text that reads back as the same values in YAML 1.1 and by dlrun's own strict reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dump(tree: Mapping[str, Any]) -> str:
    """`tree` as YAML, keys in the order they are used, no aliases."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(dict(tree), Dumper=Plain, sort_keys=False, allow_unicode=True, width=140)
