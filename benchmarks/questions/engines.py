"""Gradients by each engine that a recurrence has, short and long, beside the one that seqjax.engines.choice chooses."""

import dataclasses
from typing import Any

import seqjax as sj
from benchmarks import layers
from benchmarks.layers import OURS
from benchmarks.measure import Case
from benchmarks.specs import Size

UNIT = "ms"
SHORT = [Size(T, 32, 128, 128) for T in (1, 2, 4, 16)]
LONG = [Size(128, 32, 128, 128), Size(64, 32, 512, 512), Size(512, 16, 64, 64), Size(1024, 1, 64, 64)]
SIZES = (*SHORT, *LONG)
CELLS: dict[str, Any] = {"lstm": sj.LSTM, "min_gru": sj.MinGRU, "grid_lstm": sj.GridLSTM}


def cases(options):
    for name, cell in CELLS.items():
        for size in options.chosen(SIZES):
            programs = {}
            for engine in ("auto", *cell.engines):
                recurrence = dataclasses.replace(cell(size.H), engine=engine)
                params, xs, _ = layers.draw(recurrence, size)
                program = next(program for _, program in layers.ours(recurrence, params, xs, None, "gradient"))
                programs[OURS if engine == "auto" else engine] = program
            chosen = cell(size.H).choice(size.T).engine
            yield Case(f"{name} {size}: {chosen}", {"cell": name, **size._asdict(), "chosen": chosen}, programs)
