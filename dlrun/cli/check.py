"""`dlrun check`: every sanity check that applies to a config; nothing lasts, nothing is written. Exit 1 where one finds an error."""

from __future__ import annotations

import time

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import compose_for


def run(arguments: Arguments) -> int:
    """Build the configured run and print what the checks find."""
    config = compose_for(arguments)
    from dlrun.checks import Subject, kind_line, lines_on_request, run_checks, verdict, worst
    from dlrun.sinks.console import Console
    from dlrun.train import build_run

    begun = time.perf_counter()
    built = build_run(config)
    try:
        findings = run_checks(built, "deep" if arguments.flag("deep") else "check")
        kind = Subject(built).kind
    finally:
        built.data.close()
    ok, seconds = worst(findings) != "error", time.perf_counter() - begun
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json({"ok": ok, "kind": kind, "findings": [finding.as_json() for finding in findings], "seconds": seconds})
        return 0 if ok else 1
    with Console() as console:
        for note in [*built.notes, *filter(None, [kind_line(built)])]:
            console.line(note)
        for line, style in [*lines_on_request(findings, console.width), verdict(findings, seconds)]:
            console.line(line, style)
    return 0 if ok else 1
