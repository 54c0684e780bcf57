"""Projections beside other implementations: OMP_NUM_THREADS=1 python -m tests.benchmarks.projections [SNAPSHOT ...]

SNAPSHOT are files of finished runs' last snapshots, of which the first two count; without any, blobs on a sphere stand
in. Beside openTSNE, scikit-learn, umap-learn and faiss, where these are installed. One thread. All take turns in one
process; time is CPU time of the process. A ratio is the median over rounds of the ratio within a round, slow
ones (--slow) have fewer rounds. KL is measured for all on one exact P (perplexity 30, 90 nearest by cosine), so
that 1.01 means 1 % worse than the other. The first use of everything that compiles is not timed.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np

from faces.evaluation import explained_variance, knn_accuracy, nearest, neighbours, principal, trustworthiness
from faces.projections import FIRST_SIGHT, PROJECTIONS, pca
from faces.tsne import EARLY, Layout, affinities
from tests.benchmarks.heads import installed, processor, ratio
from trainer.snapshot import Snapshot

PACKAGES = ("numpy", "numba", "scikit-learn", "openTSNE", "umap-learn", "faiss-cpu")


def clocked(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of some work, and what came of it."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def divergence(pairs, points: np.ndarray) -> float:
    """KL of anybody's points on the given affinities."""
    layout = Layout(pairs, points)
    layout._laid[:] = (points - points.mean(0)).T
    return layout.divergence


def live(embeddings: np.ndarray, before: np.ndarray) -> Layout:
    """What a new snapshot gets before it is drawn."""
    layout = Layout(affinities(embeddings, 30), before)
    layout.go_on(EARLY + FIRST_SIGHT)
    return layout


def full(embeddings: np.ndarray, axes: int = 2) -> np.ndarray:
    """A whole layout from PCA."""
    return PROJECTIONS["tsne"].points(embeddings, axes)


def open_tsne(embeddings: np.ndarray) -> np.ndarray:
    """OpenTSNE at its best for this size: Barnes-Hut, exact neighbours, 250 + 500 iterations."""
    from openTSNE import TSNE

    model = TSNE(perplexity=30, neighbors="exact", negative_gradient_method="bh", n_jobs=1, random_state=0)
    return np.asarray(model.fit(embeddings))


def scikit(embeddings: np.ndarray) -> np.ndarray:
    """scikit-learn's t-SNE as it comes: 1000 iterations."""
    from sklearn.manifold import TSNE

    return TSNE(perplexity=30, init="pca", n_jobs=1, random_state=0).fit_transform(embeddings)


