"""Splits and folds by group: nothing straddles, every class is everywhere, the same on every machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.dataset import SPLITS, Dataset, Sample
from edge.errors import DataError
from edge.split import assign_folds, assign_splits


def dataset_of(groups: list[Counter[str]], *, has_groups: bool = True) -> Dataset:
    """A data set with these labels by group; no files."""
    samples = []
    for g, labels in enumerate(groups):
        for label in sorted(labels.elements()):
            name = f"{len(samples):05d}.png"
            group = f"g{g:04d}" if has_groups else name
            samples.append(Sample(path=Path(name), name=name, label=label, group=group, split=None, boxes=()))
    return Dataset(
        folder=Path(),
        name="drawn",
        synthetic=True,
        classes=tuple(sorted({s.label for s in samples})),
        samples=tuple(samples),
        has_groups=has_groups,
        has_splits=False,
        ignored=(),
    )


def splits_by_group(dataset: Dataset) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for sample in dataset.samples:
        found.setdefault(sample.group, set()).add(sample.split)
    return found


# Enough groups of one class each that a split exists, among any mixture of others.
PLAIN = [Counter({label: 1}) for label in "abc" for _ in range(3)]
MIXED = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 12), min_size=1).map(Counter), max_size=40)


@settings(max_examples=60, deadline=None)
@given(groups=MIXED, seed=st.integers(0, 2**32))
def test_no_group_straddles_and_every_split_has_every_class(groups: list[Counter[str]], seed: int) -> None:
    dataset = dataset_of(PLAIN + groups)
    done = assign_splits(dataset, seed=seed)
    assert [replace(s, split=None) for s in done.samples] == list(dataset.samples)
    assert all(len(splits) == 1 for splits in splits_by_group(done).values())
    assert done.has_splits
    assert list(done.counts()) == list(SPLITS)
    assert all(n for by_class in done.counts().values() for n in by_class.values())
    shuffled = replace(dataset, samples=dataset.samples[::-1])
    assert assign_splits(shuffled, seed=seed).samples[::-1] == done.samples


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=120, max_size=200), seed=st.integers(0, 99))
def test_each_class_is_shared_out_by_the_fractions(sizes: list[int], seed: int) -> None:
    groups = [Counter({"ab"[i % 4 == 0]: size}) for i, size in enumerate(sizes)]
    counts = assign_splits(dataset_of(groups), seed=seed).counts()
    for label in "ab":
        total = sum(counts[split][label] for split in SPLITS)
        for split, fraction in zip(SPLITS, (0.70, 0.15, 0.15), strict=True):
            assert abs(counts[split][label] - fraction * total) <= 12  # one largest group


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    dataset = dataset_of([Counter({"ab"[i % 2]: 3}) for i in range(40)])
    one, again, two = (assign_splits(dataset, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != two


def test_the_split_of_a_seed_is_the_same_in_every_version() -> None:
    dataset = dataset_of([Counter({"ab"[i % 2]: 1 + i % 3}) for i in range(12)])
    found = {group: str(*splits) for group, splits in splits_by_group(assign_splits(dataset, seed=7)).items()}
    assert " ".join(found[group] for group in sorted(found)) == (
        "train val train train val train train test train train test train"
    )


def test_a_group_that_is_half_of_everything_goes_to_training() -> None:
    groups = [Counter(a=50, b=50)] + [Counter({"ab"[i % 2]: 5}) for i in range(20)]
    done = assign_splits(dataset_of(groups), seed=0)
    assert splits_by_group(done)["g0000"] == {"train"}
    assert {split: sum(n.values()) for split, n in done.counts().items()} == {"train": 140, "val": 30, "test": 30}


def test_three_groups_of_a_class_are_enough_and_two_are_not() -> None:
    rest = [Counter(b=1) for _ in range(9)]
    assert assign_splits(dataset_of(rest + [Counter(a=1)] * 3), seed=0).counts()["test"]["a"] == 1
    with pytest.raises(DataError, match="class 'a' has 2 groups, but train, val, test need one each"):
        assign_splits(dataset_of(rest + [Counter(a=9)] * 2), seed=0)
    with pytest.raises(DataError, match="class 'a' has 1 picture, but"):
        assign_splits(dataset_of([*rest, Counter(a=1)], has_groups=False), seed=0)


def test_classes_that_only_a_few_mixed_groups_hold_are_still_in_every_split() -> None:
    groups = [Counter(a=9, b=1), Counter(b=4, c=1), Counter(a=2, c=5)] * 3
    counts = assign_splits(dataset_of(groups), seed=3).counts()
    assert all(n for by_class in counts.values() for n in by_class.values())


def test_a_data_set_without_such_a_split_is_refused_with_the_class() -> None:
    groups = [Counter("ab"), Counter("ac"), Counter("bc"), Counter("abc")]
    with pytest.raises(DataError, match="no split by group puts every class into train, val, test"):
        assign_splits(dataset_of(groups), seed=0)


def test_a_fraction_of_zero_leaves_the_split_out() -> None:
    dataset = dataset_of([Counter({"ab"[i % 2]: 1}) for i in range(20)])
    assert list(assign_splits(dataset, seed=0, fractions=(0.8, 0.2, 0)).counts()) == ["train", "val"]


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)], ids=str)
def test_fractions_that_do_not_add_up_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="do not add up to 1"):
        assign_splits(dataset_of(PLAIN), seed=0, fractions=fractions)


def test_a_data_set_with_splits_keeps_them() -> None:
    done = assign_splits(dataset_of(PLAIN), seed=0)
    assert assign_splits(done, seed=1) is done


FIVE = [Counter({label: 1}) for label in "abc" for _ in range(5)]


@settings(max_examples=40, deadline=None)
@given(groups=MIXED, seed=st.integers(0, 2**32))
def test_a_group_is_in_one_fold_and_every_fold_has_every_class(groups: list[Counter[str]], seed: int) -> None:
    dataset = dataset_of(FIVE + groups)
    folds = assign_folds(dataset, folds=5, seed=seed)
    of_group: dict[str, set[int]] = {}
    for sample, fold in zip(dataset.samples, folds, strict=True):
        of_group.setdefault(sample.group, set()).add(fold)
    assert all(len(found) == 1 for found in of_group.values())
    held = Counter((sample.label, fold) for sample, fold in zip(dataset.samples, folds, strict=True))
    assert set(held) == {(label, fold) for label in "abc" for fold in range(1, 6)}
    backwards = replace(dataset, samples=dataset.samples[::-1])
    assert assign_folds(backwards, folds=5, seed=seed) == folds[::-1]


def test_the_folds_of_a_class_differ_by_no_more_than_its_largest_group() -> None:
    groups = [Counter({"ab"[i % 3 == 0]: 1 + i % 7}) for i in range(60)]
    dataset = dataset_of(groups)
    held = Counter(
        (s.label, fold) for s, fold in zip(dataset.samples, assign_folds(dataset, folds=4, seed=1), strict=True)
    )
    for label in "ab":
        sizes = [held[label, fold] for fold in range(1, 5)]
        assert max(sizes) - min(sizes) <= 7


def test_the_test_split_is_kept_out_of_the_folds() -> None:
    dataset = assign_splits(dataset_of([Counter({"ab"[i % 2]: 2}) for i in range(40)]), seed=0)
    folds = assign_folds(dataset, folds=3, seed=0)
    assert {fold for s, fold in zip(dataset.samples, folds, strict=True) if s.split == "test"} == {0}
    assert {fold for s, fold in zip(dataset.samples, folds, strict=True) if s.split != "test"} == {1, 2, 3}


FOLDS_OF_7 = (3, 1, 2, 1, 1, 2, 1, 3, 3, 3, 2, 2)


def test_the_folds_of_a_seed_are_the_same_in_every_version() -> None:
    dataset = dataset_of([Counter({"ab"[i % 2]: 1}) for i in range(12)])
    assert assign_folds(dataset, folds=3, seed=7) == FOLDS_OF_7
    assert assign_folds(dataset, folds=3, seed=8) != FOLDS_OF_7


def test_more_folds_than_groups_of_a_class_are_refused() -> None:
    dataset = dataset_of([Counter(b=1)] * 9 + [Counter(a=4)] * 2)
    with pytest.raises(DataError, match="class 'a' has 2 groups, but 3 folds need one each") as refused:
        assign_folds(dataset, folds=3)
    assert refused.value.remedy == "add groups of that class, or use fewer folds"
    with pytest.raises(DataError, match="1 folds leave nothing to compare"):
        assign_folds(dataset, folds=1)


def test_a_group_that_is_partly_in_the_test_split_is_refused() -> None:
    dataset = dataset_of([Counter({"ab"[i % 2]: 2}) for i in range(8)])
    samples = tuple(replace(s, split="test" if i == 0 else "train") for i, s in enumerate(dataset.samples))
    with pytest.raises(DataError, match="group g0000 is in the test split and outside of it"):
        assign_folds(replace(dataset, samples=samples, has_splits=True), folds=2)
