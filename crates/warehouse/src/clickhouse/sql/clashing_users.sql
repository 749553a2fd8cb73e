-- Users of which one number stands for two texts, the first ones of each experiment.
SELECT experiment_id, arraySlice(arraySort(groupArray(user_id)), 1, {n_users})
FROM (
    SELECT experiment_id, user_id
    FROM assignments
    WHERE experiment_id IN ({experiments}) AND {visible} AND user_text <> ''
    GROUP BY experiment_id, user_id
    HAVING min(user_text) <> max(user_text)
)
GROUP BY experiment_id
FORMAT JSONCompactEachRow
