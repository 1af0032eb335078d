"""What may stand at the cursor: commands, flags and their values, parts, runs; `overriding.py` has the overrides. Reads text only."""

from __future__ import annotations

import os

from dlrun.cli.arguments import COMMANDS, FLAGS, REPEATABLE, SHORT
from dlrun.cli.overriding import Typed, override_candidates, part_candidates, probe_candidates
from dlrun.cli.plain import read_text, tags_of
from dlrun.config.places import GROUPS, PACKAGE, experiment_names, find_yaml, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Found = list[tuple[str, str]]

PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,/=~@:[]|")
"""What a candidate that is no path may consist of: nothing a shell would act on."""
MOST_RUNS = 50
CHOICES = {
    "split": ("train", "val", "test"),
    "step": ("best", "last"),
    "backend": ("local", "ray", "slurm"),
    "cfg": ("job",),
    "search": ("grid", "random", "qmc", "tpe", "gp"),
    "prune": ("none", "halving"),
}
RUN_COMMANDS = ("resume", "eval", "report", "compare", "sync", "replay")
WORDS = {
    "completion": ("bash", "zsh", "fish"),
    "verify": ("resume", "accumulate", "workers", "compile", "precision"),
    "ls": (*GROUPS, "experiment", "sweep", "runs"),
}


def unquoted(word: str) -> str:
    """A word as bash has it on its line, without quotes and backslashes; nothing in it is expanded."""
    out, quote, i = "", "", 0
    while i < len(word):
        character = word[i]
        if quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif character == "\\" and quote != "'" and i + 1 < len(word):
            i += 1
            out += word[i]
        else:
            out += character
        i += 1
    return out


def candidates(before: list[str], current: str) -> list[str]:
    """Lines for the shell's script: what may stand for `current` behind the words `before` (the command among them)."""
    if not before:
        commands = [(name, summary) for name, (_, summary, _) in COMMANDS.items() if _is_there(name)]
        return _lines([*commands, ("--help", "this help"), ("--version", "dlrun's version")], current)
    command = before[0]
    if command not in COMMANDS:
        return []
    flag, value = _open_flag(command, before, current)
    if flag:
        return _flag_value(flag, value, current, Typed(before[1:]))
    if current.startswith("-"):
        return _lines(_flags(command, before), current)
    return _words(command, before, current)


def _is_there(command: str) -> bool:
    return os.path.isfile(os.path.join(PACKAGE, "cli", f"{command}.py"))


def _lines(found: Iterable[tuple[str, str]], current: str, *directives: str) -> list[str]:
    """The candidates that begin with what is typed; a list that ends open (`model.`, `lr=`) asks for no space behind it."""
    kept = dict.fromkeys((text, note) for text, note in found if text.startswith(current) and PLAIN.issuperset(text))
    lines = [f"{text}\t{printable(note, 100)}" if note else text for text, note in kept]
    is_open = kept and all(text[-1:] in "=./" for text, _ in kept)
    return [*([":nospace"] if is_open else []), *lines, *directives]


def _open_flag(command: str, before: list[str], current: str) -> tuple[str, str]:
    """(flag, what is typed of its value) where the cursor stands in one; ("", "") elsewhere."""
    if current.startswith("--") and "=" in current:
        name, _, value = current[2:].partition("=")
        return (name, value) if name in FLAGS and FLAGS[name][0] else ("", "")
    last = SHORT.get(before[-1], before[-1]) if len(before) > 1 else ""
    name = last.removeprefix("--")
    takes = last.startswith("--") and name in COMMANDS[command][2] and FLAGS[name][0]
    return (name, current) if takes and not takes.startswith("[") else ("", "")


def _flags(command: str, before: list[str]) -> Found:
    given = {word.partition("=")[0].removeprefix("--") for word in before if word.startswith("--")}
    names = [name for name in (*COMMANDS[command][2], "help") if name not in given or name in REPEATABLE]
    names = [name for name in names if name != "multirun" or _is_there("sweep")]
    return [(f"--{name}", FLAGS[name][1]) for name in names]


def _flag_value(flag: str, value: str, current: str, typed: Typed) -> list[str]:
    lead = current[: len(current) - len(value)]
    if flag == "plugin":
        return [":files .py"]
    if flag == "from":
        return [":files .yaml"]
    if flag in ("config-dir", "out"):
        return [":folders"]
    found: Found = [(choice, "") for choice in CHOICES.get(flag, ())]
    if flag == "tag":
        files = [find_yaml("experiment", name, typed.dirs) for name in experiment_names(typed.dirs)]
        found = sorted({(tag, "") for path in files if path for tag in tags_of(read_text(path))})
    if flag == "step":
        found += [(step, "") for run in typed.words for step in _steps(run)]
    return _lines([(lead + text, note) for text, note in found], current)


def _steps(run: str) -> list[str]:
    """Steps of the checkpoints in a run's folder, newest first."""
    try:
        names = os.listdir(os.path.join(os.path.expanduser(run), "checkpoints"))
    except (OSError, ValueError):
        return []
    return [str(int(n[5:])) for n in sorted(names, reverse=True) if n.startswith("step-") and n[5:].isascii() and n[5:].isdigit()]


def _words(command: str, before: list[str], current: str) -> list[str]:
    """Words that are no flags: overrides, parts, kinds, runs."""
    typed = Typed(before[1:])
    if command == "probe":
        found, directives, named = probe_candidates(typed, current)
        return [*_lines(found, current, *directives), *([] if named or "=" in current else _runs(current))]
    if command in RUN_COMMANDS and "=" not in current:
        runs = [] if typed.words and command in ("resume", "eval", "replay") else _runs(current)
        more = override_candidates(typed, current, resumed=True)[0] if typed.words and command == "resume" else []
        return [*_lines(more, current), *runs]
    if command in ("train", "check", "data", "sweep", "verify", "resume"):
        if command == "verify" and not typed.words:
            return _lines([(word, "") for word in WORDS[command]], current)
        return _lines(*_with(current, override_candidates(typed, current, resumed=command == "resume")))
    if command == "help":
        return _lines([(name, COMMANDS[name][1]) for name in COMMANDS if _is_there(name)], current)
    if command in ("show", "eject"):
        return [] if typed.words else _lines(part_candidates(typed, current, roots=command == "show"), current)
    if command == "new":
        from dlrun.cli.new import KINDS

        return [] if typed.words else _lines([(kind, "") for kind in KINDS], current)
    if command == "ls" and typed.words[:1] == ["runs"]:
        return [":folders"] if current.startswith("output_root=") else _lines([("output_root=", "where the runs lie")], current)
    return [] if typed.words else _lines([(word, "") for word in WORDS.get(command, ())], current)


def _with(current: str, found: tuple[Found, tuple[str, ...]]) -> tuple[Found, str, str] | tuple[Found, str]:
    return (found[0], current, *found[1])  # type: ignore[return-value]


def _runs(current: str) -> list[str]:
    """Run folders below outputs/, newest first, and any other folder; names that a terminal would not show as they are stay out."""
    from dlrun.cli.runs import run_names

    root = "outputs"
    names = sorted(run_names(root), reverse=True)
    found = [os.path.join(root, name) for _, name in names]
    found = [path for path in found if path.startswith(current) and path.isprintable()][:MOST_RUNS]
    return [":paths", *found, *([] if found else [":folders"])]
