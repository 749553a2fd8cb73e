"""The last results of every experiment, comparable with other engines', and a digest of them.

Rows without events are left out, as SQL has no row for them.
"""

import hashlib
import json
import sqlite3
import sys
from decimal import Decimal

LATEST = """
SELECT m.experiment_id, m.variant, m.metric_name, m.user_count, m.converted_users, m.event_count, m.total_value, m.squared_total
FROM variant_metrics m
JOIN (SELECT experiment_id, max(computed_at) AS computed_at FROM computations GROUP BY experiment_id) latest
  ON latest.experiment_id = m.experiment_id AND latest.computed_at = m.computed_at
WHERE m.event_count > 0
"""


def results(directory: str) -> list[tuple]:
    """Experiment, variant, event type, users, converted users, events, and the sums in 1/10,000."""
    catalog = sqlite3.connect(f"file:{directory}/catalog.sqlite?mode=ro", uri=True)
    return sorted((*row[:6], int(Decimal(row[6]) * 10_000), int(row[7])) for row in catalog.execute(LATEST))


def digest(rows: list[tuple]) -> str:
    """A digest of rows in their order, every sum to the last digit."""
    return hashlib.sha256("\n".join("|".join(map(str, row)) for row in rows).encode()).hexdigest()


if __name__ == "__main__":
    rows = results(sys.argv[1])
    print(json.dumps({"rows": len(rows), "digest": digest(rows)}))
