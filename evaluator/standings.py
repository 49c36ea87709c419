"""What a cross-play came to: a matrix of returns, means and worst cases over strangers, and a rating."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from openskill.models import PlackettLuce

from evaluator.crossplay import ALL
from evaluator.statistics import DRAWS, Interval, interval, limits

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Standing:
    """One population.

    Attributes:
      population: its label.
      method: its method.
      among_itself: return per player where it plays all seats; None if that was not played.
      strangers: mean over the populations of other runs of its focal return among them.
      worst: the lowest of these means, and `worst_with` whom it is with.
      rating, uncertainty: of the Plackett-Luce model, in its own units (25 is the mean, 25/3 knows nothing); None with
        fewer than three populations, for then no two are guests of the same one.
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
    """What a population is called: by its run, of which one checkpoint takes part."""
    return str(row[f"{prefix}run"])


def cells(rows: Rows, split: str) -> dict[tuple[str, str], Interval]:
    """Focal returns by focal and background population; on the diagonal those of a population among itself."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["split"] in (split, ALL):
            found[label(row), label(row, "background_")].append(row["focal_return"])
    return {pair: interval(values) for pair, values in found.items()}


def standings(rows: Rows) -> list[Standing]:
    """Every population's, the best mean among strangers first.

    The interval of a mean over strangers draws episodes, within each stranger and split; it knows nothing of other
    seeds of the same method.

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
        among: dict[str, list[float]] = defaultdict(list)
        for row in own:
            if row["split"] != ALL:
                among[label(row, "background_")].append(row["focal_return"])
        if not among:
            continue
        drawn = np.mean([rng.choice(values, (DRAWS, len(values))).mean(1) for values in among.values()], 0)
        mean = float(np.mean([np.mean(values) for values in among.values()]))
        worst = min(among, key=lambda stranger: float(np.mean(among[stranger])))
        rating = ratings.get(name)
        found.append(
            Standing(
                name, method, interval(itself) if itself else None,
                Interval(mean, *limits(drawn), sum(map(len, among.values()))), interval(among[worst]), worst,
                None if rating is None else rating[0], None if rating is None else rating[1],
            )
        )  # fmt: skip
    return sorted(found, key=lambda standing: -standing.strangers.mean)


def rate(rows: Rows) -> dict[str, tuple[float, float]]:
    """Rates populations by what they earn as guests: mu and sigma of the Plackett-Luce model (Weng and Lin 2011).

    A match is one episode's number with one host in one split: all guests played the same game in the same seats, and
    rank by their focal returns. Matches count in an order drawn at random, the same each time.
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
        guests = matches[keys[i]]
        if len(guests) < 2:
            continue
        played = True
        names = sorted(guests)
        after = model.rate([[ratings[name]] for name in names], scores=[guests[name] for name in names])
        ratings.update(zip(names, (team[0] for team in after), strict=True))
    return {name: (float(r.mu), float(r.sigma)) for name, r in ratings.items()} if played else {}
