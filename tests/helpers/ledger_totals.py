"""What tests read of a ledger."""

from common.ledger import Balance

TOTALS = ("produced", "trained", "stale", "rejected", "rewound", "lost", "in_flight")

KEYS = ("ledger", "sequences", "reported", "closed", "closings", "change")


def totals(balance: Balance) -> dict[str, int]:
    return {name: getattr(balance, name) for name in TOTALS}
