"""The figures as a table in Markdown."""


def table(figures: dict) -> str:
    full, load = figures["full"], figures["load"]
    lines = ["| what | measured | target |", "| --- | --- | --- |"]
    row = lambda *texts: lines.append(cells(*texts))
    row("HTTP ingest, batches of 1,000, durable before the answer", f"{load['events_per_second']:,.0f} events/s over {load['seconds']:.0f} s, p99 {load['latency_ms']['p99']:.0f} ms, {load['busy']} busy, {load['failed']} failed", "200,000 events/s")
    row("CPU per event: server, of it writer, flush, compaction", f"{load['server_us']:.2f} µs, {load['writer_us']:.2f}, {load['flush_us']:.2f}, {load['compaction_us']:.2f}", "")
    row("peak memory of the server under that load", f"{load['peak_mb']:.0f} MB", "")
    lines += ingest_rows(figures)
    imported = figures["import"]
    row("import of Parquet", f"{imported['rows_per_s']:,.0f} rows/s, {imported['cpu_us']:.2f} µs CPU per row, {imported['peak_mb']:.0f} MB", "")
    row("full recomputation", f"{full['ms'] / 1000:.2f} s, {full['cpu_s']:.2f} s CPU, {full['peak_mb']:.0f} MB", "under 300 MB")
    lines += scorecard_rows(figures)
    ten, spread = figures["refresh_ten"], figures["refresh_all"]
    row("refresh, 1 % new events in 10 experiments", f"{ten['ms']} ms, full {ten['full_ms']} ms: {ten['full_ms'] / ten['ms']:.1f}x faster", "20x")
    row("refresh, 1 % new events over all experiments", f"{spread['ms']} ms, full {spread['full_ms']} ms: {spread['ms'] / spread['full_ms']:.2f}x of full", "at most 1.2x")
    return "\n".join(lines)


def cells(*texts: str) -> str:
    return "| " + " | ".join(texts) + " |"


def ingest_rows(figures: dict) -> list[str]:
    """The fastest way of ClickHouse to take the load's bodies, synced and not."""
    rows, load = [], figures["load"]
    for synced in [True, False] if "clickhouse_ingest" in figures else []:
        other = max((run for run in figures["clickhouse_ingest"] if run["synced"] == synced), key=lambda run: run["events_per_second"])
        what = f"the same bodies as `INSERT ... FORMAT JSONEachRow` in {other['engine']}, {other['way']}, without HTTP and load generator, {'synced' if synced else 'not synced'}"
        ratios = f"Trialog takes {load['events_per_second'] / other['events_per_second']:.1f}x the events/s at {other['cpu_us'] / load['server_us']:.1f}x less CPU"
        rows.append(cells(what, f"{other['events_per_second']:,.0f} events/s, {other['cpu_us']:.2f} µs CPU per event, {other['peak_mb']:,} MB: {ratios}", ""))
    return rows


def scorecard_rows(figures: dict) -> list[str]:
    rows, full_s = [], figures["full"]["ms"] / 1000
    for engine, target in [("duckdb", "5x"), ("clickhouse", "10x")]:
        if other := figures.get(engine):
            rows.append(cells(f"the same as SQL in {other['engine']}, the fastest of {len(other['ways_s'])} ways ({other['way']})", f"{other['s']:.1f} s, {other['cpu_s']:.1f} s CPU, {other['peak_mb']:,} MB: Trialog is {other['s'] / full_s:.1f}x faster", target))
    if other := figures.get("growthbook"):
        whole = other["experiments"] == other["of_experiments"]
        share = "" if whole else f", extrapolated from {other['queries']:,} for {other['experiments']:,} experiments (the {other['largest']} largest, the others drawn evenly by size)"
        rows.append(cells(f"a GrowthBook-style query per experiment and event type in {other['engine']}, {other['all_queries']:,} in all{share}", f"{other['all_s']:,.0f} s, median {other['median_ms']:.0f} ms, slowest {other['slowest_ms']:,.0f} ms, {other['peak_mb']:,} MB: Trialog is {other['all_s'] / full_s:,.0f}x faster", ""))
    return rows
