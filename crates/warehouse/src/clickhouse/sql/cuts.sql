-- Users that cut an experiment's assignments into pieces of about the same size. They need not
-- be exact, and one that is no user at all, as where there is none, cuts nothing.
SELECT arrayFilter(
    user -> isNotNull(user),
    arrayMap(own -> accurateCastOrNull(round(own), 'Int64'), quantiles({levels})(user_id))
)
FROM assignments
WHERE experiment_id IN ({experiments}) AND {visible}
FORMAT JSONCompactEachRow
