"""A data report for people: facts first, then each list with its length and its first names."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.data.check import DataReport, GroupLeak, describe_leak, missing_splits
from edge_convert.data.pairs import Pair

SHOWN = 5
"""Names of a list that are shown."""


def render_text(report: DataReport, *, shown: int = SHOWN) -> str:
    """The report as lines without a newline at the end. shown: how many entries of each list."""
    lines = [*_facts(report), "", *_table(report), ""]
    # Those in two groups first: the next split may part them.
    own = sorted((pair for pair in report.copies if not pair.leaks), key=lambda pair: pair.groups[0] == pair.groups[1])
    lines += _listed("cannot be read", [f"{u.name}: {u.reason}" for u in report.unreadable], shown)
    lines += _listed("have a box that leaves the picture", report.boxes_outside, shown)
    lines += _listed("groups in more than one split", [_leak(leak) for leak in report.group_leaks], shown)
    lines += _listed("copies across splits", [_pair(pair) for pair in report.leaking_copies], shown)
    lines += _listed("copies with different labels", [_pair(p) for p in report.label_conflicts], shown)
    lines += _listed("copies within a split", [_pair(pair) for pair in own], shown)
    title = "look-alikes across splits, not counted as leaks: look at them"
    lines += _listed(title, [_pair(pair) for pair in report.look_alikes], shown)
    lines += _listed("files ignored", report.ignored, shown)
    lines.append(f"LEAK: {describe_leak(report)}" if report.leaks else "no leak between splits was found")
    return "\n".join(lines)


def _facts(report: DataReport) -> list[str]:
    if report.seed is not None:
        unit = "by picture, as no groups are known" if report.groups is None else "by group"
        splits = f"made for this check {unit}, seed {report.seed}"
    else:
        missing = missing_splits(report.pictures)
        why = f"; no {' and no '.join(missing)}: good to evaluate on, not to convert" if missing else ""
        splits = f"the data set's own{why}"
    facts = {
        "data set": report.name + (" (synthetic: not patient data)" if report.synthetic else ""),
        "folder": report.folder,
        "splits": splits,
        "groups": _groups(report),
        "imbalance": f"the largest class has {report.imbalance:g} times the pictures of the smallest",
    }
    if report.sizes:
        low, middle, high = (f"{w}x{h}" for w, h in (report.sizes.smallest, report.sizes.median, report.sizes.largest))
        facts["size in px"] = f"median {middle}, from {low} to {high}"
        facts["kind"] = f"{report.grey:,} grey, {report.colour:,} colour"
    width = max(map(len, facts))
    return [f"{name:<{width}}  {value}" for name, value in facts.items()]


def _groups(report: DataReport) -> str:
    if report.groups is None:
        return "not known: pictures of one patient may be in several splits"
    by = "" if report.group_pattern is None else f", found by the pattern {report.group_pattern}"
    return f"{sum(report.groups.values()):,}{by}"


def _table(report: DataReport) -> list[str]:
    """Pictures by class and split, with totals, and the groups below."""
    splits = list(report.pictures)
    classes = list(report.pictures[splits[0]])
    rows = [["pictures", *splits, "all"]]
    for label in classes:
        counts = [report.pictures[split][label] for split in splits]
        rows.append([label, *(f"{n:,}" for n in [*counts, sum(counts)])])
    counts = [sum(report.pictures[split].values()) for split in splits]
    rows.append(["all", *(f"{n:,}" for n in [*counts, sum(counts)])])
    if report.groups is not None:
        rows.append(["groups", *(f"{report.groups[split]:,}" for split in splits), ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _listed(title: str, entries: Sequence[str], shown: int) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - shown:,} more"] if len(entries) > shown else []
    return [f"{len(entries):,} {title}", *(f"  {entry}" for entry in entries[:shown]), *more, ""]


def _leak(leak: GroupLeak) -> str:
    return f"{leak.group}: " + ", ".join(f"{n:,} in {split}" for split, n in leak.pictures.items())


def _pair(pair: Pair) -> str:
    how = pair.how if pair.how == "same pixels" else f"{pair.how}, likeness {pair.likeness:.3f}"
    sign = "~" if pair.how == "look-alike" else "="
    places = [
        f"{name} ({split}, {label})" for name, split, label in zip(pair.names, pair.splits, pair.labels, strict=True)
    ]
    # Copies in one split today are in two after the next split by group.
    apart = ", in two groups" if pair.groups[0] != pair.groups[1] else ""
    return f"{places[0]} {sign} {places[1]}, {how}{apart}"
