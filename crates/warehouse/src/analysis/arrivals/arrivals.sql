-- What became of the events of each expected type up to the data time, each event once: of
-- the copies of an event, which share its id and its type, the least counts.
    , metrics AS {metrics},
    windows AS (
        SELECT code, event_type, groupArray((part, delay + since, delay + window, window < 0)) AS parts
        FROM metrics
        GROUP BY code, event_type
    ),
    distinct_events AS (
        SELECT
            experiment_id,
            user_id,
            toString(event_type) AS event_type,
            min(toUnixTimestamp64Micro(occurred_at)) AS at
        FROM metric_events
        WHERE experiment_id IN ({experiments}) AND {visible} AND {users}
            AND toUnixTimestamp64Micro(occurred_at) <= {data_time}
        GROUP BY experiment_id, user_id, event_type, event_id
    ),
    coded AS (
        SELECT code, user_id, event_type, at
        FROM distinct_events
        INNER JOIN (SELECT code, experiment_id FROM plans) AS named USING (experiment_id)
    ),
    expected AS (
        SELECT code, user_id, event_type, at, parts
        FROM coded
        INNER JOIN windows USING (code, event_type)
    ),
    standing AS (
        SELECT code, user_id, status, exposed_at, ends_at
        FROM judged
    ),
    arrived AS (
        SELECT code, user_id, event_type, at, parts, status, exposed_at, ends_at
        FROM expected
        LEFT JOIN standing USING (code, user_id)
    ),
    placed AS (
        SELECT
            code,
            event_type,
            user_id,
            status,
            if(
                arrayExists(part -> part.1 < 2, parts),
                arrayExists(
                    part -> part.1 < 2
                        AND at >= exposed_at + part.2
                        AND at < if(part.4, ends_at, exposed_at + part.3),
                    parts
                ),
                at >= exposed_at
            ) AS is_counted,
            NOT is_counted AND at < exposed_at AS is_before
        FROM arrived
    ),
    per_user AS (
        SELECT
            code,
            event_type,
            user_id,
            any(status) AS status,
            count() AS events,
            countIf(is_counted) AS counted,
            countIf(is_before) AS before,
            countIf(NOT is_counted AND NOT is_before) AS after
        FROM placed
        GROUP BY code, event_type, user_id
    )
SELECT
    code,
    event_type,
    sum(events),
    sumIf(counted, status = 'exposed'),
    sumIf(before, status = 'exposed'),
    sumIf(after, status = 'exposed'),
    sumIf(events, status = ''),
    sumIf(events, status IN ('crossover', 'forced', 'left_out')),
    sumIf(events, status = 'unknown'),
    countIf(status = ''),
    countIf(status = 'exposed'),
    groupArraySortedIf(5)(user_id, status = '')
FROM per_user
GROUP BY code, event_type
FORMAT JSONCompactEachRow
