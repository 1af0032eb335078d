"""docs/claims.md has parts that are generated: `PYTHONPATH=. python tests/claims_docs.py` writes them anew.

They stand between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

from pathlib import Path

from dlrun.claims import functions, tree
from dlrun.claims.forms import check_claims

PAGE = Path(__file__).parent.parent / "docs" / "claims.md"
GROUPS = {"point by point": functions.POINTWISE, "over an axis": functions.OVER_AXIS, "over seeds": functions.OVER_SEEDS}
CONFIG = {"arms": {"decay": {}, "no_decay": {}}, "events": {"memorised": "train/accuracy >= 0.99", "generalised": "test/accuracy >= 0.99"}}
WRONG = ["decay.generalized.step >= 10", 'decy["test/accuracy"].final > 0.9', 'decay["test/accuracy"].last > 0.9', "decay.steps == 100"]


def parts() -> dict[str, str]:
    """What stands between the markers, by name."""
    run = {**functions.READINGS, **functions.HAPPENINGS, **functions.FACTS, **functions.MEASURES}
    rows = [f"| `{word.form.replace(' or ', '` or `')}` | {word.says} |" for word in run.values()]
    called = [
        f"| `{word.form.replace(' or ', '` or `')}` | {where} | {word.says} |" for where, words in GROUPS.items() for word in words.values()
    ]
    errors = [line for text in WRONG for line in check_claims({**CONFIG, "claims": [text]})]
    return {
        "run": "\n".join(["| say | for |", "|---|---|", *rows]),
        "functions": "\n".join(["| say | goes | gives |", "|---|---|---|", *called]),
        "errors": "\n".join(["```text", *errors, "```"]),
        "words": ", ".join(f"`{word}`" for word in sorted(tree.DOWN)),
    }


def rewritten(page: str) -> str:
    """The page with its generated parts as they are today."""
    for name, text in parts().items():
        gap = " " if name == "words" else "\n"
        before, _, rest = page.partition(f"<!-- {name} -->")
        _, end, after = rest.partition("<!-- end -->")
        assert end, name
        page = f"{before}<!-- {name} -->{gap}{text}{gap}{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
