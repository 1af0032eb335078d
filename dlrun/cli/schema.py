"""`dlrun schema`: JSON Schema of the config on stdout, for editors and for whoever writes configs by program."""

from __future__ import annotations

import os
from typing import Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import load_named_plugins
from dlrun.cli.keys import root_keys, section_comments
from dlrun.cli.plain import first_comment, read_text, top_level
from dlrun.config.json_schema import INTERPOLATION, Schema, group, option, part, place
from dlrun.config.places import SLOT_GROUPS, find_yaml, part_names, printable, search_dirs
from dlrun.errors import UsageError

COMMAND_LINE_ONLY = ("run_dir", "output_root")
DRAFT = "https" + "://json-schema.org/draft/2020-12/schema"


def run(arguments: Arguments) -> int:
    """Print the schema, with the parts of plugins and the values of --config-dir."""
    if arguments.positional or arguments.overrides:
        word = [*arguments.positional, *arguments.overrides][0]
        raise UsageError(f"dlrun schema takes no words; found {printable(word, 80)}; write it to a file with: dlrun schema > FILE")
    load_named_plugins(arguments)
    folder = arguments.text("config-dir")
    from dlrun.cli.as_json import print_json

    print_json(schema(os.path.expanduser(folder) if folder else None))
    return 0


def schema(config_dir: str | None = None) -> Schema:
    """What an experiment or a saved config may hold."""
    from dlrun.config.library import Library

    library = Library(config_dir)
    definitions: Schema = {"interpolation": {"description": "a value from elsewhere: ${train.steps}, ${oc.env:NAME}", **INTERPOLATION}}
    properties: Schema = {
        "defaults": {"description": "parts by name: `- override /model: cnn`, `- /augment@augment.flip: flip`, `- _self_`", "type": "array"}
    }
    for each in SLOT_GROUPS:
        names = part_names(each)
        definitions |= {f"{each}/{name}": _part(library, each, name, search_dirs(config_dir)) for name in names}
        definitions[each] = group(each, names)
        properties[each] = place(each, each not in ("dataset", "task"), each in ("loss", "metric", "augment"))
    properties |= _root(library.root().values)
    title = "dlrun: an experiment, or the config of a run"
    return {
        "$schema": DRAFT,
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _part(library: Any, each: str, name: str, dirs: list[str]) -> Schema:
    """A part's definition: options with types from its source, defaults and comments from its YAML."""
    found = library.part(each, name)
    path = find_yaml(each, name, dirs) if found.document else None
    text = read_text(path) if path else ""
    comments = {key: comment for key, (_, comment) in top_level(text).items()}
    options = {}
    for key, told in found.source.options.items():
        has_default = key in found.values and found.values[key] != "???"
        options[key] = option(told.kind.text, comments.get(key, ""), found.values.get(key), has_default)
    return part(each, name, first_comment(text) or (found.source.doc.splitlines() or [""])[0], options)


def _root(values: dict[str, Any]) -> Schema:
    """The keys that are not parts, sections nested."""
    about = section_comments()
    top: Schema = {}
    for key, told in root_keys().items():
        if key in COMMAND_LINE_ONLY:
            continue
        *sections, last = key.split(".")
        inside, node = top, values
        for depth, section in enumerate(sections):
            empty = {"type": "object", "properties": {}, "additionalProperties": False}
            if section == "start":
                empty["type"] = ["object", "null"]
            if section in about and not depth:
                empty["description"] = about[section]
            inside = inside.setdefault(section, empty)["properties"]
            node = (node.get(section) if isinstance(node, dict) else None) or {}
        inside[last] = option(told["type"], told["comment"], node.get(last), last in node)
    return top
