"""A text as B parallel streams, read chunk by chunk: what truncated backpropagation through time wants."""

import grain
import numpy as np


def loader(codes, *, batch_size, steps):
    """An endless Grain data set of chunks in which every stream goes on where the chunk before left it.

    The text is a circle. Stream b starts at position ``b * len(codes) // batch_size`` and reads on for ever, so that a
    carried state always fits, and so that chunk boundaries fall elsewhere in every pass.

    Args:
      codes: integers ``[N]``.
      batch_size: B, the number of streams.
      steps: T, the length of a chunk.

    Returns:
      a ``grain.IterDataset`` of ``{"inputs": [B, T], "targets": [B, T]}``, int32; its iterator's ``get_state`` and
      ``set_state`` hold the position.

    Raises:
      ValueError: the text is too short for the streams.

    Example:
      >>> import numpy as np
      >>> from seqjax.data import loader
      >>> batches = iter(loader(np.arange(8), batch_size=2, steps=3))
      >>> next(batches)["inputs"].tolist(), next(batches)["inputs"].tolist()
      ([[0, 1, 2], [4, 5, 6]], [[3, 4, 5], [7, 0, 1]])
    """
    if len(codes) < max(2, batch_size):
        raise ValueError(
            f"loader: {batch_size} streams need a text of at least that many symbols, and two; got {len(codes)}."
        )
    source = _Circle(np.asarray(codes, np.int32), batch_size, steps)
    # Reading is a slice of an array in memory: threads and a buffer would only cost.
    return grain.MapDataset.source(source).repeat().to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))


class _Circle:
    """Chunk ``i`` of all streams, for any ``i``; as a Grain source it is very long."""

    def __init__(self, codes, batch_size, steps):
        self.codes, self.steps = codes, steps
        self.starts = np.arange(batch_size) * len(codes) // batch_size

    def __len__(self):
        return 2**40

    def __getitem__(self, i):
        positions = self.starts[:, None] + i * self.steps + np.arange(self.steps + 1)
        window = self.codes[positions % len(self.codes)]
        return {"inputs": window[:, :-1], "targets": window[:, 1:]}


def chunks(codes, *, batch_size, steps):
    """Every symbol of a text but the first as a target exactly once: for evaluation with a carried state.

    Args:
      codes: integers ``[N]``.
      batch_size: B, the number of streams. With one stream every prediction sees all that stands before it.
      steps: T, the length of a chunk.

    Yields:
      ``{"inputs": [B, T], "targets": [B, T], "mask": [B, T]}``, in order; the last chunks are padded.

    Raises:
      ValueError: the text has fewer than two symbols.
    """
    codes = np.asarray(codes, np.int32)
    if len(codes) < 2:
        raise ValueError(f"chunks: a text of at least two symbols is needed to predict one from another; got {len(codes)}.")
    bounds = np.arange(batch_size + 1) * (len(codes) - 1) // batch_size
    for start in range(0, int(np.diff(bounds).max()), steps):
        positions = bounds[:-1, None] + start + np.arange(steps)
        mask = positions < bounds[1:, None]
        positions = np.minimum(positions, len(codes) - 2)
        yield {"inputs": codes[positions], "targets": codes[positions + 1], "mask": mask}
