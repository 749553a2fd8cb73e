-- Exact sums by slot and metric. Metric 0 stands for event types that nobody named.
    , per_user AS (
        SELECT
            code,
            user_id,
            slot,
            metric,
            any(quantity) AS quantity,
            countIf(metric = 0 AND at >= exposed_at OR metric > 0 AND part = 0 AND at >= from_at AND at < until) AS events,
            sumIf(toInt128(value), part = 0 AND at >= from_at AND at < until) AS total,
            sumIf(toInt128(value), part = 1 AND at >= from_at AND at < until OR part = 2 AND at < before_to AND at >= before_from) AS second
        FROM counted
        WHERE NOT (retention = 1 AND until > {data_time})
        GROUP BY code, user_id, slot, metric
    )
SELECT
    code,
    slot,
    metric,
    countIf(events > 0),
    sum(events),
    toString(sum(toUInt256(events) * events)),
    toString(sum(toInt256(total))),
    toString(sum(toInt256(total) * toInt256(total))),
    toString(sum(toInt256(second))),
    toString(sum(toInt256(second) * toInt256(second))),
    toString(sum(toInt256(second) * multiIf(quantity = 0, toInt256(events > 0), quantity = 1, toInt256(events), toInt256(total))))
FROM per_user
GROUP BY code, slot, metric
FORMAT JSONCompactEachRow