def full_tsne(embeddings: np.ndarray, other: np.ndarray, rounds: int, slow: int) -> None:
    """Whole layouts and live updates."""
    pairs = affinities(embeddings, 30)
    makers = {"ours, 20 + 480": full, "scikit-learn, 1000": scikit}
    if importlib.util.find_spec("openTSNE"):
        makers["openTSNE bh, 250 + 500"] = open_tsne
    times: dict[str, list[float]] = {name: [] for name in makers}
    found = {}
    for _ in range(slow):
        for name, make in makers.items():
            spent, found[name] = clocked(lambda make=make: make(embeddings))
            times[name].append(spent)
    reference = Layout(pairs, pca(embeddings, 2), early=250, plain=500)
    spent, _ = clocked(lambda: reference.go_on(750))
    print(f"\n## t-SNE, N = {len(embeddings):,}, two axes, perplexity 30\n")
    print(f"Rounds: {slow} for whole layouts, {rounds} for live updates.\n")
    print("| | CPU s | ours / it | KL | ours / its KL | trustworthiness, k = 5 |")
    print("|---|---|---|---|---|---|")
    mine, ours = found["ours, 20 + 480"], divergence(pairs, found["ours, 20 + 480"])
    for name, points in found.items():
        kl = divergence(pairs, points)
        own = times["ours, 20 + 480"]
        print(
            f"| {name} | {statistics.median(times[name]):.2f} | {ratio(own, times[name])} | {kl:.3f} "
            f"| {ours / kl:.3f} | {trustworthiness(embeddings, neighbours(points, 5)):.3f} |"
        )
    kl = reference.divergence
    print(f"| our iterations, 250 + 500 | {spent:.2f} (no affinities) | – | {kl:.3f} | {ours / kl:.3f} | – |")
    started = full(other)
    updates = [clocked(lambda: live(embeddings, started)) for _ in range(rounds)]
    kl = updates[-1][1].divergence
    seconds = sorted(spent for spent, _ in updates)
    laid = updates[-1][1].points
    print(
        f"\nLive update, affinities and {EARLY} + {FIRST_SIGHT} iterations from another layout shrunk: "
        f"{statistics.median(seconds):.2f} s ({seconds[0]:.2f}–{seconds[-1]:.2f}), KL {kl:.3f}, {kl / ours:.3f} of the "
        f"whole layout's; trustworthiness {trustworthiness(embeddings, neighbours(laid, 5)):.3f} against "
        f"{trustworthiness(embeddings, neighbours(mine, 5)):.3f}."
    )
    spent, _ = clocked(lambda: full(embeddings, 3))
    print(
        f"On three axes a whole layout took {spent:.2f} s, {spent / statistics.median(times['ours, 20 + 480']):.2f}x."
    )


def update_umap(embeddings: np.ndarray, other: np.ndarray, rounds: int, slow: int) -> None:
    """Our use of umap-learn beside its default."""
    from umap import UMAP

    umap = PROJECTIONS["umap"]
    UMAP(n_jobs=1, metric="cosine").fit_transform(embeddings[:300])
    umap.points(embeddings[:300], 2)
    started = umap.points(other, 2)
    default, mine, fresh = [], [], []
    for _ in range(slow):
        spent, theirs = clocked(lambda: UMAP(n_jobs=1, metric="cosine").fit_transform(embeddings))
        default.append(spent)
        few = [clocked(lambda: umap.points(embeddings, 2, started)) for _ in range(rounds)]
        mine.append(statistics.median(spent for spent, _ in few))
        fresh.append(clocked(lambda: umap.points(embeddings, 2))[0])
    trust = [trustworthiness(embeddings, neighbours(points, 5)) for points in (few[-1][1], theirs)]
    print(f"\n## UMAP, N = {len(embeddings):,}, two axes\n")
    print(
        f"umap-learn's default, warm: {statistics.median(default):.1f} s of CPU, trustworthiness {trust[1]:.3f}. "
        f"Update (50 epochs): {statistics.median(mine):.2f} s, {ratio(mine, default)} of it, "
        f"trustworthiness {trust[0]:.3f}. "
        f"First picture (100 epochs): {statistics.median(fresh):.2f} s. Rounds: {slow}."
    )


