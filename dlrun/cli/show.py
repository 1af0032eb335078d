"""`dlrun show`: options with type, default and what they mean, of a part (`model/mlp`) or of the root of a config (`train`), as text."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import first_comment, read_text, top_level
from dlrun.cli.sheet import columns, option_lines, wrapped
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
    """Print one part, one experiment, or keys of the root."""
    if len(arguments.positional) != 1 or arguments.overrides:
        raise UsageError("dlrun show takes one KIND/NAME, like model/mlp, or keys of the root: config, train, train.steps")
    if arguments.plugins:
        from dlrun.plugins import load_plugins

        load_plugins(arguments.plugins)
    folder = arguments.text("config-dir")
    dirs = search_dirs(os.path.expanduser(folder) if folder else None)
    word, as_json = arguments.positional[0], bool(arguments.flag("json"))
    if word != "experiment" and "/" not in word and not any(word in part_names(group) for group in GROUPS):
        keys = _keys(word)
        if keys:
            return _root(word, keys, as_json)
    group, name = _find(word, dirs)
    if group == "experiment":
        return _experiment(name, dirs, as_json)
    facts = _facts(group, name, dirs)
    _write(facts, [*_head(facts), *option_lines(facts["options"], columns()), *_tail(facts)], as_json)
    return 0


def _write(document: dict[str, Any], lines: list[str], as_json: bool) -> None:
    if as_json:
        import json

        sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
    else:
        sys.stdout.write("\n".join(lines) + "\n")


def _keys(word: str) -> list[dict[str, Any]]:
    """The root keys that `word` names: all (`config`), a section (`train`), or one (`train.steps`, `seed`); [] for none."""
    from dlrun.cli.keys import root_keys

    found: dict[str, dict[str, Any]] = dict(root_keys())
    chosen = [key for name, key in found.items() if word == "config" or name == word or name.startswith(word + ".")]
    return [{**key, "means": _means(key["type"])} for key in chosen]


def _root(word: str, keys: list[dict[str, Any]], as_json: bool) -> int:
    from dlrun.cli.keys import section_comments

    about = section_comments().get(word, "")
    title = "the keys at the root of a config, beside its parts" if word == "config" else about
    head = f"{printable(word)}: {title}" if title else printable(word)
    tail = f"\n  values: conf/config.yaml\n  on the command line: {keys[0]['name']}=..."
    shown_keys = keys if len(keys) > 1 or keys[0]["name"] != word else [{**keys[0]}]
    lines = [*wrapped(head, columns(), 0), "", *option_lines(shown_keys, columns()), tail]
    _write({"kind": "keys", "name": word, "summary": title, "options": keys}, lines, as_json)
    return 0


def _means(text: str) -> str:
    """The named ranges in an annotation, in words."""
    words = text.replace("[", " ").replace("]", " ").replace(",", " ").split()
    return "; ".join(f"{word}: {MEANS[word]}" for word in MEANS if word in words)


def _find(word: str, dirs: list[str]) -> tuple[str, str]:
    """(group, name) of `model/mlp`, or of a bare `mlp` that only one group has."""
    from dlrun.config.messages import hint, listing, nearest

    group, slash, name = word.partition("/")
    if word in GROUPS:
        raise UsageError(f"{word} is a kind of parts: dlrun ls {word} lists them, dlrun show {word}/NAME explains one")
    known = {kind: part_names(kind) for kind in GROUPS}
    known["experiment"] = experiment_names(dirs)
    if not slash:
        owners = [kind for kind, names in known.items() if word in names]
        if len(owners) == 1:
            return owners[0], word
        if owners:
            raise UsageError(f"{printable(word, 60)} is the name of {' and of '.join(f'{kind}/{word}' for kind in owners)}: say which")
        if "." in word:
            _unknown_key(word)
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


def _unknown_key(word: str) -> None:
    from dlrun.cli.keys import root_keys
    from dlrun.config.messages import hint, nearest

    head, _, option = word.partition(".")
    if head in GROUPS:
        raise UsageError(
            f"{printable(word, 60)}: an option of a part: dlrun show {head}/NAME explains {printable(option, 40)} and the others"
        )
    raise UsageError(f"no key {printable(repr(word), 60)} at the root of a config{hint(nearest(word, root_keys()), 'dlrun show ')}")


def _experiment(name: str, dirs: list[str], as_json: bool) -> int:
    path = find_yaml("experiment", name, dirs)
    text = read_text(path) if path else ""
    if as_json:
        from dlrun.cli.as_json import print_json

        print_json({"kind": "experiment", "name": name, "file": shown(path or name), "text": text})
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
        default, comment = values.get(option["name"], (option["default"], ""))
        option["default"], option["comment"] = default, comment or option.get("comment", "")
    return {
        "kind": group,
        "name": name,
        "summary": first_comment(text) or (doc.splitlines() or [""])[0],
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
        options.append({"name": option, "type": text, "means": _means(text), "default": "(must be given)"})
    return wiring, options, doc, f"dlrun/{os.path.basename(os.path.dirname(path))}/{name}.py:{line}"


def _of_plugin(group: str, name: str) -> tuple[list[str], list[dict[str, str]], str, str]:
    """The same of a plugin's part, from its signature."""
    from dlrun.config.kinds import show_value
    from dlrun.config.schema import MISSING, part_source

    source = part_source(group, name)
    assert source is not None  # the name was found among the plugins'
    comments, where = _of_plugin_text(group, name)
    options = [
        {
            "name": option.name,
            "type": option.kind.text,
            "means": _means(option.kind.text),
            "default": str(MISSING) if option.default is MISSING else show_value(option.default),
            "comment": comments.get(option.name, ""),
        }
        for option in source.options.values()
    ]
    return list(source.wiring), options, source.doc, where


def _of_plugin_text(group: str, name: str) -> tuple[dict[str, str], str]:
    """The comments behind a plugin part's options, and its file."""
    import inspect

    from dlrun.config.source import plugin_definitions

    try:
        path = inspect.getsourcefile(plugin_parts(group)[name]) or ""
    except TypeError:
        path = ""
    written = plugin_definitions(read_text(path)).get((group, name), {}) if path else {}
    return {option: comment for option, (_, _, comment) in written.items()}, f"plugin {shown(path)}" if path else "plugin"


def _head(facts: dict[str, Any]) -> list[str]:
    width = columns()
    doc = [line for each in facts["doc"].splitlines() for line in (wrapped(printable(each, 400), width, 2) or [""])]
    title = wrapped(f"{facts['kind']}/{facts['name']}: {printable(facts['summary'])}", width, 0)
    same = facts["doc"].strip() == facts["summary"]
    return [*title, *([] if same else doc), "", *([] if facts["options"] else ["  (no options)"])]


def _tail(facts: dict[str, Any]) -> list[str]:
    return ["", f"  values: {facts['values'] or 'defaults of the plugin'}", f"  source: {facts['source']}"]
