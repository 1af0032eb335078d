"""Overrides at the cursor: keys and values that the parts chosen so far take. YAML and Python are read as text, plugins never run."""

from __future__ import annotations

import os

from dlrun.cli.arguments import FLAGS, SHORT
from dlrun.cli.keys import root_keys
from dlrun.cli.plain import first_comment, read_text, top_level
from dlrun.config.places import GROUPS, SLOT_GROUPS, builtin_names, experiment_names, find_yaml, is_name, search_dirs, source_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast

    Found = list[tuple[str, str]]

EMPTY_ALLOWED = ("loss", "metric", "augment")
RESUMED = ("train.steps", "train.max_seconds", "device", "log.")
WORD_VALUES = {"device": ("auto", "cpu", "cuda", "mps"), "start.step": ("last", "best")}
FOLDERS = ("run_dir", "output_root", "start.from")
MAX_PLUGIN = 1024 * 1024


class Typed:
    """What the words before the cursor say: overrides by key, other words, folders with YAML, parts that plugins would bring."""

    def __init__(self, words: list[str]) -> None:
        self.overrides: dict[str, str] = {}
        self.words: list[str] = []
        files, folder = [], None
        flag = ""
        for word in words:
            if not flag and word.startswith("-"):
                name, equals, value = SHORT.get(word, word)[2:].partition("=")
                takes = FLAGS.get(name, ("",))[0]
                flag, word = (name, value) if equals else (name if takes and not takes.startswith("[") else "", "")
                if not equals:
                    continue
            if flag:
                files += [word] if flag == "plugin" else []
                folder = word if flag == "config-dir" else folder
                flag = ""
            elif "=" in word:
                key, _, value = word.lstrip("+").partition("=")
                self.overrides[key] = value
            elif not word.startswith("~"):
                self.words.append(word)
        self.dirs = search_dirs(os.path.expanduser(folder) if folder else None)
        self.plugins = {part: options for file in files for part, options in _plugin_parts(file).items()}

    def names(self, group: str) -> list[str]:
        """Parts of `group`, those of the plugins among them."""
        return sorted({*builtin_names(group), *(name for kind, name in self.plugins if kind == group)})

    def summary(self, group: str, name: str) -> str:
        """What the first line of its YAML says."""
        path = find_yaml(group, name, self.dirs)
        return "of a plugin" if (group, name) in self.plugins else first_comment(read_text(path)) if path else ""

    def options(self, group: str, name: str) -> dict[str, tuple[str, str]]:
        """Option -> (default as written, what it means)."""
        path = find_yaml(group, name, self.dirs) if is_name(name) else None
        written = self.plugins.get((group, name), {})
        found = {option: (default, comment) for option, (_, default, comment) in written.items()}
        found.update(top_level(read_text(path)) if path else {})
        return {option: told for option, told in found.items() if option not in ("name", "slots", "defaults")}

    def annotation(self, group: str, name: str, option: str) -> str:
        """The option's annotation as its source has it."""
        import ast

        if (group, name) in self.plugins:
            return self.plugins[group, name].get(option, ("", "", ""))[0]
        from dlrun.config.source import read_definition

        path = source_file(group, name)
        annotations = read_definition(path, name)[1] if is_name(name) and os.path.isfile(path) else {}
        return ast.unparse(annotations[option]) if option in annotations else ""

    def chosen(self) -> dict[str, str]:
        """Slot (`model`, `model.generator`) -> part, as root, task, experiment and command line say, later ones winning."""
        from dlrun.config.places import own_conf

        found = _entries(read_text(os.path.join(own_conf(), "config.yaml")))
        experiment = self._text("experiment", self.overrides.get("experiment", ""))
        of_experiment = {**_entries(experiment), **_choices(top_level(experiment))}
        task = self.overrides.get("task") or of_experiment.get("task") or found.get("task", "")
        default = {"model": "mlp", "optimizer": "adamw"} if ("task", task) in self.plugins else {}
        found = {**found, **_entries(self._text("task", task)), **default, **of_experiment}
        typed = {
            key: value for key, value in self.overrides.items() if key.split(".")[0] in SLOT_GROUPS and value in self.names(_group(key))
        }
        found.update({(f"augment.{value}" if key == "augment" else key): value for key, value in typed.items()})
        return {slot: name for slot, name in found.items() if is_name(name)}

    def arms(self) -> list[str]:
        """Arms of the chosen experiment."""
        from dlrun.cli.keys import values

        text = self._text("experiment", self.overrides.get("experiment", ""))
        names = [key.split(".")[1] for key in values(text) if key.startswith("arms.")]
        inline = top_level(text).get("arms", ("", ""))[0].strip("{} ")
        return list(dict.fromkeys([*names, *(piece.split(":")[0].strip() for piece in inline.split("}, "))])) if inline else names

    def _text(self, group: str, name: str) -> str:
        path = find_yaml(group, name, self.dirs) if name and "/" not in name else None
        return read_text(path) if path else ""


