"""Prints the results of `bidist evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluator.evaluate import EvaluatedPopulation
from evaluator.results import episode_key, number_of, rows_of
from reports.statistics import interval


def show(populations: Sequence[EvaluatedPopulation], out: Path, seed: int, reference: bool) -> None:
    """Prints the returns of some populations in a results file, for one seed, played by the reference or not."""
    rows = {episode_key(row): row for row in rows_of(out)}.values()
    console = Console()
    for p in populations:
        table = Table("scenario", "focal return per capita", "95% interval", "episodes", box=None)
        own: dict[str, list[float]] = {}
        for row in rows:
            of_this = (p.run, p.checkpoint, p.weights, seed, reference)
            if tuple(row[k] for k in ("run", "checkpoint", "weights", "evaluation_seed", "reference")) == of_this:
                own.setdefault(row["scenario"], []).append(row["focal_return"])
        for name in sorted(own, key=number_of):
            found = interval(own[name])
            limits = f"{found.low:.2f} to {found.high:.2f}" if found.episodes > 1 else ""
            table.add_row(str(number_of(name)), f"{found.mean:.2f}", limits, str(found.episodes))
        title = f"[bold]{p.run}[/] {f'checkpoint {p.checkpoint}' if p.checkpoint else ''}"
        console.print(f"{title} in {p.config.environment.substrate}", highlight=False, soft_wrap=True)
        console.print(table)
    console.print(f"results: {out}", soft_wrap=True, highlight=False)
