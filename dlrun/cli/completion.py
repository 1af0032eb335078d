"""`dlrun completion bash|zsh|fish`: the script a shell reads, which asks `dlrun completion --for SHELL -- WORDS` at every TAB."""

from __future__ import annotations

import os
import sys

from dlrun.cli.arguments import Arguments
from dlrun.cli.plain import read_text
from dlrun.config.places import PACKAGE, printable
from dlrun.errors import DlrunError, UsageError

SCRIPTS = {"bash": "dlrun.bash", "zsh": "_dlrun", "fish": "dlrun.fish"}


def run(arguments: Arguments) -> int:
    """Print the script of one shell."""
    words = arguments.positional
    if len(words) != 1 or words[0] not in SCRIPTS or arguments.overrides:
        found = f"; found {printable(' '.join(words), 60)}" if words else ""
        raise UsageError(f"dlrun completion takes one shell: bash, zsh or fish{found}")
    sys.stdout.write(read_text(os.path.join(PACKAGE, "cli", "shells", SCRIPTS[words[0]])))
    return 0


def answer(words: list[str]) -> int:
    """What may stand for the last of the words after `--`, a candidate a line, its description behind a tab.

    Lines that begin with a colon are for the script: `:nospace`, `:paths`, `:files SUFFIX`, `:folders`. An error says nothing: the user
    is typing, and the command itself will tell.
    """
    from dlrun.cli.completing import candidates, unquoted

    shell, typed = words[0] if words else "", words[2:]
    if shell == "bash":
        typed = [unquoted(word) for word in typed]
    try:
        lines = candidates(typed[:-1], typed[-1] if typed else "")
    except (OSError, ValueError, LookupError, SyntaxError, RecursionError, DlrunError):
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