def look(embeddings: np.ndarray, known: np.ndarray, labels: np.ndarray, known_labels: np.ndarray, rounds: int) -> None:
    """PCA with all variances beside scikit-learn's, KNN accuracy beside faiss."""
    from sklearn.decomposition import PCA

    def ours() -> np.ndarray:
        _, directions = principal(embeddings)  # with all variances
        return (embeddings - embeddings.mean(0)) @ directions[:, :3].astype(np.float32, order="C")

    def thrice() -> None:
        explained_variance(embeddings)
        pca(embeddings, 2)
        pca(embeddings, 3)

    work = {"ours": ours, "thrice": thrice, "scikit": lambda: PCA().fit_transform(embeddings)}
    work["knn"] = lambda: knn_accuracy(known, known_labels, embeddings, labels, 15)
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)

        def search() -> np.ndarray:
            index = faiss.IndexFlatIP(known.shape[1])
            index.add(known)
            return index.search(embeddings, 15)[1]

        work["faiss"] = search
        same = (np.sort(search()) == np.sort(nearest(known, embeddings, 15)[0])).mean()
    times: dict[str, list[float]] = {name: [] for name in work}
    searches = ("knn", "faiss")  # apart: what comes after one of them finds nothing in the processor's caches
    for part in ([name for name in work if name not in searches], [name for name in work if name in searches]):
        for _ in range(rounds):
            for name in part:
                times[name].append(clocked(work[name])[0])
    error = np.abs(explained_variance(embeddings) - PCA().fit(embeddings).explained_variance_ratio_).max()
    print(f"\n## PCA and KNN, {len(embeddings):,} asked, {len(known):,} known, D = {embeddings.shape[1]}\n")
    print(
        f"PCA on three axes, of which two are the first, and all variances: "
        f"{1000 * statistics.median(times['ours']):.1f} ms of CPU, "
        f"{ratio(times['ours'], times['scikit'])} of scikit-learn's PCA(); variances differ by {error:.0e} at most. "
        f"Asked for 2 axes, for 3 axes and for the variances apart: {ratio(times['thrice'], times['scikit'])}."
    )
    if "faiss" in times:
        print(
            f"KNN accuracy, k = 15: {1000 * statistics.median(times['knn']):.0f} ms, "
            f"{ratio(times['knn'], times['faiss'])} of faiss's exact search alone; "
            f"{same:.4%} of the neighbours are the same. Rounds: {rounds}."
        )


def tick(
    embeddings: np.ndarray, known: np.ndarray, labels: np.ndarray, known_labels: np.ndarray, before: np.ndarray
) -> None:
    """All that a snapshot of one head needs to be looked at: PCA, variances, KNN accuracy, a t-SNE update."""
    pca(embeddings, 2)
    pca(embeddings, 3)
    explained_variance(embeddings)
    knn_accuracy(known, known_labels, embeddings, labels)
    live(embeddings, before)


def main() -> None:
    """Print what was measured, as Markdown."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("snapshots", nargs="*")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--slow", type=int, default=1, help="rounds of what takes tens of seconds")
    asked = words.parse_args()
    warnings.filterwarnings("ignore")
    if asked.snapshots:
        one, *rest = [Snapshot.read(file) for file in asked.snapshots[:2]]
        embeddings, labels, known, known_labels = one.embeddings, one.labels, one.known, one.known_labels
        other = rest[0].embeddings if rest else embeddings
    else:
        random = np.random.default_rng(0)
        every = random.integers(0, 10, 12954)
        rows = random.normal(size=(10, 128))[every] + 1.5 * random.normal(size=(12954, 128))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        embeddings, labels, known, known_labels = rows[:3929], every[:3929], rows[3929:], every[3929:]
        other = embeddings
    print(f"{processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')};")
    print(f"Python {platform.python_version()}, {', '.join(installed(name) for name in PACKAGES)};")
    print(f"load average at the start {os.getloadavg()[0]:.1f}. In brackets the middle half of the rounds.")
    for axes in (2, 3):
        full(embeddings[:300], axes)
    look(embeddings, known, labels, known_labels, 3 * asked.rounds)
    print("\n## A whole live tick of one head\n")
    print("PCA on 2 and 3 axes, all variances, KNN accuracy (k = 5), t-SNE update from another layout:\n")
    for few, kept in ((len(embeddings), len(known)), (1000, 2000)):
        arrays = embeddings[:few], known[:kept], labels[:few], known_labels[:kept], full(other[:few])
        spent = sorted(clocked(lambda arrays=arrays: tick(*arrays))[0] for _ in range(asked.rounds))
        print(
            f"- {few:,} asked, {kept:,} known: {statistics.median(spent):.2f} s of CPU "
            f"({spent[0]:.2f}–{spent[-1]:.2f})",
            flush=True,
        )
    full_tsne(embeddings, other, asked.rounds, asked.slow)
    update_umap(embeddings, other, asked.rounds, asked.slow)


if __name__ == "__main__":
    main()
