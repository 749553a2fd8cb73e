SELECT DISTINCT experiment_id
FROM {table}
WHERE {visible}
ORDER BY experiment_id
FORMAT JSONCompactEachRow
