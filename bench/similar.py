"""What a search among known cases costs, whether it is exact, and what it is worth: neighbours of the picture's class.

Usage: python bench/similar.py BUNDLE --data DIR [--rounds 100]
DIR is a data set with the splits train (the known cases) and val (the queries). Every picture is embedded by the
bundle's int8 file through the runtime. The large sets are made up of the training embeddings: each case is a random mix
of two of them, moved by up to two steps where it is not 0. One thread, processor time. Neighbours are exact where they
are as near as those that float32 arithmetic finds among the embeddings themselves, but for its rounding (1e-5).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

# Before numpy is loaded: its matrix product would take all cores.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import read_bundle
from edge.dataset import read_dataset
from edge.reference import Cases
from edge_convert.prepare import share_out
from edge_convert.reference import medoids, own_class
from edge_runtime.pipeline import Screener
from edge_runtime.similar import embedding_coding, nearest_codes

K = 5
SIZES = (10_000, 100_000)
CAPS = (100, 250, 500, 1000)
DIMENSIONS, RERANKED = 64, 100

Codes = NDArray[np.uint8]
Search = Callable[[Codes], NDArray[np.int64]]


def made_up(codes: Codes, count: int, random: np.random.Generator) -> Codes:
    """(count, channels) codes that lie as those of real pictures do."""
    out = np.empty((count, codes.shape[1]), np.uint8)
    for start in range(0, count, 5000):
        rows = min(5000, count - start)
        one, other = random.integers(0, len(codes), (2, rows))
        share = random.random((rows, 1), np.float32)
        mixed = codes[one] * share + codes[other] * (1 - share)
        mixed += random.integers(-2, 3, mixed.shape) * (mixed > 0)
        out[start : start + rows] = np.clip(np.rint(mixed), 0, 255)
    return out


def in_blocks(codes: Codes, rows: int = 256) -> Search:
    """The rival: float32 matrix-vector products of 256 rows at a time, on norms computed before."""
    norms = np.array([np.dot(row, row) for row in map(np.float32, codes)])
    buffer = np.empty((rows, codes.shape[1]), np.float32)

    def search(query: Codes) -> NDArray[np.int64]:
        wanted, products = query.astype(np.float32), np.empty(len(codes), np.float32)
        for start in range(0, len(codes), rows):
            part = codes[start : start + rows]
            np.copyto(buffer[: len(part)], part)
            np.dot(buffer[: len(part)], wanted, out=products[start : start + rows])
        near = norms - 2 * products
        best = np.argpartition(near, K)[:K]
        return np.asarray(best[np.argsort(near[best])], np.int64)

    return search


def projected(codes: Codes, fitted_on: Codes) -> Search:
    """The other rival: the first principal components in float32, and the nearest hundred ranked by all channels."""
    centre = fitted_on.mean(axis=0, dtype=np.float32)
    axes = np.linalg.svd(fitted_on - centre, full_matrices=False)[2][:DIMENSIONS].T.astype(np.float32)
    small = np.concatenate([(codes[at : at + 5000] - centre) @ axes for at in range(0, len(codes), 5000)])
    norms = (small**2).sum(axis=1)

    def search(query: Codes) -> NDArray[np.int64]:
        near = norms - 2 * (small @ ((query - centre) @ axes))
        best = np.argpartition(near, RERANKED)[:RERANKED]
        far = ((codes[best].astype(np.float32) - query) ** 2).sum(axis=1)
        return np.asarray(best[np.argsort(far, kind="stable")[:K]], np.int64)

    return search


def report_search(known: Codes, queries: Codes, scale: float, rounds: int) -> None:
    """Print what a query costs and finds, by size and by way of searching, in turns."""
    random = np.random.default_rng(1)
    for size in SIZES:
        codes = made_up(known, size, random)
        nearest_codes(codes, queries[0], K)
        before = resident_mb()
        for query in queries:
            nearest_codes(codes, query, K)
        added = resident_mb() - before
        ways = {
            "integers (used)": lambda query, codes=codes: nearest_codes(codes, query, K)[1],
            "float32 in blocks": in_blocks(codes),
            f"{DIMENSIONS} components, {RERANKED} reranked": projected(codes, known),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        exact = dict.fromkeys(ways, 0)
        for number in range(rounds):
            query = queries[number % len(queries)]
            limit = np.sort(float_distances(codes, query, scale))[K - 1]
            for name in sorted(ways, reverse=bool(number % 2)):
                start = time.process_time()
                rows = ways[name](query)
                times[name].append(1e3 * (time.process_time() - start))
                exact[name] += int((float_distances(codes[rows], query, scale) <= limit * (1 + 1e-5)).sum())
        print(f"{size:,} cases, {codes.nbytes / 1e6:.1f} MB; queries add {added:.1f} MB; medians of {rounds}")
        for name, spent in times.items():
            print(f"  {name:<30} {np.median(spent):7.2f} ms CPU, recall@{K} {exact[name] / rounds / K:.4f}")


def float_distances(codes: Codes, query: Codes, scale: float) -> NDArray[np.float32]:
    """Euclidean distances of the embeddings, in float32."""
    wanted = query * np.float32(scale)
    parts = [codes[at : at + 2000] * np.float32(scale) - wanted for at in range(0, len(codes), 2000)]
    return np.concatenate([np.sqrt((part**2).sum(axis=1)) for part in parts])


def resident_mb() -> float:
    """What this process holds in memory, 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report_worth(known: Codes, labels: list[str], queries: Codes, truth: list[str], order: tuple[str, ...]) -> None:
    """Print the share of neighbours of the picture's own class, by size of the reference set."""
    names = np.array(labels)
    for cap in (*(cap for cap in CAPS if cap < len(known)), len(known)):
        quotas = share_out([labels.count(label) for label in order], cap)
        kept = []
        for label, quota in zip(order, quotas, strict=True):
            rows = np.flatnonzero(names == label)
            kept.append(rows if quota == len(rows) else rows[medoids(known[rows].astype(np.float32), quota, 1)])
        rows = np.sort(np.concatenate(kept))
        texts = tuple(names[rows].tolist())
        cases = Cases(codes=np.ascontiguousarray(known[rows]), ids=texts, labels=texts, groups=texts)
        every, *each = own_class(cases, queries, truth, order)
        shares = ", ".join(f"{one.label} {one.share:.4f}" for one in each)
        print(f"  {len(rows):>5} cases: {every.share:.4f} ({shares}); most of the {K} {every.majority}")


