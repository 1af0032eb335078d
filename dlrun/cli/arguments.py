"""What was typed: a command, its flags, overrides and other words. Hand-written, for argparse alone costs more than `dlrun ls` may."""

from __future__ import annotations

from dlrun.config.places import printable
from dlrun.errors import UsageError

FLAGS: dict[str, tuple[str, str]] = {
    "cfg": ("[job]", "print the composed config as YAML and stop"),
    "json": ("", "one JSON document on stdout, nothing else there"),
    "plugin": ("FILE|NAME", "your own parts: a Python file or an installed plugin; may be given several times"),
    "from": ("RUN/config.yaml", "start from a saved config, overrides on top"),
    "config-dir": ("FOLDER", "look for YAML here before dlrun's own (also -cd)"),
    "pdb": ("", "open the debugger where an error is raised"),
    "multirun": ("", "the same as dlrun sweep (also -m)"),
    "out": ("FOLDER", "write what is shown into this folder"),
    "fetch": ("", "bring the data into the cache, from whichever source is in reach"),
    "deep": ("", "the checks that take longer, too"),
    "split": ("SPLIT", "train, val or test"),
    "step": ("best|last|N", "which checkpoint"),
    "tag": ("TAG", "only what has this tag"),
    "as": ("NAME", "the name of the copy"),
    "name": ("STUDY", "name of the study"),
    "workers": ("N", "local processes"),
    "backend": ("local|ray|slurm", "where workers run"),
    "ray-address": ("HOST:PORT|auto", "the Ray cluster to run on; without it a Ray of this machine"),
    "trials": ("N", "how many trials"),
    "goal": ("METRIC:max|min", "what to choose by, e.g. val/accuracy:max"),
    "storage": ("URL", "another database than the study's own SQLite, e.g. postgresql://..."),
    "search": ("grid|random|qmc|tpe|gp", "how values are chosen (grid; tpe where there is an interval)"),
    "prune": ("none|halving", "give up early on trials that lie behind"),
    "decide": ("N", "more seeds, up to N each, where the best cells cannot be told apart"),
    "timeout": ("SECONDS", "stop the study after so long; the same command goes on"),
    "seeds": ("N", "seeds per claim"),
    "fresh": ("", "do again what is there already (sync: under a new W&B id)"),
    "all": ("", "every one there is"),
    "help": ("", "this help (also -h)"),
    "version": ("", "dlrun's version"),
}
"""Flag -> (value as the help shows it; empty: takes none; in brackets: may be left out, help line)."""
REPEATABLE = ("plugin",)
SHORT = {"-h": "--help", "-m": "--multirun", "-cd": "--config-dir"}
HYDRA_FLAGS = {
    "config-name": "say experiment=NAME",
    "config-path": "say --config-dir FOLDER",
    "info": "say --cfg",
    "resolve": "the printed config is resolved already; environment variables stay as they are",
    "package": "say --cfg and look there",
    "run": "say dlrun train",
    "hydra-help": "say --help",
    "shell-completion": "say dlrun completion SHELL",
}
BUILDS = ("plugin", "config-dir", "pdb")

COMMANDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "train": ("[OVERRIDES]", "train: fast checks, training, evaluation, result", ("cfg", "from", "multirun", "json", *BUILDS)),
    "resume": ("RUN [train.steps=N ...]", "go on with a run from its newest whole checkpoint", ("json", *BUILDS)),
    "eval": ("RUN", "metrics of a checkpoint", ("split", "step", "json", *BUILDS)),
    "check": ("[OVERRIDES]", "every sanity check that applies; trains nothing that lasts", ("deep", "from", "cfg", "json", *BUILDS)),
    "data": ("[OVERRIDES]", "the data exactly as the network gets it", ("fetch", "out", "from", "cfg", "json", *BUILDS)),
    "ls": ("[KIND|experiment|runs]", "what parts, experiments and runs there are", ("tag", "all", "json", *BUILDS)),
    "show": ("KIND/NAME", "a part's options, types, defaults, source", ("json", *BUILDS)),
    "doctor": ("", "the environment, and a 20-step self-training", ("json", "pdb")),
    "sweep": (
        "[OVERRIDES with a=1,2]",
        "many runs as one study",
        (
            "name",
            "workers",
            "backend",
            "ray-address",
            "trials",
            "goal",
            "storage",
            "search",
            "prune",
            "decide",
            "timeout",
            "from",
            "json",
            *BUILDS,
        ),
    ),
    "reproduce": ("NAME...", "run what is missing, judge the claims", ("seeds", "fresh", "all", "json", *BUILDS)),
    "probe": ("RUN... NAME [OPTION=VALUE]", "a measurement on trained runs; dlrun ls probe lists them", ("step", "json", *BUILDS)),
    "report": ("RUN...", "an HTML report", BUILDS),
    "compare": ("RUN...", "what differs in config and result", ("json",)),
    "sync": ("RUN... [log.wandb.project=...]", "upload what W&B does not have of runs", ("fresh", "json")),
    "verify": ("resume|accumulate|... [OVERRIDES]", "proofs on your own config", ("json", *BUILDS)),
    "replay": ("RUN", "a failed step again", BUILDS),
    "new": ("KIND NAME", "a plugin to start from: NAME.py with its test", ("json",)),
    "eject": ("KIND/NAME", "a copy of a part to edit: a plugin and its YAML", ("as", "out", "json")),
    "completion": ("bash|zsh|fish", "completion for your shell: source <(dlrun completion bash)", ()),
    "schema": ("", "JSON Schema of the config, for editors", ("plugin", "config-dir")),
    "help": ("[COMMAND]", "this help", ()),
}
"""Command -> (its words, what it does, its flags)."""


