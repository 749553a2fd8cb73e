-- The text of each of some users in an experiment; of two texts the lesser one.
SELECT user_id, min(user_text)
FROM assignments
WHERE experiment_id = {experiment} AND {visible} AND user_id IN ({users}) AND user_text <> ''
GROUP BY user_id
FORMAT JSONCompactEachRow