def main() -> None:
    """Embed, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    bundle, dataset = read_bundle(options.bundle, whole=False), read_dataset(options.data)
    screener = Screener(bundle, threads=1)
    coding = embedding_coding(bundle, screener.network)
    codes: dict[str, list[Codes]] = {"train": [], "val": []}
    labels: dict[str, list[str]] = {"train": [], "val": []}
    right = lossless = 0
    for sample in (*dataset.of_split("train"), *dataset.of_split("val")):
        screening = screener.screen_file(sample.path)
        assert screening.embedding is not None
        codes[sample.its_split].append(coding.codes(screening.embedding))
        labels[sample.its_split].append(sample.label)
        lossless += bool(np.array_equal(coding.embedding(codes[sample.its_split][-1]), screening.embedding))
        right += sample.split == "val" and screening.verdict.label == sample.label
    known, queries = np.stack(codes["train"]), np.stack(codes["val"])
    print(
        f"{len(known)} train, {len(queries)} val pictures; {lossless} embeddings come back from 8 bits to the last bit"
    )
    print(f"share of the {K} nearest with the own class; the network's label is right {right / len(queries):.4f}")
    report_worth(known, labels["train"], queries, labels["val"], bundle.manifest.labels)
    report_search(known, queries, coding.scale, options.rounds)


if __name__ == "__main__":
    main()
