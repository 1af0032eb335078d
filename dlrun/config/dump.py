"""A composed config as YAML text that reads back as the same values, in YAML 1.1 and by dlrun's own strict reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dump(tree: Mapping[str, Any]) -> str:
    """`tree` as YAML, keys in the order they are used, no aliases; text that a terminal would not show as it is, is escaped."""
    import yaml

    from dlrun.config.reading import reads_as_text

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if reads_as_text(value) else "'")

    Plain.add_representer(str, text)
    written: str = yaml.dump(dict(tree), Dumper=Plain, sort_keys=False, allow_unicode=True, width=140)
    if not written.replace("\n", "").isprintable():
        written = yaml.dump(dict(tree), Dumper=Plain, sort_keys=False, allow_unicode=False, width=140)
    return written
