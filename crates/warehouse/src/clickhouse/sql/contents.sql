-- What there is of each experiment: rows, the latest time, and the first names
-- in the order of their texts.
SELECT
    experiment_id,
    count() AS n_rows,
    max(toUnixTimestamp64Micro({time})) AS latest,
    arraySlice(arraySort(groupUniqArray({name})), 1, {n_names}) AS names,
    length(groupUniqArray({name})) AS n_distinct
FROM {table}
WHERE experiment_id IN ({experiments}) AND {visible}
GROUP BY experiment_id
FORMAT JSONCompactEachRow
