"""Errors a user can act on, each with the exit code of the command line: one line says what and where, what was expected, what to do."""

from __future__ import annotations


class DlrunError(Exception):
    """Something the user can mend; `lines` are printed as they are, without a traceback."""

    code = 3

    def __init__(self, lines: str | list[str]) -> None:
        self.lines = [lines] if isinstance(lines, str) else list(lines)
        super().__init__("\n".join(self.lines))


class UsageError(DlrunError):
    """Wrong command line or config: nothing was run or written (exit 2)."""

    code = 2


class MissingError(DlrunError):
    """Something needed is missing or broken: data, disk, memory, a held lock, a damaged checkpoint (exit 3)."""

    code = 3


class AnswerNo(DlrunError):
    """The question was answered with no: a failed check, a training stopped on a non-finite value (exit 1)."""

    code = 1
