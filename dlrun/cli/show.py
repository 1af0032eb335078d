"""`dlrun show KIND/NAME`: a part's options with type, default and comment, what it is and where it stands; read as text."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import first_comment, read_text, top_level
from dlrun.config.places import (
    GROUPS,
    experiment_names,
    find_yaml,
    is_experiment_name,
    is_name,
    part_names,
    plugin_parts,
    printable,
    search_dirs,
    shown,
    source_file,
)
from dlrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MEANS = {
    "Positive": "a number > 0",
    "NonNegative": "a number >= 0",
    "Fraction": "a number in [0, 1]",
    "Decay": "a number in [0, 1)",
    "Count": "an integer >= 1",
    "Index": "an integer >= 0",
    "Seed": "an integer from 0 to 4294967295",
}
"""The named ranges in words; equal to what config errors say (tested), without importing what makes them."""


def run(arguments: Arguments) -> int:
    """Print one part or experiment."""
    if len(arguments.positional) != 1 or arguments.overrides:
        raise UsageError("dlrun show takes one KIND/NAME, like model/mlp")
    if arguments.plugins:
        from dlrun.plugins import load_plugins

        load_plugins(arguments.plugins)
    folder = arguments.text("config-dir")
    dirs = search_dirs(os.path.expanduser(folder) if folder else None)
    group, name = _find(arguments.positional[0], dirs)
    if group == "experiment":
        return _experiment(name, dirs, bool(arguments.flag("json")))
    facts = _facts(group, name, dirs)
    if arguments.flag("json"):
        import json

        sys.stdout.write(json.dumps(facts, indent=1, default=str) + "\n")
    else:
        _print(facts)
    return 0


def _find(word: str, dirs: list[str]) -> tuple[str, str]:
    """(group, name) of `model/mlp`, or of a bare `mlp` that only one group has."""
    from dlrun.config.messages import hint, listing, nearest

    group, slash, name = word.partition("/")
    known = {kind: part_names(kind) for kind in GROUPS}
    known["experiment"] = experiment_names(dirs)
    if not slash:
        owners = [kind for kind, names in known.items() if word in names]
        if len(owners) == 1:
            return owners[0], word
        if owners:
            raise UsageError(f"{printable(word, 60)} is the name of {' and of '.join(f'{kind}/{word}' for kind in owners)}: say which")
        every = [f"{kind}/{each}" for kind, names in known.items() for each in names]
        match = nearest(word, [each.split("/")[1] for each in every])
        guess = next((each for each in every if match and each.endswith(f"/{match}")), None)
        raise UsageError(f"no part {printable(repr(word), 60)}; say KIND/NAME, like model/mlp{hint(guess)}")
    if group not in known:
        raise UsageError(f"no kind {printable(repr(group), 60)}; there are {', '.join(known)}{hint(nearest(group, known))}")
    valid = is_experiment_name(name) if group == "experiment" else is_name(name)
    if not valid or name not in known[group]:
        guess_here = hint(nearest(name, known[group]), f"{group}/")
        raise UsageError(f"no {group} {printable(repr(name), 60)}; there are {listing(known[group]) or 'none'}{guess_here}")
    return group, name


def _experiment(name: str, dirs: list[str], as_json: bool) -> int:
    path = find_yaml("experiment", name, dirs)
    text = read_text(path) if path else ""
    if as_json:
        import json

        sys.stdout.write(json.dumps({"kind": "experiment", "name": name, "file": shown(path or name), "text": text}, indent=1) + "\n")
        return 0
    sys.stdout.write(f"# {shown(path or name)}\n")
    for line in text.splitlines():
        sys.stdout.write(printable(line, 1000) + "\n")
    return 0


def _facts(group: str, name: str, dirs: list[str]) -> dict[str, Any]:
    path = find_yaml(group, name, dirs)
    text = read_text(path) if path else ""
    values = top_level(text)
    plugin = name in plugin_parts(group)
    wiring, options, doc, where = _of_plugin(group, name) if plugin else _of_source(group, name)
    for option in options:
        option["default"], option["comment"] = values.get(option["name"], (option["default"], ""))
    return {
        "kind": group,
        "name": name,
        "summary": first_comment(text),
        "doc": doc,
        "given": wiring,
        "options": options,
        "values": shown(path) if path else None,
        "source": where,
    }


def _of_source(group: str, name: str) -> tuple[list[str], list[dict[str, str]], str, str]:
    """(wiring, options, docstring, place) of a built-in part, from its text."""
    import ast

    from dlrun.config.source import read_definition

    path = source_file(group, name)
    wiring, annotations, doc, line = read_definition(path, name)
    options = []
    for option, annotation in annotations.items():
        text = ast.unparse(annotation)
        means = [f"{word}: {MEANS[word]}" for word in MEANS if word in text.replace("[", " ").replace("]", " ").replace(",", " ").split()]
        options.append({"name": option, "type": text, "means": "; ".join(means), "default": "(must be given)"})
    return wiring, options, doc, f"dlrun/{os.path.basename(os.path.dirname(path))}/{name}.py:{line}"


def _of_plugin(group: str, name: str) -> tuple[list[str], list[dict[str, str]], str, str]:
    """The same of a plugin's part, from its signature."""
    from dlrun.config.kinds import show_value
    from dlrun.config.schema import MISSING, part_source

    source = part_source(group, name)
    assert source is not None  # the name was found among the plugins'
    options = [
        {
            "name": option.name,
            "type": option.kind.text,
            "means": "",
            "default": str(MISSING) if option.default is MISSING else show_value(option.default),
        }
        for option in source.options.values()
    ]
    return list(source.wiring), options, source.doc, "plugin"


def _print(facts: dict[str, Any]) -> None:
    out = sys.stdout.write
    out(f"{facts['kind']}/{facts['name']}: {printable(facts['summary'])}\n")
    for line in facts["doc"].splitlines():
        out(f"  {printable(line, 400)}\n")
    out("\n")
    if not facts["options"]:
        out("  (no options)\n")
    width = max((len(option["name"]) for option in facts["options"]), default=0)
    for option in facts["options"]:
        means = f"  ({option['means'].removeprefix(option['type'] + ': ')})" if option["means"] else ""
        comment = f"  # {printable(option['comment'])}" if option["comment"] else ""
        out(f"  {option['name']:<{width}}  {printable(option['default'], 80)}  {option['type']}{means}{comment}\n")
    out(f"\n  values: {facts['values'] or 'defaults of the plugin'}\n  source: {facts['source']}\n")
