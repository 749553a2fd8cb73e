-- The events of exposed users before their horizon, each once: of the copies of an
-- event, which share its id and its type, the least counts. An event earlier than the
-- exposure can be one of them.
    , metrics AS {metrics},
    happened AS (
        SELECT
            code,
            user_id,
            any(exposed.exposed_at) AS exposed_at,
            any(exposed.slot) AS slot,
            any(exposed.ends_at) AS ends_at,
            min((toUnixTimestamp64Micro(occurred_at), toString(event_type), reinterpretAsInt64(value))) AS event
        FROM metric_events
        INNER JOIN (
            SELECT
                experiment_id,
                user_id,
                code,
                exposed_at,
                slot,
                ends_at,
                least({data_time} + 1, greatest(exposed_at + longest, open_until)) AS horizon
            FROM judged
            INNER JOIN (SELECT code, experiment_id FROM plans) AS named USING (code)
            WHERE status = 'exposed'
        ) AS exposed USING (experiment_id, user_id)
        WHERE experiment_id IN ({experiments}) AND {visible} AND {users}
            AND toUnixTimestamp64Micro(occurred_at) < horizon
        GROUP BY code, user_id, event_id, event_type
    ),
    counted AS (
        SELECT
            code,
            user_id,
            slot,
            metric,
            part,
            retention,
            quantity,
            event.1 AS at,
            event.3 AS value,
            exposed_at,
            exposed_at + delay + since AS from_at,
            if(window < 0, ends_at, exposed_at + delay + window) AS until,
            exposed_at + least(delay, 0) AS before_to,
            before_to - period AS before_from
        FROM happened
        LEFT JOIN metrics ON happened.code = metrics.code AND happened.event.2 = metrics.event_type
        WHERE metric = 0 OR event.3 >= min_value
    )
