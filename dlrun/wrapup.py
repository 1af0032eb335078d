"""After the loop: figures, the copies' last words, and the line that says how it went and how to go on."""

from __future__ import annotations

from shlex import quote

from dlrun.baselines import beaten
from dlrun.evaluate import look
from dlrun.fitted import fit_lines
from dlrun.probing import after_training
from dlrun.session import Session
from dlrun.signals import EXIT
from dlrun.sinks.background import Background
from dlrun.sinks.console import Console

WAIT_SECONDS = 15.0
"""How long a finished run waits for its copies (W&B, TensorBoard); what is missing then can be uploaded later."""


def wrap_up(session: Session, status: str) -> int:
    """Say how the run ended and draw. Returns the exit code. The result is safe already: nothing here can harm it."""
    run, console, path = session.run, session.console, session.directory.path
    for line in fit_lines(run, session.summary) if status == "finished" else ():
        console.line(line)
    console.result({**session.summary, "metrics": of_this_step(session), "run_dir": str(path)})
    for line in beaten(run, session.summary["metrics"], session.summary["baselines"]) if status == "finished" else ():
        console.line(line, "warning")
    if session.summary["baselines_skipped"]:
        console.line(f"baselines: {session.summary['baselines_skipped']}")
    if status == "finished":
        after_training(session, console.line)
        if session.host.figures:
            draw_figures(session)
        return 0
    console.line(
        f"stopped after step {session.summary['step']} of {run.steps} and saved; go on with: dlrun resume {quote(str(path))}", "warning"
    )
    return 75 if session.reason == "max_seconds" else EXIT.get(session.reason or "SIGINT", 0)


def of_this_step(session: Session) -> dict[str, float]:
    """The metrics of the last step; evaluations that lie further back say nothing of the weights as they are now."""
    summary = session.summary
    old = {split for split, step in summary["evaluated"].items() if step != summary["step"]}
    return {name: value for name, value in summary["metrics"].items() if name.partition("/")[0].removesuffix("_ema") not in old}


def finish_copies(console: Console, background: Background | None) -> None:
    """Wait for W&B and TensorBoard to have it all, and say where it lies or what is missing."""
    for line in background.finish(WAIT_SECONDS) if background is not None else ():
        console.line(line)


def draw_figures(session: Session) -> None:
    """Curves, confusion matrix, worst errors and what the task shows of itself, as figures/*.png."""
    from dlrun.errors_of import confusion_and_errors
    from dlrun.sinks.figures import draw

    run = session.run
    split = next((name for name in ("test", "val", "train") if name in run.data.rows), "train")
    try:
        confusion, errors = confusion_and_errors(run, split)
        draw(session.directory.path, dict(look(run, run.modules, split)), confusion, run.data.spec.names, errors)
    except (OSError, RuntimeError, ValueError) as error:
        session.console.line(f"no figures: {type(error).__name__}: {error}", "warning")
