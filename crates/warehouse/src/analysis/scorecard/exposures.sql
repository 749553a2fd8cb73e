-- Users by status, and by the slot of their variant or by their cell.
SELECT code, status, if(status IN ('crossover', 'exposed'), slot, cell) AS place, count()
FROM judged
GROUP BY code, status, place
FORMAT JSONCompactEachRow
