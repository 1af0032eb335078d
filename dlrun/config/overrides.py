"""The command line's overrides, in Hydra's grammar: parsed by Hydra's own parser one by one, so that every error is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlrun.config.layers import Choice, Item, Layer, Path, parse_slot
from dlrun.config.places import SLOT_GROUPS, printable
from dlrun.errors import UsageError

HYDRA_KEYS = {
    "hydra.run": "say run_dir=FOLDER",
    "hydra.sweep": "say output_root=FOLDER",
    "hydra.job.chdir": "dlrun never changes the working folder",
    "hydra.job": "dlrun names runs after experiment, time, seed and arm",
    "hydra.searchpath": "say --config-dir FOLDER",
    "hydra.launcher": "say dlrun sweep --backend local|ray|slurm",
    "hydra.sweeper": "say dlrun sweep",
    "hydra.mode": "say dlrun sweep",
    "hydra.verbose": "dlrun writes log.txt into the run's folder",
    "hydra.job_logging": "dlrun writes log.txt into the run's folder",
    "hydra.hydra_logging": "dlrun writes log.txt into the run's folder",
    "hydra.output_subdir": "the config is saved as RUN/config.yaml",
}
MAX_LENGTH = 4_000
MAX_TOTAL = 10_000
"""Characters of one override and of all of them; Hydra's parser takes a second for lists of 10 000."""
MAX_DEPTH = 20


def command_line(overrides: Sequence[str]) -> Layer:
    """The overrides as a layer; what cannot be parsed is in its `errors`."""
    layer = Layer("command line", command_line=True)
    if not overrides:  # Hydra takes 0.1 s to import
        return layer
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if sum(map(len, overrides)) > MAX_TOTAL:
        layer.errors.append(f"command line: more than {MAX_TOTAL} characters of overrides: put them into a YAML of an experiment")
        return layer
    parser = OverridesParser.create()
    for text in overrides:
        origin = f"command line: {printable(text, 120)}"
        try:
            _add(layer, parser, text, origin)
        except UsageError as error:
            layer.errors += [f"{origin}: {line}" for line in error.lines]
    return layer


def _add(layer: Layer, parser: Any, text: str, origin: str) -> None:
    key = text.lstrip("+~").partition("=")[0].strip()
    if key.replace("/", ".").split(".")[0].split("@")[0] == "hydra":
        raise UsageError(f"refused: dlrun has its own options; {_instead(key)}")
    if "=" in text and (not key or ".." in key or key[0] == "." or key[-1] == "."):
        raise UsageError("a key is names with single dots between them")
    override, value = _parse(parser, _quoted(text))
    slot_text = override.key_or_group + (f"@{override.package}" if override.package else "")
    is_slot = override.package is not None or "/" in override.key_or_group
    path = parse_slot(slot_text) if is_slot else tuple(override.key_or_group.split("."))
    if is_slot and path[0] not in (*SLOT_GROUPS, "experiment"):
        raise UsageError(f"no group {printable(path[0])}; there are {', '.join(SLOT_GROUPS)}")
    if override.is_delete():
        _delete(layer, path, value, origin)
    elif is_slot:
        if not isinstance(value, str):
            raise UsageError("expected a part's name")
        layer.choices.append(Choice(path, value, origin))
    else:
        layer.items.append(Item(path, value, lambda path: origin))


def _quoted(text: str) -> str:
    """An override whose plain value has letters beyond ASCII, in quotes: Hydra's grammar has no other reading of them (`run_dir=/ü`)."""
    key, equals, value = text.partition("=")
    plain = value and not value.isascii() and value.isprintable() and not any(mark in value for mark in "\"'\\,[]{}()$")
    return f'{key}{equals}"{value}"' if plain else text


def _parse(parser: Any, text: str) -> tuple[Any, Any]:
    """Hydra's view of one override and its plain value. Raises UsageError."""
    if len(text) > MAX_LENGTH:
        raise UsageError(f"longer than {MAX_LENGTH} characters")
    if max(text.count("["), text.count("{"), text.count("(")) > 500 or _depth(text) > MAX_DEPTH:
        raise UsageError(f"nested more than {MAX_DEPTH} deep")
    try:
        override = parser.parse_override(text)
        if override.is_sweep_override():
            raise UsageError("several values: use `dlrun sweep`")
        return override, _plain(override.value())
    except UsageError:
        raise
    except RecursionError:
        raise UsageError("nested too deeply") from None
    except Exception as error:  # the parser raises many kinds, ValueError of a too long number among them
        problem = printable(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 120)
        if "=" not in text and not text.startswith("~"):
            raise UsageError("expected KEY=VALUE") from None
        raise UsageError(f"cannot be read ({problem}); quote values with special characters: KEY='\"a, b\"'") from None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "[{(":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]})":
            depth -= 1
    return deepest


def _plain(value: Any) -> Any:
    """Hydra's value as plain data with text keys."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError(f"key {printable(str(key), 60)} is not text: put it in quotes")
            found[key] = _plain(inner)
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError("several values: use `dlrun sweep`")


def _delete(layer: Layer, path: Path, value: Any, origin: str) -> None:
    if path[0] not in (*SLOT_GROUPS, "experiment") or len(path) > 2:
        raise UsageError("only a slot can be taken away (~augment.flip); to switch an option off set it (KEY=null)")
    if value not in (None, ""):
        raise UsageError(f"say ~{'.'.join(path)}, without a value")
    layer.choices.append(Choice(path, None, origin))


def _instead(key: str) -> str:
    plain = key.replace("/", ".")
    for prefix in sorted(HYDRA_KEYS, key=len, reverse=True):
        if plain == prefix or plain.startswith(prefix + "."):
            return HYDRA_KEYS[prefix]
    return "say dlrun COMMAND --help"