class Arguments:
    """A command with its `overrides` (words with `=`, or `~` in front), other words (`positional`) and flags."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.overrides: list[str] = []
        self.positional: list[str] = []
        self.flags: dict[str, str | bool | list[str]] = {}

    def flag(self, name: str) -> str | bool | None:
        """The value of a flag (True where it takes none), None where it was not given."""
        value = self.flags.get(name)
        return None if isinstance(value, list) else value

    def text(self, name: str) -> str | None:
        """The value of a flag that takes one, None where it was not given."""
        value = self.flags.get(name)
        return value if isinstance(value, str) else None

    @property
    def plugins(self) -> list[str]:
        """Every `--plugin` in order."""
        value = self.flags.get("plugin", [])
        return value if isinstance(value, list) else []


def parse(words: list[str]) -> Arguments:
    """Arguments from the words after `dlrun`. Raises UsageError with every error there is."""
    errors: list[str] = []
    command, rest = _command(words)
    arguments = Arguments(command)
    while rest:
        word = rest.pop(0)
        if word == "--":
            for plain in rest:
                _plain(arguments, plain)
            break
        if word.startswith("-") and len(word) > 1:
            _flag(arguments, word, rest, errors)
        else:
            _plain(arguments, word)
    if errors:
        raise UsageError(errors)
    if "help" in arguments.flags and command != "help":
        arguments.positional = [command]
        arguments.command = "help"
    if "multirun" in arguments.flags:
        arguments.command = "sweep"
    return arguments


def _command(words: list[str]) -> tuple[str, list[str]]:
    if not words or words[0] in ("-h", "--help"):
        return "help", words[1:]
    first = words[0]
    if first == "--version":
        return "help", words
    if first in COMMANDS:
        return first, words[1:]
    from dlrun.config.messages import hint, nearest

    if first.startswith("-") or "=" in first:
        raise UsageError(f"{printable(first, 80)}: the command comes first: dlrun train {printable(first, 80)}")
    guess = hint(nearest(first, COMMANDS), "dlrun ")
    raise UsageError(f"no command {printable(repr(first), 80)}{guess or '; dlrun --help lists them'}")


def _plain(arguments: Arguments, word: str) -> None:
    is_override = "=" in word or word.startswith("~")
    if is_override or (word.startswith("+") and arguments.command in ("train", "check", "data", "sweep")):
        arguments.overrides.append(word)
    else:
        arguments.positional.append(word)


def _flag(arguments: Arguments, word: str, rest: list[str], errors: list[str]) -> None:
    """Take one flag and its value off the words."""
    name, equals, value = word.partition("=")
    name = SHORT.get(name, name)
    flag = name.removeprefix("--")
    allowed = (*COMMANDS[arguments.command][2], "help", "version")
    if not name.startswith("--") or flag not in allowed:
        errors.append(_unknown(arguments.command, name, allowed))
        return
    takes = FLAGS[flag][0]
    if not takes and equals:
        errors.append(f"{name} takes no value")
        return
    if takes.startswith("["):
        optional = value if equals else rest.pop(0) if rest and rest[0] in ("job", "all", "hydra") else "job"
        if optional != "job":
            errors.append(f"{name} {printable(optional, 40)}: there is the config of the job only: {name} job")
        value = optional
    elif takes and not equals:
        if not rest or (rest[0].startswith("-") and rest[0] in (*SHORT, *(f"--{known}" for known in FLAGS))):
            errors.append(f"{name} needs a value: {name} {takes}")
            return
        value = rest.pop(0)
    if takes and not value:
        errors.append(f"{name} needs a value: {name} {takes}")
        return
    _store(arguments, flag, value if takes else True, errors)


def _store(arguments: Arguments, flag: str, value: str | bool, errors: list[str]) -> None:
    if flag in REPEATABLE:
        found = arguments.flags.setdefault(flag, [])
        assert isinstance(found, list) and isinstance(value, str)
        found.append(value)
    elif flag in arguments.flags and arguments.flags[flag] != value:
        errors.append(f"--{flag} given twice: {printable(str(arguments.flags[flag]), 60)} and {printable(str(value), 60)}")
    else:
        arguments.flags[flag] = value


def _unknown(command: str, name: str, allowed: tuple[str, ...]) -> str:
    from dlrun.config.messages import hint, nearest

    bare = name.lstrip("-")
    shown = printable(name, 60)
    if bare in HYDRA_FLAGS:
        return f"{shown}: not an option of dlrun; {HYDRA_FLAGS[bare]}"
    if bare in FLAGS and name.startswith("--"):
        takers = [other for other, (_, _, flags) in COMMANDS.items() if bare in flags]
        return f"{shown}: dlrun {command} has no such option; {', '.join(takers)} {'has' if len(takers) == 1 else 'have'} it"
    guess = hint(nearest(bare, allowed), "--")
    return f"{shown}: no such option of dlrun {command}{guess or '; it has ' + ', '.join('--' + flag for flag in allowed)}"