def _group(key: str) -> str:
    return key.split(".")[0]


def _plugin_parts(file: str) -> dict[tuple[str, str], dict[str, tuple[str, str, str]]]:
    """What a plugin's file registers, by its text."""
    from dlrun.config.source import plugin_definitions

    try:
        return plugin_definitions(read_text(os.path.expanduser(file), MAX_PLUGIN))
    except (SyntaxError, ValueError, RecursionError):
        return {}


def _entries(text: str) -> dict[str, str]:
    """Slot -> part of a defaults list: `- override /model: cnn`, `- /model@_global_.model.critic: mlp`."""
    found = {}
    for line in text.splitlines():
        bare = line.strip()
        if line[:1] not in " -" or not bare.startswith("- ") or ": " not in bare:
            continue
        key, _, name = bare[2:].removeprefix("override ").partition(": ")
        group, _, place = key.strip().lstrip("/").partition("@")
        slot = place.removeprefix("_global_.") or group
        if group in SLOT_GROUPS and slot.split(".")[0] == group:
            found[slot] = name.split("#")[0].strip(" '\"")
    return found


def _choices(values: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Parts that an experiment names as values: `model: cnn`."""
    return {group: values[group][0] for group in SLOT_GROUPS if group in values and is_name(values[group][0])}


def override_candidates(typed: Typed, current: str, resumed: bool = False) -> tuple[Found, tuple[str, ...]]:
    """(candidates, directives) for an override that is being typed; a resumed run takes few keys."""
    lead = current[: len(current) - len(current.lstrip("+"))]
    if current.startswith("~"):
        return [(f"~{slot}", name) for slot, name in typed.chosen().items() if slot.startswith("augment.") or slot in EMPTY_ALLOWED], ()
    key, equals, _ = current[len(lead) :].partition("=")
    if not equals:
        keys = _keys(typed, key)
        keys = [(text, note) for text, note in keys if not resumed or text.startswith(RESUMED) or any(r.startswith(text) for r in RESUMED)]
        return [(lead + text, note) for text, note in keys], ()
    found, directives = _values(typed, key)
    return [(f"{lead}{key}={text}", note) for text, note in found], directives


def _keys(typed: Typed, typed_key: str) -> Found:
    """Keys that begin with what is typed, cut at the next dot: `model=` and `model.` first, then `model.width=`."""
    found: dict[str, str] = {"experiment": "a file of conf/experiment"}
    slots = typed.chosen()
    for group in SLOT_GROUPS:
        if group in ("metric", "augment") or not any(slot.startswith(f"{group}.") for slot in slots):
            found[group] = f"now {slots[group]}" if group in slots else ""
    found.update({f"augment.{name}": typed.summary("augment", name) for name in typed.names("augment") if typed_key.startswith("augment")})
    for slot, name in slots.items():
        found[slot] = f"now {name}"
        if typed_key.startswith(_group(slot)):
            found.update({f"{slot}.{option}": comment for option, (_, comment) in typed.options(_group(slot), name).items()})
        else:
            found[f"{slot}."] = f"options of {name}"
    found.update({key: told["comment"] for key, told in root_keys().items()})
    out: Found = []
    for key, comment in found.items():
        if key.startswith(typed_key):
            dot = key.find(".", len(typed_key))
            out.append((key[: dot + 1], "") if dot >= 0 else (f"{key}=", comment))
    return list(dict.fromkeys(out))


def _values(typed: Typed, key: str) -> tuple[Found, tuple[str, ...]]:
    """Values of one key: names of parts, choices of its type, its default."""
    slots, group = typed.chosen(), _group(key)
    if key in slots or key in SLOT_GROUPS or (group == "augment" and key.count(".") == 1):
        empty = [("null", "none of them")] if group in EMPTY_ALLOWED else []
        return [*((name, typed.summary(group, name)) for name in typed.names(group)), *empty], ()
    if key in ("experiment", "sweep"):
        return [(name, typed.summary(key, name)) for name in experiment_names(typed.dirs, key)], ()
    if key == "arm":
        return [(name, "") for name in typed.arms()], ()
    if key in FOLDERS:
        return [], (":folders",)
    slot, _, option = key.rpartition(".")
    if slot in slots:
        default, comment = typed.options(group, slots[slot]).get(option, ("", ""))
        return _of_type(typed.annotation(group, slots[slot], option), default, comment)
    told = root_keys().get(key)
    if told is None:
        return [], ()
    found, directives = _of_type(told["type"], told["default"], told["comment"])
    return [*((word, "") for word in WORD_VALUES.get(key, ())), *found], directives


def probe_candidates(typed: Typed, current: str) -> tuple[Found, tuple[str, ...], bool]:
    """(candidates, directives, whether the probe is named already): its name behind a run, then its options."""
    name = typed.words[-1] if typed.words else ""
    if name not in typed.names("probe"):
        return [(each, typed.summary("probe", each)) for each in typed.names("probe") if typed.words], (), False
    options = typed.options("probe", name)
    key, equals, _ = current.partition("=")
    if not equals:
        return [(f"{option}=", comment) for option, (_, comment) in options.items()], (), True
    found, directives = _of_type(typed.annotation("probe", name, key), *options[key]) if key in options else ([], ())
    return [(f"{key}={text}", note) for text, note in found], directives, True


def _of_type(annotation: str, default: str, comment: str) -> tuple[Found, tuple[str, ...]]:
    """What an annotation allows: its words, else the default as a start."""
    import ast

    choices = list(_choices_of(ast.parse(annotation or "None", mode="eval").body))
    plain = default.strip("'\"").replace(", ", ",")
    if "Path" in annotation:
        return [(plain, "the default")] if plain not in ("", "null") else [], (":files ",)
    marked = [(choice, "the default" if choice == plain else "") for choice in choices]
    if plain and plain not in choices and plain not in ("???", "(must be given)", "(not said)", "{}"):
        marked.append((plain, comment))
    return marked, ()


def _choices_of(node: ast.expr) -> list[str]:
    """Words in an annotation: those of a Literal outside lists, true and false of a bool, null where it may be."""
    import ast

    if isinstance(node, ast.BinOp):
        return [*_choices_of(node.left), *_choices_of(node.right)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [str(item.value) for item in items if isinstance(item, ast.Constant)]
    if isinstance(node, ast.Name) and node.id == "bool":
        return ["true", "false"]
    return ["null"] if isinstance(node, ast.Constant) and node.value is None else []


def part_candidates(typed: Typed, current: str, roots: bool) -> Found:
    """KIND/NAME; with `roots` also the keys at the root of a config."""
    kind, slash, _ = current.partition("/")
    if slash:
        names = experiment_names(typed.dirs) if kind == "experiment" and roots else typed.names(kind) if kind in GROUPS else []
        return [(f"{kind}/{name}", typed.summary(kind, name)) for name in names]
    found: Found = [(f"{group}/", "") for group in GROUPS if typed.names(group)]
    if not roots:
        return found
    keys = root_keys()
    shown = {key.split(".")[0] for key in keys} if "." not in current else set(keys)
    return [
        *found,
        ("experiment/", ""),
        ("config", "the keys at the root"),
        *((key, keys[key]["comment"] if key in keys else "") for key in shown),
    ]
