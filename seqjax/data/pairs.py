"""Sources and targets of many lengths as batches of few shapes."""

import grain
import numpy as np


def shapes_for(sources, targets, count):
    """The shapes ``(S, T)`` of batches that pad pairs of sequences least.

    Pairs are divided into classes by the longer of their two lengths, and each shape holds all pairs of its class and of
    those below; the sum of S + T over all pairs is the least that ``count`` such classes allow.

    Args:
      sources: sequences of codes.
      targets: as many, without the stop that batches give each.
      count: how many shapes at most; each is a program that XLA compiles.

    Returns:
      a list of ``(S, T)``, ascending, T with room for the stop.
    """
    _check(sources, targets)
    lengths = np.array([[len(s), len(t) + 1] for s, t in zip(sources, targets, strict=True)])
    lengths = lengths[np.argsort(lengths.max(1), kind="stable")]
    # What ends with each possible longest length: so many pairs, and the shape that holds them.
    ends = np.flatnonzero(np.diff(lengths.max(1), append=np.inf)) + 1
    tops = np.maximum.accumulate(lengths)[ends - 1]
    # The least cost of everything up to each end, and where its classes end.
    best = [(end * top.sum(), [j]) for j, (end, top) in enumerate(zip(ends, tops, strict=True))]
    for _ in range(min(count, len(ends)) - 1):
        best = [
            min([best[j], *((best[i][0] + (ends[j] - ends[i]) * tops[j].sum(), [*best[i][1], j]) for i in range(j))])
            for j in range(len(ends))
        ]
    return [(int(tops[j, 0]), int(tops[j, 1])) for j in best[-1][1]]


def pairs(sources, targets, *, shapes, batch_size, start, stop, pad=0, seed=0):
    """An endless Grain data set of batches of pairs, each of one of a few shapes.

    An epoch has every pair, in an order drawn from ``(seed, epoch)`` alone. A pair goes into the smallest shape that holds
    it; pairs that fill no batch go into the next larger shape, and the last batch of the largest is filled up with pairs
    that come a second time.

    Args:
      sources: sequences of codes.
      targets: as many, without start and stop.
      shapes: ``(S, T)``, ascending, such as :func:`shapes_for` gives.
      batch_size: B.
      start: the code that the decoder reads first.
      stop: the code that ends a target.
      pad: the code of padding.
      seed: another seed gives another order.

    Returns:
      a ``grain.IterDataset`` of ``{"source", "source_mask": [B, S], "inputs", "targets", "mask": [B, T]}``: ``inputs`` is
      start and the target, ``targets`` the target and stop; masks are True where there is something. Its iterator's
      ``get_state`` and ``set_state`` hold the position.

    Raises:
      ValueError: sources and targets are not equally many, a source is empty, or a pair is longer than the largest shape;
        names the first such pair, counted from 1 as lines of a file are.

    Example:
      >>> from seqjax.data import pairs
      >>> data = pairs([[5, 6], [7]], [[8], [9, 9]], shapes=[(2, 3)], batch_size=2, start=1, stop=2)
      >>> batch = next(iter(data))
      >>> sorted(batch["targets"].tolist()), batch["mask"].sum()
      ([[8, 2, 0], [9, 9, 2]], np.int64(5))
    """
    source = _Epochs(sources, targets, shapes, batch_size, (start, stop, pad), seed)
    return grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


def each_pair(sources, targets, *, shapes, batch_size, start, stop, pad=0):
    """Every pair once, for evaluation.

    Args:
      sources, targets, shapes, batch_size, start, stop, pad: as for :func:`pairs`.

    Yields:
      ``(rows, batch)``: the places in ``sources`` of the first rows of the batch; rows beyond hold nothing and are masked.
    """
    for shape, places in zip(shapes, _places(sources, targets, shapes), strict=True):
        for i in range(0, len(places), batch_size):
            rows = places[i : i + batch_size]
            yield rows, _batch(sources, targets, rows, shape, batch_size, (start, stop, pad))


class _Epochs:
    """Batch ``i`` of all epochs, for any ``i``; as a Grain source it is very long."""

    def __init__(self, sources, targets, shapes, batch_size, codes, seed):
        self.sources, self.targets, self.shapes = sources, targets, shapes
        self.batch_size, self.codes, self.seed = batch_size, codes, seed
        self.places = _places(sources, targets, shapes)
        self.count = -(-len(sources) // batch_size)  # only the last batch can have too few
        self.epoch: int | None = None
        self.batches: list = []

    def __len__(self):
        return 2**40

    def __getitem__(self, i):
        epoch, i = divmod(i, self.count)
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self._deal(epoch)
        shape, rows = self.batches[i]
        return _batch(self.sources, self.targets, rows, self.shapes[shape], self.batch_size, self.codes)

    def _deal(self, epoch):
        """The batches of an epoch: (number of the shape, places)."""
        rng, B = np.random.default_rng((self.seed, epoch)), self.batch_size
        batches, left = [], np.array([], int)
        for shape, places in enumerate(self.places):
            rows = np.concatenate([left, rng.permutation(places)]).astype(int)
            last = shape == len(self.places) - 1
            if last and len(rows) % B:
                rows = np.concatenate([rows, np.resize(rng.permutation(len(self.sources)), -len(rows) % B)])
            cut = len(rows) // B * B
            batches += [(shape, part) for part in rows[:cut].reshape(-1, B)]
            left = rows[cut:]
        return [batches[i] for i in rng.permutation(len(batches))]


def _check(sources, targets):
    if len(sources) != len(targets):
        raise ValueError(f"pairs: {len(sources)} sources and {len(targets)} targets are no pairs; give one target for each.")
    if not len(sources):
        raise ValueError("pairs: there are none.")
    for i, source in enumerate(sources):
        if not len(source):
            raise ValueError(f"pairs: the source of pair {i + 1} is empty; leave the pair out.")


def _places(sources, targets, shapes):
    """For each shape the places of the pairs that it is the smallest to hold."""
    _check(sources, targets)
    found: list[list[int]] = [[] for _ in shapes]
    for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
        fitting = [n for n, (S, T) in enumerate(shapes) if len(source) <= S and len(target) < T]
        if not fitting:
            S, T = shapes[-1]
            raise ValueError(
                f"pairs: pair {i + 1} has {len(source)} source and {len(target)} target symbols, the largest shape holds "
                f"{S} and {T - 1}; cut it, leave it out, or give a larger shape."
            )
        found[fitting[0]].append(i)
    return [np.array(places, int) for places in found]


def _batch(sources, targets, rows, shape, batch_size, codes):
    start, stop, pad = codes
    S, T = shape
    batch = {
        "source": np.full((batch_size, S), pad, np.int32),
        "source_mask": np.zeros((batch_size, S), bool),
        "inputs": np.full((batch_size, T), pad, np.int32),
        "targets": np.full((batch_size, T), pad, np.int32),
        "mask": np.zeros((batch_size, T), bool),
    }
    for b, row in enumerate(rows):
        source, target = sources[row], targets[row]
        batch["source"][b, : len(source)] = source
        batch["source_mask"][b, : len(source)] = True
        batch["inputs"][b, : len(target) + 1] = [start, *target]
        batch["targets"][b, : len(target) + 1] = [*target, stop]
        batch["mask"][b, : len(target) + 1] = True
    return batch
