"""What the tests of wrong configs share."""

from __future__ import annotations

from typing import Any

import pytest

from dlrun.config import compose
from dlrun.errors import UsageError


def errors(*overrides: str, **where: Any) -> list[str]:
    """The error lines that `overrides` end in; none holds a line break or a control character."""
    with pytest.raises(UsageError) as caught:
        compose(overrides, **where)
    assert all(line.isprintable() for line in caught.value.lines)
    return caught.value.lines
