-- The first event of each experiment that is later than data time.
SELECT code, min(waits_until)
FROM (
    SELECT experiment_id, min(toUnixTimestamp64Micro(assigned_at)) AS waits_until
    FROM assignments
    WHERE experiment_id IN ({experiments}) AND {visible} AND toUnixTimestamp64Micro(assigned_at) > {data_time}
    GROUP BY experiment_id
    UNION ALL
    SELECT experiment_id, min(toUnixTimestamp64Micro(occurred_at))
    FROM metric_events
    WHERE experiment_id IN ({experiments}) AND {visible} AND toUnixTimestamp64Micro(occurred_at) > {data_time}
    GROUP BY experiment_id
) AS first
INNER JOIN {plans} AS plans USING (experiment_id)
GROUP BY code
FORMAT JSONCompactEachRow
