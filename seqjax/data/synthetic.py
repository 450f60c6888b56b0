"""Tasks with known answers, drawn at random for ever: sums of numbers, parity of bits."""

import grain
import numpy as np


def examples(make, *, batch_size, seed=0, longest=None):
    """An endless Grain data set of random batches: batch i is drawn from ``(seed, i)`` and from nothing else.

    Args:
      make: ``(rng, batch_size) -> batch``, a task such as ``Addition(8)``; rng is a ``numpy.random.Generator``.
      batch_size: B.
      seed: another seed gives other batches.
      longest: ``i -> length`` of the longest example of batch i, for a task that takes ``longest``; None for the task's own.

    Returns:
      a ``grain.IterDataset`` of batches; its iterator's ``get_state`` and ``set_state`` hold the position.

    Example:
      >>> from seqjax.data import Parity, examples
      >>> batch = next(iter(examples(Parity(4), batch_size=2)))
      >>> sorted(batch), batch["inputs"].shape
      (['inputs', 'mask', 'targets'], (2, 4))
    """
    source = _Draws(make, batch_size, seed, longest)
    return grain.MapDataset.source(source).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


class _Draws:
    """Batch ``i``, for any ``i``; as a Grain source it is very long."""

    def __init__(self, make, batch_size, seed, longest):
        self.make, self.batch_size, self.seed, self.longest = make, batch_size, seed, longest

    def __len__(self):
        return 2**40

    def __getitem__(self, i):
        options = {} if self.longest is None else {"longest": self.longest(i)}
        return self.make(np.random.default_rng((self.seed, i)), self.batch_size, **options)


class Addition:
    """Two decimal numbers, digit by digit, then their sum (Kalchbrenner et al. 2015, section 4.1).

    ``- 0 1 2 - 0 3 4 - - - -`` is read while ``0 0 4 6`` is to be said at the last four steps. Numbers have up to ``digits``
    digits, the others are zero. How many is, for each number, the larger of two uniform draws: short ones are learnt first,
    and sums of two long ones are not rare.

    Args:
      digits: of the longest numbers.
      lowest_first: whether digits come as on paper one adds them, the lowest first (``- 2 1 0 - 4 3 0 - - - -`` and
        ``6 4 0 0``), so that a carry is known when it is needed; else as one says them, which is the paper's order.

    A batch is inputs int [B, T], symbols 0..9 and 10 for "-"; targets int [B, T]; mask bool [B, T], True where an answer is
    due, with T = 3 digits + 4.
    """

    symbols = 11

    def __init__(self, digits, *, lowest_first=False):
        if not 1 <= digits <= 18:
            raise ValueError(f"Addition: digits must be 1 to 18, which 64-bit integers hold, got {digits}.")
        self.digits, self.lowest_first = digits, lowest_first

    def __call__(self, rng, batch_size, *, exactly=None, longest=None):
        """A batch; ``exactly`` is how many digits both numbers have, the highest of them not zero; ``longest`` how many of
        the ``digits`` are used."""
        count = exactly
        if count is None:
            count = rng.integers(1, (longest or self.digits) + 1, size=(batch_size, 2, 2)).max(-1)
        numbers = rng.integers(0 if exactly is None else 10 ** (exactly - 1), 10**count, size=(batch_size, 2))
        n, dash = self.digits, np.full((batch_size, 1), 10)
        read = [dash, self._digits(numbers[:, 0], n), dash, self._digits(numbers[:, 1], n), dash, np.repeat(dash, n + 1, 1)]
        inputs = np.concatenate(read, 1)
        targets = np.zeros_like(inputs)
        targets[:, -n - 1 :] = self._digits(numbers.sum(1), n + 1)
        mask = np.zeros(inputs.shape, bool)
        mask[:, -n - 1 :] = True
        return {"inputs": inputs.astype(np.int32), "targets": targets.astype(np.int32), "mask": mask}

    def _digits(self, numbers, count):
        """The digits of numbers in the order they come: [B] -> [B, count]."""
        lowest_first = numbers[:, None] // 10 ** np.arange(count) % 10
        return lowest_first if self.lowest_first else lowest_first[:, ::-1]


class Parity:
    """A string of bits, then whether the number of ones is odd (Kalchbrenner et al. 2015, section 4.3).

    Strings have up to ``bits`` bits, behind symbols of nothing; how many is uniform, so that short ones are learnt first.

    Args:
      bits: of the longest strings.

    A batch is inputs int [B, T], symbols 0, 1 and 2 for nothing; targets int [B, T]; mask bool [B, T], True at the last step
    alone, with T = bits.
    """

    symbols = 3

    def __init__(self, bits):
        if bits < 1:
            raise ValueError(f"Parity: bits must be positive, got {bits}.")
        self.bits = bits

    def __call__(self, rng, batch_size, *, exactly=None, longest=None):
        """A batch; ``exactly`` is how many bits all strings have, ``longest`` how many of the ``bits`` are used."""
        count = rng.integers(1, (longest or self.bits) + 1, size=(batch_size, 1)) if exactly is None else exactly
        bits = rng.integers(0, 2, size=(batch_size, self.bits))
        there = np.arange(self.bits)[::-1] < count
        targets = np.zeros_like(bits)
        targets[:, -1] = np.where(there, bits, 0).sum(1) % 2
        mask = np.zeros(bits.shape, bool)
        mask[:, -1] = True
        return {"inputs": np.where(there, bits, 2).astype(np.int32), "targets": targets.astype(np.int32), "mask": mask}
