SELECT code, status, if(status IN ('forced', 'unknown', 'left_out'), 0, variant) AS of_variant, count()
FROM judged
GROUP BY code, status, of_variant
FORMAT JSONCompactEachRow
