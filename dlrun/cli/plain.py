"""Reading YAML and Python as text, line by line, for the commands that may not spend a YAML parser: `ls` and `show`."""

from __future__ import annotations

import os
import stat

MAX_BYTES = 256 * 1024


def read_text(path: str, limit: int = MAX_BYTES, follow: bool = True) -> str:
    """The text of a regular file, at most `limit` bytes; "" where there is none, or a link that is not to be followed."""
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):
            return ""
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def first_comment(text: str) -> str:
    """The first comment line of a YAML file, without `#`; package headers are passed over."""
    for line in text.splitlines():
        if line.startswith("#") and "@package" not in line and "yaml-language-server" not in line:
            return line.lstrip("# ").strip()
        if line.strip() and not line.startswith("#"):
            break
    return ""


def first_docstring(text: str) -> str:
    """The first line of a module's docstring."""
    for line in text.splitlines():
        if line.startswith(('"""', 'r"""')):
            return line.removeprefix("r").strip('" ')
        if line.strip() and not line.startswith("#"):
            break
    return ""


def top_level(text: str) -> dict[str, tuple[str, str]]:
    """Key -> (value as written, comment) of the keys at the left margin of a flat YAML file; nested lines join their key's value."""
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#") or line.startswith(("---", "...")):
            continue
        if line[0] in " \t-":
            if last:
                value, comment = found[last]
                found[last] = (f"{value} {split_comment(line)[0]}".strip(), comment)
            continue
        key, colon, rest = line.partition(":")
        if colon:
            last = key.strip().strip("'\"")
            found[last] = split_comment(rest)
    return found


def split_comment(text: str) -> tuple[str, str]:
    """A value and the comment after it; a `#` in quotes or inside a word is none."""
    quote = ""
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (i == 0 or text[i - 1] in " \t[{,:("):
            quote = character  # one inside a word, as in Occam's, is an apostrophe
        elif character == "#" and (i == 0 or text[i - 1] in " \t"):
            return text[:i].strip(), text[i + 1 :].strip()
    return text.strip(), ""


def tags_of(text: str) -> list[str]:
    """The tags of an experiment or a saved config, `tags: [a, b]` or one a line."""
    value = top_level(text).get("tags", ("", ""))[0]
    if value.startswith("["):
        return [tag.strip(" '\"") for tag in value.strip("[]").split(",") if tag.strip(" '\"")]
    return [tag.strip(" '\"") for tag in value.split("- ") if tag.strip(" '\"")]
