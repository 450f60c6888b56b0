"""PyTorch: its own recurrent layers, with the weights of ours. On a CPU its LSTM is oneDNN's, on a GPU all are cuDNN's."""

import importlib.metadata
import importlib.util
import os
from typing import Any

import numpy as np

import seqjax as sj
from benchmarks.measure import Program

NAME = "torch"


def is_installed():
    return importlib.util.find_spec("torch") is not None


def versions():
    return {NAME: importlib.metadata.version(NAME)} if is_installed() else {}


def start():
    """PyTorch with a thread for each core, and without slow numbers near zero."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_flush_denormal(True)
    return torch


def device():
    """Where PyTorch runs: on a GPU if JAX does and PyTorch sees it."""
    import jax
    import torch

    return torch.device("cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu")


def layer(recurrence, params, inputs):
    """``torch.nn.LSTM``, ``GRU`` or ``RNN`` of a cell, a stack or both directions."""
    torch = start()
    cells = recurrence.layers if isinstance(recurrence, sj.Stack) else (recurrence,)
    first: Any = cells[0]
    if both := isinstance(first, sj.Bidirectional):
        first = first.forward
    kinds: dict = {sj.LSTM: torch.nn.LSTM, sj.GRU: torch.nn.GRU, sj.Elman: torch.nn.RNN}
    kind = kinds[type(first)]
    module = kind(inputs, first.features, len(cells), bidirectional=both)
    state = {name: torch.tensor(np.asarray(array)) for name, array in sj.interop.torch.dump(recurrence, params).items()}
    zeros = {name: torch.zeros_like(own) for name, own in module.state_dict().items() if name not in state}
    module.load_state_dict(state | zeros)
    return module.to(device())


def program(recurrence, params, xs, lengths, kind):
    """The forward pass, or forward and backward, of a recurrence; what is compared is [T, B, ...]."""
    torch = start()
    module = layer(recurrence, params, xs.shape[-1])
    xs = torch.tensor(np.asarray(xs), device=device(), requires_grad=kind == "gradient")
    lengths = None if lengths is None else torch.tensor(np.asarray(lengths))

    def outputs():
        if lengths is None:
            return module(xs)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, lengths, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=len(xs))[0]

    def forward():
        with torch.no_grad():
            return finished(outputs())

    def gradient():
        xs.grad = None
        module.zero_grad()
        (outputs() ** 2).sum().backward()
        return finished(xs.grad)

    return Program({"forward": forward, "gradient": gradient}[kind], lambda result: result.cpu().numpy())


def finished(result):
    """The result, once it is there."""
    import torch

    if result.is_cuda:
        torch.cuda.synchronize()
    return result
