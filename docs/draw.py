"""The picture of R1 in miniature, from the metrics of its runs, a line a seed.

python -m docs.draw runs/r1-mini runs/r1-mini-1 runs/r1-mini-2     # writes docs/pictures/r1-mini.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib  # reasoning-gym brings it
import numpy as np
from matplotlib.figure import Figure

from actors.events import StepDone
from actors.report.writer import read_back

matplotlib.use("agg")
PICTURE = Path(__file__).parent / "pictures" / "r1-mini.png"
STAGES = {"zero": "R1-Zero", "reasoning": "reasoning RL", "final": "final RL"}
CURVES = {
    "reward/accuracy": "accuracy, sums in training",
    "thinking_tokens": "thinking time (tokens)",
    "language_mixing": "responses in two languages",
    "reflection_rate": "responses with reflection",
    "reward/preference": "score of the reward model",
}
#: Steps that a line is averaged over: a step has few groups.
SMOOTHED = 7
COLOURS = ("#3274d9", "#e0752d", "#37872d")


def steps_of(run: Path, stage: str) -> list[StepDone]:
    (folder,) = run.glob(f"[0-9][0-9]-{stage}")
    return [event for event in read_back(folder) if isinstance(event, StepDone)]


def curve(steps: Sequence[StepDone], name: str) -> np.ndarray:
    """Numbers of steps and values of a statistic, shape (2, n), averaged; none where the steps have no such values."""
    points = np.array([(step.step, step.statistics[name]) for step in steps if name in step.statistics]).reshape(-1, 2)
    if len(points) < SMOOTHED:
        return np.empty((2, 0))
    kernel = np.ones(SMOOTHED) / SMOOTHED
    return np.stack([np.convolve(column, kernel, "valid") for column in points.T])


def draw(runs: Sequence[Path]) -> None:
    """A column a stage, a row a curve; the bottom row has the one that only the last stage has."""
    figure = Figure(figsize=(10, 10), dpi=100, layout="constrained")
    axes = figure.subplots(len(CURVES), len(STAGES), sharey="row", squeeze=False)
    for column, (stage, title) in enumerate(STAGES.items()):
        axes[0][column].set_title(title)
        trained = [steps_of(run, stage) for run in runs]
        for row, (name, label) in enumerate(CURVES.items()):
            place, seen = axes[row][column], False
            for colour, run, steps in zip(COLOURS, runs, trained, strict=False):
                numbers, values = curve(steps, name)
                seen = seen or len(numbers) > 0
                place.plot(numbers, values, color=colour, label=run.name)
            place.set_visible(seen)
            place.grid(alpha=0.2)
            if column == 0 or name == "reward/preference":
                place.set_ylabel(label, fontsize=8)
                place.tick_params(labelleft=True)
    for row in axes[:-1]:
        row[0].set_ylim(bottom=0)
    axes[0][0].legend(fontsize=8)
    figure.supxlabel("step", fontsize=8)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    draw([Path(argument) for argument in sys.argv[1:]])
