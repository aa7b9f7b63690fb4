"""Labels as people type them: when two spellings are one name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_-](?=[^\W_])")


def spelled_otherwise(name: str, labels: Iterable[str]) -> str | None:
    """The one label that `name` is but for capitals and what stands between words; None where there is none, or two.

    `No Parasite` is `no_parasite`. Likeness is no guide here: a few letters are all that is between normal and
    abnormal, and a sign at the end all that is between parasite+ and parasite-.
    """
    found = [label for label in labels if _plain(label) == _plain(name)]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return BETWEEN_WORDS.sub("_", unicodedata.normalize("NFKC", name).casefold())
