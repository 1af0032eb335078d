"""The freeze: the second half of the corpus is written after it and scored only while `dlrun/checks` is as it was then."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).parent / "freeze.json"
CHECKS, SECOND = "dlrun/checks", "scripts/scoring/corpus/second"


def commit(file: Path = FILE) -> str | None:
    """The commit that the checks are frozen at; None before the freeze."""
    named = json.loads(file.read_text("utf-8"))["commit"]
    return str(named) if named else None


def _git(*words: str, root: Path) -> tuple[int, str]:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def refusal(file: Path = FILE, root: Path = ROOT) -> str | None:
    """Why the second half may not be scored now; None if it may."""
    frozen = commit(file)
    if frozen is None:
        return "the second half is scored after the checks are frozen: scripts/scoring/freeze.json names no commit yet"
    if _git("cat-file", "-e", f"{frozen}^{{commit}}", root=root)[0]:
        return f"scripts/scoring/freeze.json names the commit {frozen}, which is not in this repository"
    if _git("cat-file", "-e", f"{frozen}:{SECOND}", root=root)[0] == 0:
        return f"{SECOND} was there at the freeze {frozen[:12]}: the second half has to be written after it"
    changed = _git("diff", "--name-only", frozen, "--", CHECKS, root=root)[1].splitlines()
    changed += _git("ls-files", "--others", "--exclude-standard", "--", CHECKS, root=root)[1].splitlines()
    if changed:
        return f"the second half is scored with the checks of {frozen[:12]} alone; changed since: {', '.join(changed[:6])}"
    return None
