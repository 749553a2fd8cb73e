-- Users that cut an experiment's assignments into pieces of about the same size.
SELECT arrayMap(user -> toInt64(user), quantiles({levels})(user_id))
FROM assignments
WHERE experiment_id IN ({experiments}) AND {visible}
FORMAT JSONCompactEachRow
