"""`dlrun eval RUN`: metrics of a checkpoint on a split, the same numbers training would have written."""

from __future__ import annotations

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import saved_config, saved_run
from dlrun.errors import UsageError

SPLITS = ("train", "val", "test")


def run(arguments: Arguments) -> int:
    """Evaluate and print; the result is kept as RUN/eval-<split>.json."""
    path, split, step = saved_run(arguments), arguments.text("split") or "test", arguments.text("step") or "last"
    if split not in SPLITS:
        raise UsageError(f"--split {split}: expected one of {', '.join(SPLITS)}")
    if step not in ("best", "last") and not step.isdigit():
        raise UsageError(f"--step {step}: expected best, last or a number of steps")
    config = saved_config(arguments, path)
    from dlrun.baselines import baseline_lines, baselines
    from dlrun.cli.as_json import json_text, print_json
    from dlrun.evaluate import evaluate
    from dlrun.rundir import write_atomic
    from dlrun.sinks.console import Console
    from dlrun.start import find_checkpoint
    from dlrun.state import restore_networks, restore_task
    from dlrun.train import build_run
    from dlrun.unfit import say_undefined

    source = find_checkpoint(path, step)
    run = build_run(config, load_start=False)
    if split not in run.data.rows:
        raise UsageError(f"--split {split}: this data has {', '.join(run.data.rows)}")
    restore_networks(run, source)
    restore_task(run, source)
    plain = evaluate(run, run.modules, split, source.step)
    found = {f"{split}/{name}": value for name, value in plain.items()}
    if run.ema is not None:
        found |= {f"{split}_ema/{name}": value for name, value in evaluate(run, run.ema.modules, split, source.step).items()}
    known = baselines(run, (split,))
    document = {"run": str(path), "split": split, "step": source.step, "rows": run.data.rows[split], "metrics": found}
    document |= {"baselines": known.values, "baselines_skipped": known.skipped}
    write_atomic(path / f"eval-{split}.json", json_text(document))
    if arguments.flag("json"):
        print_json(document)
    else:
        with Console() as console:
            console.evaluation(source.step, found)
            for line in baseline_lines(run, found, known):
                console.line(line)
            say_undefined(run, split, plain, console.line)
    return 0
