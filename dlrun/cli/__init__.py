"""The command line: dispatch by name, exit codes, uncaught errors. Imports nothing heavy; each command imports what it needs."""

from __future__ import annotations

import gc
import os
import sys

from dlrun.cli.arguments import COMMANDS, Arguments, parse
from dlrun.errors import DlrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(words: list[str] | None = None) -> int:
    """Run `dlrun` with `words` (default: the process's own arguments); returns the exit code, prints errors on stderr."""
    arguments: Arguments | None = None
    words = sys.argv[1:] if words is None else words
    try:
        if words[:2] == ["completion", "--for"]:  # a shell asks at every TAB, with words that need not be whole
            from dlrun.cli.completion import answer

            return answer(words[2:])
        arguments = parse(words)
        return dispatch(arguments)
    except DlrunError as error:
        if arguments is not None and arguments.flag("json"):
            _json_error(error)
        return tell(error, arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return 0
    except Exception as error:  # our own bug, or the user's own code: the traceback is the message
        return _stdout_failed(error) if _is_of_stdout(error) else _uncaught(error, arguments)


def dispatch(arguments: Arguments) -> int:
    """Run the command: `dlrun.cli.<command>:run(arguments)`. `--cfg` prints the config it would run with instead."""
    if arguments.flag("cfg"):
        from dlrun.cli.common import compose_for
        from dlrun.config.dump import dump

        saved = compose_for(arguments).saved
        if arguments.flag("json"):
            from dlrun.cli.as_json import print_json

            print_json(saved)
        else:
            sys.stdout.write(dump(saved))
        return 0
    from importlib import import_module

    name = f"dlrun.cli.{arguments.command}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"dlrun {arguments.command} is not part of this version") from None
    return int(module.run(arguments))


def _json_error(error: DlrunError) -> None:
    """With --json stdout is one document, also where there is no answer."""
    from dlrun.cli.as_json import print_json

    print_json({"ok": False, "errors": [_safe(line) for line in error.lines], "exit_code": error.code})


def _safe(text: str) -> str:
    """`text` without secrets; none is known where no config was read."""
    module = sys.modules.get("dlrun.redact")
    return str(module.redact(text)) if module else text


def tell(error: DlrunError, arguments: Arguments | None) -> int:
    """Print an error the user can mend, one line each."""
    report = getattr(error, "report", None)
    if report:
        sys.stderr.write(_safe(report))
    for line in error.lines:
        print(f"error: {_safe(line)}", file=sys.stderr)
    if arguments is not None and arguments.flag("pdb") and report:
        _post_mortem(getattr(error, "cause", error))
    return error.code


def _uncaught(error: Exception, arguments: Arguments | None) -> int:
    import traceback

    sys.stderr.write(_safe("".join(traceback.format_exception(error))))
    text = _safe(str(error)).splitlines()
    print(f"error: {type(error).__name__}: {text[0] if text else ''}", file=sys.stderr)
    from dlrun.advice import advice

    if cause := advice(error):
        print(f"probable cause: {cause}", file=sys.stderr)
    if arguments is not None and arguments.flag("pdb"):
        _post_mortem(error)
    return 3


def _is_of_stdout(error: Exception) -> bool:
    """Whether a command could not print: an error without a file's name, raised where a file of this folder wrote."""
    trace = error.__traceback__ if isinstance(error, OSError) and error.filename is None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == os.path.dirname(__file__)


def _stdout_failed(error: Exception) -> int:
    """What was to be printed is lost: say it in a line, and let the flush at exit go nowhere."""
    _silence_stdout()
    print(f"error: cannot write to stdout: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    return 3


def _post_mortem(error: BaseException) -> None:
    import pdb  # noqa: T100 (--pdb asks for it)

    pdb.post_mortem(error.__traceback__)


def _silence_stdout() -> None:
    """Whoever read our output is gone: let the flush at exit go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def console() -> NoReturn:
    """The console script: `main`, then out at once (leaving Python after torch takes 0.4 to 0.8 s).

    Imports leave no garbage, but the collector looks for it a hundred times while torch, Hydra and matplotlib are loaded (0.3 s CPU): it
    starts when there is something to build (`environment.set_up`).
    """
    gc.disable()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us (`>&-`): what is written goes nowhere
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (lives as long as the process)
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except (OSError, ValueError) as error:
        code = code or _stdout_failed(error)
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 3
    if "torch" in sys.modules or "hydra" in sys.modules:
        os._exit(code)
    sys.exit(code)


__all__ = ["COMMANDS", "console", "dispatch", "main"]
