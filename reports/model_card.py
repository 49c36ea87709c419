"""The model card of a run: what it was trained on, how far, what it earns among strangers, and how to load it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.config import Config
from evaluator.evaluate import EvaluatedPopulation
from evaluator.results import number_of
from reports.statistics import interval

CARD = """\
---
{metadata}---

# {method} on {substrate}

A population trained with [BiDist](https://arxiv.org/abs/2505.11100) in `{substrate}` for {player_steps:,} player steps
({updates:,} updates), seed {seed}; checkpoint `{checkpoint}` with {policies}.

```python
import bidist

population = bidist.load("hf://{repository}")
rows = bidist.evaluate(population, "{substrate}_0", episodes=20)
```
{pictures}{strangers}
## Settings

```yaml
{settings}```
"""
STRANGERS = """
## Among strangers

Mean return of the focal players in Melting Pot's scenarios, with 95% intervals.

| scenario | return | interval | episodes |
|---|---|---|---|
{rows}
"""


def model_card(p: EvaluatedPopulation, repository: str, rows: Sequence[Mapping[str, Any]], files: Sequence[str]) -> str:
    """Writes a model card, in Markdown with the metadata that the Hugging Face Hub reads.

    Args:
      p: the population.
      repository: `user/name`.
      rows: of its evaluation; those of other checkpoints are left out.
      files: names of pictures and films beside the card.
    """
    config, theta = p.config, p.theta
    assert theta is not None, "checkpoints hold policies"
    count = len(next(iter(theta.values())))
    metadata = {
        "library_name": "bidist",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "multi-agent", "melting-pot", p.method, config.environment.substrate],
    }
    return CARD.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        method=p.method,
        substrate=config.environment.substrate,
        player_steps=p.player_steps,
        updates=p.updates,
        seed=p.seed,
        checkpoint=p.checkpoint,
        policies="one policy for all players" if count == 1 else f"{count} policies",
        repository=repository,
        pictures="".join(f"\n{_shown(name)}\n" for name in files),
        strangers=_strangers([row for row in rows if _own(row, p)]),
        settings=_settings(config),
    )


def _shown(name: str) -> str:
    return f"![{Path(name).stem}]({name})" if name.endswith(".png") else f'<video src="{name}" controls loop></video>'


def _own(row: Mapping[str, Any], p: EvaluatedPopulation) -> bool:
    return (row["run"], row["checkpoint"], row["weights"]) == (p.run, p.checkpoint, p.weights)


def _strangers(rows: Sequence[Mapping[str, Any]]) -> str:
    returns: dict[str, list[float]] = {}
    for row in rows:
        returns.setdefault(row["scenario"], []).append(row["focal_return"])
    lines = []
    for name in sorted(returns, key=number_of):
        found = interval(returns[name])
        limits = f"{found.low:.2f} to {found.high:.2f}" if found.episodes > 1 else ""
        lines.append(f"| `{name}` | {found.mean:.2f} | {limits} | {found.episodes} |")
    return STRANGERS.format(rows="\n".join(lines)) if lines else ""


def _settings(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json", exclude={"run": {"folder"}}), sort_keys=False)
