"""`dlrun --help`, `dlrun COMMAND --help`, `dlrun --version`: plain text."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import COMMANDS, FLAGS, Arguments
from dlrun.config.places import GROUPS, PACKAGE, printable
from dlrun.errors import UsageError

HEAD = """dlrun trains a network from YAML and proves the set-up sane first.

  dlrun train                                    the default: digits, a small MLP
  dlrun train model=cnn optimizer.lr=3e-4 seed=1    other parts, other values
  dlrun train experiment=NAME                    an experiment of conf/experiment
  dlrun ls model; dlrun show model/mlp           what there is; what it can be told
"""
TAIL = """
Overrides are KEY=VALUE in Hydra's grammar. Groups of parts: {groups}.
Exit codes: 0 done, 1 the answer is no, 2 usage or config error, 3 something needed is missing or broken, 4 undecided,
75 stopped at train.max_seconds after saving, 130 and 143 after Ctrl-C and SIGTERM, after saving.
"""


def run(arguments: Arguments) -> int:
    """Print the help of everything or of one command."""
    if "version" in arguments.flags:
        from dlrun import __version__

        print(f"dlrun {__version__}")
        return 0
    if arguments.positional:
        _one(arguments.positional[0])
        return 0
    sys.stdout.write(HEAD + "\nCommands (dlrun COMMAND --help says more):\n")
    for name, (_, summary, _) in COMMANDS.items():
        if is_there(name):
            sys.stdout.write(f"  {name:<11}{summary}\n")
    sys.stdout.write(TAIL.format(groups=", ".join(GROUPS)))
    return 0


def is_there(command: str) -> bool:
    """Whether this version has the command."""
    return os.path.isfile(os.path.join(PACKAGE, "cli", f"{command}.py"))


def _one(name: str) -> None:
    if name not in COMMANDS:
        raise UsageError(f"no command {printable(repr(name), 80)}; dlrun --help lists them")
    words, summary, flags = COMMANDS[name]
    sys.stdout.write(f"dlrun {name} {words}{' [OPTIONS]' if flags else ''}\n\n  {summary}\n")
    if not is_there(name):
        sys.stdout.write("  (not part of this version)\n")
    shown = [flag for flag in (*flags, "help") if flag != "multirun" or is_there("sweep")]
    typed = {flag: f"--{flag} {FLAGS[flag][0]}".rstrip() for flag in shown}
    width = max(24, *map(len, typed.values()))
    for flag, text in typed.items():
        sys.stdout.write(f"  {text:<{width}}  {FLAGS[flag][1]}\n")
