"""The outcome of a cross-play: a matrix of returns, means and worst cases over strangers, and ratings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from openskill.models import PlackettLuce

from evaluator.crossplay import ALL
from reports.statistics import Array, Interval, interval, limits, mean_draws

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Standing:
    """The standing of one population.

    Attributes:
      population: its label.
      method: its method.
      among_itself: return per player where it plays all seats; None if that was not played.
      strangers: its focal return among the populations of other runs, mean over them.
      worst, worst_with: the lowest of these returns, and the population it was among.
      rating, uncertainty: of the Plackett-Luce model, in its own units (a new population has 25 ± 8.3); None with
        fewer than three populations, because no two have met the same one.
    """

    population: str
    method: str
    among_itself: Interval | None
    strangers: Interval
    worst: Interval
    worst_with: str
    rating: float | None
    uncertainty: float | None


def label(row: Mapping[str, Any], prefix: str = "") -> str:
    """Returns the name of a population: its run's, since one checkpoint of each takes part."""
    return str(row[f"{prefix}run"])


def cells(rows: Rows, split: str) -> dict[tuple[str, str], Interval]:
    """Averages focal returns by focal and background population; on the diagonal, a population plays all seats."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["split"] in (split, ALL):
            found[label(row), label(row, "background_")].append(row["focal_return"])
    return {pair: interval(values) for pair, values in found.items()}


def standings(rows: Rows) -> list[Standing]:
    """Returns the standings of all populations, sorted by their mean return among strangers, best first.

    The interval of a mean over strangers resamples episodes within each stranger and split; it does not cover variation
    between training seeds.

    Args:
      rows: of `crossplay.jsonl`, of at least two populations.
    """
    ratings = rate(rows)
    methods = {label(row): row["method"] for row in rows}
    rng = np.random.default_rng(0)
    found = []
    for name, method in methods.items():
        own = [row for row in rows if label(row) == name]
        itself = [row["focal_return"] for row in own if row["split"] == ALL]
        among: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in own:
            if row["split"] != ALL:
                among[label(row, "background_")][row["split"]].append(row["focal_return"])
        if not among:
            continue
        each = {stranger: _mean_of_means(list(groups.values()), rng) for stranger, groups in among.items()}
        worst = min(each, key=lambda stranger: each[stranger][0])
        episodes = {stranger: sum(map(len, groups.values())) for stranger, groups in among.items()}
        strangers = (
            float(np.mean([mean for mean, _ in each.values()])),
            np.mean([draws for _, draws in each.values()], 0),
        )
        rating = ratings.get(name, (None, None))
        found.append(
            Standing(
                population=name,
                method=method,
                among_itself=interval(itself) if itself else None,
                strangers=Interval(strangers[0], *limits(strangers[1]), sum(episodes.values())),
                worst=Interval(each[worst][0], *limits(each[worst][1]), episodes[worst]),
                worst_with=worst,
                rating=rating[0],
                uncertainty=rating[1],
            )
        )
    return sorted(found, key=lambda standing: -standing.strangers.mean)


def by_method(rows: Rows) -> dict[tuple[str, str], Interval]:
    """Averages focal returns by focal and background method, over pairs of different runs, all splits weighted equally.

    With three or more focal runs the interval is a bootstrap over them; with fewer it is their range.
    """
    met: dict[tuple[str, str], dict[str, dict[tuple[str, str], list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        if row["split"] != ALL:
            pair = row["method"], row["background_method"]
            met[pair][label(row)][label(row, "background_"), row["split"]].append(row["focal_return"])
    found = {}
    for pair, runs in met.items():
        means = [float(np.mean([np.mean(values) for values in groups.values()])) for groups in runs.values()]
        few = len(means) < 3
        found[pair] = Interval(float(np.mean(means)), min(means), max(means), len(means)) if few else interval(means)
    return found


def _mean_of_means(groups: Sequence[Sequence[float]], rng: np.random.Generator) -> tuple[float, Array]:
    """Returns the unweighted mean of the groups' means, and bootstrap draws of it within each group: [DRAWS]."""
    drawn = [mean_draws(values, rng) for values in groups]
    return float(np.mean([np.mean(values) for values in groups])), np.mean(drawn, 0)


def rate(rows: Rows) -> dict[str, tuple[float, float]]:
    """Rates populations by their focal returns: mu and sigma of the Plackett-Luce model (Weng and Lin 2011).

    A match is one episode number with one background population in one split: all focal populations played the same
    game in the same seats, and are ranked by their returns. Matches are rated in a fixed random order.
    """
    matches: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["split"] != ALL:
            matches[label(row, "background_"), row["split"], row["episode"]][label(row)] = row["focal_return"]
    model = PlackettLuce()
    ratings = {name: model.rating(name=name) for name in {label(row) for row in rows}}
    keys = sorted(matches)
    played = False
    for i in np.random.default_rng(0).permutation(len(keys)):
        focal = matches[keys[i]]
        if len(focal) < 2:
            continue
        played = True
        names = sorted(focal)
        after = model.rate([[ratings[name]] for name in names], scores=[focal[name] for name in names])
        ratings.update(zip(names, (team[0] for team in after), strict=True))
    return {name: (float(r.mu), float(r.sigma)) for name, r in ratings.items()} if played else {}
