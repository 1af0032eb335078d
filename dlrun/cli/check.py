"""`dlrun check`: every sanity check that applies to a config; nothing lasts, nothing is written. Exit 1 where one finds an error."""

from __future__ import annotations

import json
import sys
import time

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import compose_for


def run(arguments: Arguments) -> int:
    """Build the configured run and print what the checks find."""
    config = compose_for(arguments)
    from dlrun.checks import run_checks, worst
    from dlrun.rundir import jsonable
    from dlrun.sinks.console import Console
    from dlrun.train import build_run

    begun = time.perf_counter()
    built = build_run(config)
    try:
        findings = run_checks(built, "deep" if arguments.flag("deep") else "check")
    finally:
        built.data.close()
    ok, seconds = worst(findings) != "error", time.perf_counter() - begun
    if arguments.flag("json"):
        document = {"ok": ok, "findings": [finding.as_json() for finding in findings], "seconds": seconds}
        sys.stdout.write(json.dumps(jsonable(document), indent=1) + "\n")
        return 0 if ok else 1
    with Console() as console:
        for note in built.notes:
            console.line(note)
        for finding in findings:
            for line, style in finding.lines():
                console.line(line, style)
        console.line(f"{'sound as far as these checks see' if ok else 'not sound'}: {len(findings)} checks in {seconds:.1f} s")
    return 0 if ok else 1
