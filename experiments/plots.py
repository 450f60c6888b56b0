"""Pictures of a run."""

import matplotlib

from experiments import runs

matplotlib.use("agg")
import matplotlib.pyplot as plt


def loss_curve(directory, *, unit):
    """Draws training and held-out loss from ``log.jsonl`` into ``loss.png``."""
    lines = runs.read_lines(directory / "log.jsonl")
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind, name, style in (
        ("train", "training", {"alpha": 0.6, "lw": 1}),
        ("evaluation", "held out", {"marker": "o", "ms": 4}),
    ):
        points = [(line["step"], line["loss"]) for line in lines if line["kind"] == kind]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, **style)
    held_out = [line["loss"] for line in lines if line["kind"] == "evaluation"]
    if held_out:
        axes.axhline(min(held_out), color="grey", lw=0.8, ls=":")
        axes.set_ylim(top=min(max(held_out) * 1.6, max(line["loss"] for line in lines) * 1.02))
        axes.annotate(
            f"{min(held_out):.4f}", (0.99, min(held_out)), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes.set(xlabel="step", ylabel=unit, title=directory.name)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(directory / "loss.png", dpi=150)
    plt.close(figure)
