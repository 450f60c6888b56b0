"""Pictures of a run."""

import warnings

import matplotlib
import matplotlib.font_manager

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


def alignments(path, read):
    """Draws what an answer read of its source, a picture for each of ``read``: (source symbols, answer symbols, weights)."""
    columns = min(3, len(read))
    rows = -(-len(read) // columns)
    size = (5.5 * columns, 5.5 * rows)
    with matplotlib.rc_context({"font.family": _families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # no font here has that symbol
        figure, panels = plt.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")
        for axes in panels.ravel()[len(read) :]:
            axes.set_visible(False)
        for axes, (source, answer, weights) in zip(panels.ravel(), read, strict=False):
            axes.imshow(weights, cmap="Greys", vmin=0, vmax=1, aspect="auto")
            axes.set_xticks(range(len(source)), source, rotation=60, ha="left", fontsize=8)
            axes.set_yticks(range(len(answer)), answer, fontsize=8)
            axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        figure.savefig(path, dpi=110)
    plt.close(figure)


def _families():
    """Fonts to look for a symbol in: the usual one, then those that have Chinese."""
    named = {font.name for font in matplotlib.font_manager.fontManager.ttflist}
    chinese = sorted(name for name in named if any(word in name for word in ("CJK", "Han Sans", "WenQuanYi", "SimHei")))
    return ["DejaVu Sans", *chinese]


def scores_by_length(path, scores, *, unit):
    """Draws a score for each class of lengths: ``{label: score}``."""
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    bars = axes.bar(list(scores), list(scores.values()), color="tab:blue", width=0.6)
    axes.bar_label(bars, fmt="%.1f")
    axes.set(xlabel="length of the source, in symbols", ylabel=unit, title=path.parent.name)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
