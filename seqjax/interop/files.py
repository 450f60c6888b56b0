"""Files of tensors: safetensors, which hold arrays and nothing that runs."""

import os
import pathlib


def read(path, prefix=""):
    """The arrays of a .safetensors file whose names start with ``prefix``, and the names of all.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is cut off, or of another format.
    """
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names if name.startswith(prefix)}, names
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole .safetensors file, got something else ({error}); fetch it again, or make one of a "
            "module with safetensors.torch.save_file(module.state_dict(), path). Pickled files are not read."
        ) from error


def write(path, tensors):
    """Writes a .safetensors file, as a whole or not at all."""
    _safetensors()
    from safetensors import numpy

    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(numpy.save(tensors, metadata={"format": "pt"}))  # the metadata that PyTorch's readers ask for
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _safetensors():
    try:
        import safetensors
    except ImportError as error:
        raise ImportError('.safetensors files need safetensors: pip install "seqjax[interop]".') from error
    return safetensors
