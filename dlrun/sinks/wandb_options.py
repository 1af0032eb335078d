"""What W&B is told of a run: the config's `log.wandb`, else the `WANDB_*` variables, else defaults.

As with `wandb.init`, what is said in the config or on the command line wins over the environment; null leaves the choice to it. A value
that the config takes from the environment (`${oc.env:...}`) may be a secret and is left out, unless it is one of W&B's own variables.
Imports nothing heavy: it is asked before torch is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "tags": "WANDB_TAGS",
}
"""What a run is filed under -> the variable that says it where the config does not."""
MODES = {"dryrun": "offline", "run": "online", "shared": "online", "offline": "offline", "online": "online", "disabled": "disabled"}
"""W&B's words for its modes -> ours."""
OWN = re.compile(rf"\$\{{oc\.env:({'|'.join(VARIABLES.values())})(,[^${{}}]*)?\}}")

Options = dict[str, Any]


def study_of(run_dir: Path) -> str | None:
    """The study whose run this is, by where it lies: `STUDY/runs/RUN`."""
    place = run_dir.absolute().parent
    return place.parent.name if place.name == "runs" and (place.parent / "study.yaml").is_file() else None


def wandb_options(
    saved: Mapping[str, Any], resolved: Mapping[str, Any], environ: Mapping[str, str], study: str | None = None
) -> tuple[Options, list[str]]:
    """What the copy for W&B needs to know, and lines to print for what is not as it was asked for.

    `saved` and `resolved` are the whole config, without and with the values that come from the environment; `study` is whose run it is.
    """
    written, values = saved["log"]["wandb"], resolved["log"]["wandb"]
    mode, notes = wanted_mode(values["mode"], environ)
    options: Options = {"mode": mode, "log_model": values["log_model"], "given": [], "id": environ.get("WANDB_RUN_ID") or None}
    for key, variable in VARIABLES.items():
        value = values[key] or None
        if value is not None and leads_to_environment(written[key]):
            notes.append(f"log.wandb.{key} comes from the environment and is kept from W&B: say {variable}=... if it is no secret")
            value = None
        if value is not None:
            options["given"].append(key)
        options[key] = value if value is not None else environ.get(variable) or None
    if isinstance(options["tags"], str):
        options["tags"] = [tag.strip() for tag in options["tags"].split(",") if tag.strip()]
    tags = saved.get("tags", resolved.get("tags")) or []
    own = [tag for tag in tags if not leads_to_environment(tag)]
    if len(own) < len(tags):
        notes.append("tags: those that come from the environment are kept from W&B: say WANDB_TAGS=... if they are no secret")
    options["tags"] = list(dict.fromkeys([*resolve_own(own, environ), *(options["tags"] or [])]))
    options["group"] = options["group"] or study or resolved.get("experiment")
    options["project"] = options["project"] or "dlrun"
    options["dir"], options["silent"] = environ.get("WANDB_DIR") or None, truth(environ.get("WANDB_SILENT"))
    return options, notes if mode != "disabled" else []


def wanted_mode(configured: str | None, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """offline, online or disabled, and a line where the environment says something else than the config does."""
    word = "disabled" if truth(environ.get("WANDB_DISABLED")) else environ.get("WANDB_MODE", "").strip().lower()
    wanted = MODES.get(word)
    if configured is None:
        unknown = [f"WANDB_MODE={word[:40]!r} is none of {', '.join(MODES)}: taken as offline"] if word and wanted is None else []
        return wanted or "offline", unknown
    differs = wanted is not None and wanted != configured
    return configured, [f"W&B: log.wandb.mode={configured} wins over {wanted} from the environment"] if differs else []


def leads_to_environment(written: Any) -> bool:
    """Whether a saved value was left as it was written because the environment stands behind it, and not only W&B's own variables."""
    texts = written if isinstance(written, list) else [written]
    return any("${" in OWN.sub("", text) for text in texts if isinstance(text, str))


def resolve_own(written: Any, environ: Mapping[str, str]) -> Any:
    """A saved value with W&B's own variables filled in; whatever else leads to the environment stays as it was written."""
    if isinstance(written, list):
        return [resolve_own(item, environ) for item in written]
    return OWN.sub(lambda found: environ.get(found[1], (found[2] or ",")[1:]), written) if isinstance(written, str) else written


def truth(text: str | None) -> bool:
    """A variable that switches something on."""
    return (text or "").strip().lower() in ("1", "true", "yes", "on")
