-- How many exposed users have which values of the keys.
SELECT key_values, count()
FROM judged
WHERE status = 'exposed'
GROUP BY key_values
FORMAT JSONCompactEachRow
