-- How many users have which value, by slot and metric, in 1/10,000. Metric 0 counts
-- all exposed users: those who are missing in a metric have no event that counts, which is
-- the value 0.
    , per_user AS (
        SELECT
            user_id,
            slot,
            metric,
            multiIf(any(quantity) = 0, toInt128(10000), any(quantity) = 1, toInt128(10000) * count(), sum(toInt128(value))) AS total
        FROM counted
        WHERE metric > 0 AND at >= from_at AND at < until
        GROUP BY user_id, slot, metric
    )
SELECT slot, metric, toString(total), count()
FROM per_user
GROUP BY slot, metric, total
UNION ALL
SELECT slot, toUInt32(0), '0', count()
FROM judged
WHERE status = 'exposed'
GROUP BY slot
FORMAT JSONCompactEachRow
