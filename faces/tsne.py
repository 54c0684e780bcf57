"""t-SNE by its exact gradient, fast enough to watch: all pairs of points repel each other, near ones attract.

van der Maaten and Hinton, "Visualizing Data using t-SNE" (JMLR 9, 2008): the affinities, the gradient (eq. 5),
momentum and gains (section 3.4). As became usual since: only the 3 * perplexity nearest attract (van der Maaten,
JMLR 15, 2014), and the step grows with the number of points (Belkina et al., Nature Communications 10, 2019).

Exact beats Barnes-Hut and the Fourier transform while N is small: see tests/benchmarks/results/projections.md.
Importing this loads numba, so only workers do. The first use compiles, and keeps what it compiled on the disk.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32
from numba import njit
from numpy import ndarray

from faces.evaluation import Near, nearest
from faces.knobs import Number

# What a compiler may do with a sum so that it adds eight numbers at once. Not "ninf" and "nnan", which break tests.
LOOSE = {"reassoc", "contract", "arcp", "nsz"}

EARLY, EXAGGERATION = 20, 12.0  # iterations in which the attraction is so many times as strong
PLAIN = 480  # iterations after these; both end within about 1 % of the KL of 250 + 500, see there
LONGEST = 5.0  # step of a point in one iteration, in units of the picture: keeps few points from flying apart


def fast(function: Callable) -> Callable:
    """The function compiled; kept on the disk, without the checks of shapes that tests put around every function."""
    return njit(fastmath=LOOSE, error_model="numpy", cache=True)(inspect.unwrap(function))


@dataclass(frozen=True)
class Affinities:
    """Symmetric p_ij that sum to 1 over all pairs, those of each i behind those of i - 1, only where they are not 0."""

    starts: Int32[ndarray, " rows"]  # N + 1 of them; row i is starts[i] to starts[i + 1]
    columns: Int32[ndarray, " pairs"]
    values: Float32[ndarray, " pairs"]

    @property
    def count(self) -> int:
        """How many points there are."""
        return len(self.starts) - 1

    @property
    def arrays(self) -> tuple[ndarray, ndarray, ndarray]:
        return self.starts, self.columns, self.values


def affinities(embeddings: Float[ndarray, "N D"], perplexity: Number, near: Near | None = None) -> Affinities:
    """How near each image is to its 3 * perplexity nearest, by cosine. Rows must have unit length.

    The perplexity is at most a third of the other images. `near` knows who is nearest; None: they are searched for.
    """
    from scipy.sparse import csr_array

    count = len(embeddings)
    perplexity = min(perplexity, (count - 1) / 3)
    k = min(count, round(3 * perplexity) + 1)
    rows, cosines = near(k) if near else nearest(embeddings, embeddings, k)
    others = rows != np.arange(count)[:, None]
    others[others.all(1), -1] = False  # copies of an image may hide it from itself: then the last one goes
    k = rows.shape[1] - 1
    columns, squared = rows[others].reshape(count, k), 2 - 2 * cosines[others].reshape(count, k)
    shares = conditional(squared.astype(np.float64), perplexity)
    one_way = csr_array((shares.ravel(), columns.ravel(), np.arange(0, count * k + 1, k)), (count, count))
    both = ((one_way + one_way.T) / (2 * count)).tocsr()
    both.sort_indices()
    return Affinities(both.indptr.astype(np.int32), both.indices.astype(np.int32), both.data.astype(np.float32))


@fast
def conditional(squared: Float[ndarray, "N k"], perplexity: float) -> Float[ndarray, "N k"]:
    """p_j|i = exp(-beta_i * squared distance), normed, with beta_i such that 2 to the entropy is the perplexity.

    Newton's steps on log(beta), halved into the bracket where they leave it. Where no beta fits, as among copies of
    an image, the nearest that there is.
    """
    count, k = squared.shape
    shares = np.empty((count, k))
    wanted = np.log(perplexity)
    for i in range(count):
        far = squared[i] - squared[i].min()
        middle = far.mean()
        beta = 1 / middle if middle > 0 else 1.0
        low, high = 0.0, 0.0  # 0: no upper end yet
        for _ in range(100):
            weights = np.exp(-beta * far)
            total = weights.sum()
            mean = (weights * far).sum() / total
            excess = np.log(total) + beta * mean - wanted  # of entropy, in nats
            if abs(excess) < 1e-6:
                break
            if excess > 0:
                low = beta
            else:
                high = beta
            variance = (weights * far * far).sum() / total - mean * mean
            slope = beta * beta * variance  # -d entropy / d log(beta)
            step = excess / slope if slope > 0 else 0.0
            beta = beta * np.exp(min(max(step, -2.0), 2.0))
            if beta <= low or (high > 0 and beta >= high):
                beta = (low + high) / 2 if high > 0 else 2 * low
            if beta > 1e30 or beta < 1e-30:
                break
        shares[i] = weights / total
    return shares


@fast
def repulsion(x, y, z, out_x, out_y, out_z):
    """Adds sum_j w_ij^2 (y_i - y_j) to each `out`, and returns Z = sum of all w_ij = 1 / (1 + |y_i - y_j|^2).

    `z` and `out_z` are None on two axes. Each pair is looked at once; nothing of size N x N is kept.
    """
    one, total = np.float32(1), np.float64(0)
    for i in range(len(x)):
        here_x, here_y = x[i], y[i]
        sum_x, sum_y, sum_z, weights = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(i):
            dx, dy = here_x - x[j], here_y - y[j]
            apart = one + dx * dx + dy * dy
            if z is not None:
                dz = z[i] - z[j]
                apart += dz * dz
            w = one / apart
            weights += w
            w *= w
            sum_x += w * dx
            sum_y += w * dy
            out_x[j] -= w * dx
            out_y[j] -= w * dy
            if z is not None:
                sum_z += w * dz
                out_z[j] -= w * dz
        out_x[i] += sum_x
        out_y[i] += sum_y
        if z is not None:
            out_z[i] += sum_z
        total += weights
    return 2 * total


@fast
def attraction(x, y, z, starts, columns, values, strength, out_x, out_y, out_z):
    """Adds strength * sum_j p_ij w_ij (y_i - y_j) to each `out`; `z` and `out_z` are None on two axes."""
    one = np.float32(1)
    for i in range(len(x)):
        here_x, here_y = x[i], y[i]
        sum_x, sum_y, sum_z = np.float32(0), np.float32(0), np.float32(0)
        for at in range(starts[i], starts[i + 1]):
            j = columns[at]
            dx, dy = here_x - x[j], here_y - y[j]
            apart = one + dx * dx + dy * dy
            if z is not None:
                dz = z[i] - z[j]
                apart += dz * dz
            pull = values[at] / apart
            sum_x += pull * dx
            sum_y += pull * dy
            if z is not None:
                sum_z += pull * dz
        out_x[i] += strength * sum_x
        out_y[i] += strength * sum_y
        if z is not None:
            out_z[i] += strength * sum_z


@fast
def slopes(points, starts, columns, values, exaggeration, out):
    """Writes dKL/dy_i = 4 sum_j (p_ij - q_ij) w_ij (y_i - y_j), eq. 5, into `out` (axes, N), and returns Z.

    `exaggeration` multiplies the p_ij.
    """
    out[:] = 0
    strength = np.float32(4 * exaggeration)
    if len(points) == 2:
        total = repulsion(points[0], points[1], None, out[0], out[1], None)
        out *= np.float32(-4 / total)
        attraction(points[0], points[1], None, starts, columns, values, strength, out[0], out[1], None)
    else:
        total = repulsion(points[0], points[1], points[2], out[0], out[1], out[2])
        out *= np.float32(-4 / total)
        attraction(points[0], points[1], points[2], starts, columns, values, strength, out[0], out[1], out[2])
    return total


@fast
def descend(points, speed, gains, starts, columns, values, exaggeration, momentum, rate, rounds):
    """Some rounds of gradient descent with momentum and gains, in place; the points stay centered."""
    axes, count = points.shape
    slope = np.empty_like(points)
    more, less, least = np.float32(0.2), np.float32(0.8), np.float32(0.01)
    kept, far, longest = np.float32(momentum), np.float32(rate), np.float32(LONGEST)
    for _ in range(rounds):
        slopes(points, starts, columns, values, exaggeration, slope)
        for i in range(count):
            squared = np.float32(0)
            for a in range(axes):
                back = slope[a, i] * speed[a, i] > 0
                gains[a, i] = max(gains[a, i] * less, least) if back else gains[a, i] + more
                speed[a, i] = kept * speed[a, i] - far * gains[a, i] * slope[a, i]
                squared += speed[a, i] ** 2
            length = np.sqrt(squared)
            if length > longest:
                for a in range(axes):
                    speed[a, i] *= longest / length
        for a in range(axes):
            points[a] += speed[a]
            points[a] -= points[a].mean()


@fast
def divergence(points, starts, columns, values, total):
    """KL(P|Q) = sum p_ij log(p_ij / q_ij) with q_ij = w_ij / total, eq. 2, in nats."""
    found = 0.0
    for i in range(points.shape[1]):
        for at in range(starts[i], starts[i + 1]):
            apart = 1.0
            for a in range(len(points)):
                apart += (points[a, i] - points[a, columns[at]]) ** 2
            found += values[at] * np.log(values[at] * total * apart)
    return found


class Layout:
    """A t-SNE on its way: `points` so far, after `done` of `total` iterations, beginning at `start` in std 1."""

    def __init__(self, pairs: Affinities, start: Float[ndarray, "N axes"], early: int = EARLY, plain: int = PLAIN):
        self.pairs, self.early, self.total, self.done = pairs, early, early + plain, 0
        start = start - start.mean(0)
        self._laid = np.ascontiguousarray((start / max(float(start.std(0).max()), 1e-12)).T, dtype=np.float32)
        self._speed, self._gains = np.zeros_like(self._laid), np.ones_like(self._laid)

    @property
    def points(self) -> Float32[ndarray, "N axes"]:
        return np.ascontiguousarray(self._laid.T)

    def go_on(self, iterations: int) -> None:
        """Carry out so many iterations, or those that are left."""
        last = min(self.done + iterations, self.total)
        while self.done < last:
            exaggerated = self.done < self.early
            rounds = min(last, self.early if exaggerated else self.total) - self.done
            if self.done == self.early:
                self._gains[:] = 1
            exaggeration, momentum = (EXAGGERATION, 0.5) if exaggerated else (1.0, 0.9)
            rate = max(self.pairs.count, 50) / (4 * exaggeration if exaggerated else 1)
            descend(self._laid, self._speed, self._gains, *self.pairs.arrays, exaggeration, momentum, rate, rounds)
            self.done += rounds

    @property
    def divergence(self) -> float:
        """KL(P|Q) of the points as they are, in nats."""
        total = slopes(self._laid, *self.pairs.arrays, 1.0, np.empty_like(self._laid))
        return float(divergence(self._laid, *self.pairs.arrays, total))
