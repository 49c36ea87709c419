"""What Prometheus would read of the exporter."""

from prometheus_client import CollectorRegistry

from dashboard.exporter import RunsCollector
from dashboard.metrics import METRICS

Samples = dict[tuple[str, ...], float]


def scraped(url: str, run: str, only: str | None = None) -> dict[str, Samples]:
    """Metrics by name; samples by their labels' values without the run, in the order of the metric's labels."""
    registry = CollectorRegistry()
    registry.register(RunsCollector(url, only))
    found: dict[str, Samples] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.labels.get("run", run) == run:
                labels = tuple(sample.labels[name] for name in METRICS[sample.name].labels)
                found.setdefault(sample.name, {})[labels] = sample.value
    return found
