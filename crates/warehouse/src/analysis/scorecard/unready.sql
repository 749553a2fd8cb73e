-- Users whose window for a retention metric has not ended, and when the first one does.
    , metrics AS {metrics}
SELECT code, slot, metric, count(), min(if(window < 0, ends_at, exposed_at + delay + window))
FROM judged
INNER JOIN metrics USING (code)
WHERE status = 'exposed' AND retention = 1 AND if(window < 0, ends_at, exposed_at + delay + window) > {data_time}
GROUP BY code, slot, metric
FORMAT JSONCompactEachRow
