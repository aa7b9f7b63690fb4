"""Names of pictures and labels as messages give them: without what would garble a line, and the first few of many."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Control characters and bytes that are not UTF-8: they would garble every list the name is printed in.
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"


def printable(name: str) -> str:
    """The name with a question mark for each control character and each byte that is not UTF-8."""
    # Most names need no look at their single characters, nor the pattern to be compiled.
    return name if name.isprintable() else re.sub(_UNPRINTABLE, "?", name)


def first_few(names: Sequence[str], limit: int = 3) -> str:
    """`a, b, c and 9 more`, for messages."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
