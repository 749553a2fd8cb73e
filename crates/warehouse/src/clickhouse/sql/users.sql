-- What the assignments of each user come to.
--
-- Of the copies of an event the least counts. Then those within the experiment's
-- bounds are looked at: the least is the exposure. `place` is where a variant
-- stands among the expected ones, odd for those and even between them. Whose bucket is
-- left out is left out whole. A slot is a variant in a cell.
WITH
    plans AS {plans},
    assigned AS (
        SELECT
            code,
            user_id,
            event_id,
            any(plans.starts_at) AS starts_at,
            any(plans.ends_at) AS ends_at,
            any(plans.exposed_from) AS exposed_from,
            any(plans.exposed_to) AS exposed_to,
            any(plans.longest) AS longest,
            any(plans.open_until) AS open_until,
            any(plans.salt) AS salt,
            any(plans.left_out_from) AS left_out_from,
            any(plans.left_out_to) AS left_out_to,
            any(length(plans.variants)) AS n_variants,
            {user_text} AS text,
            min((
                toUnixTimestamp64Micro(assigned_at),
                multiIf(
                    (arrayFirstIndex(own -> own >= variant, variants) AS at) = 0, toInt32(2 * length(variants)),
                    variants[at] = variant, toInt32(2 * at - 1),
                    toInt32(2 * at - 2)
                ),
                forced,
                {tag},
                {key_values}
            )) AS least
        FROM assignments
        INNER JOIN plans USING (experiment_id)
        WHERE experiment_id IN ({experiments}) AND {visible} AND {users}
            AND toUnixTimestamp64Micro(assigned_at) <= {data_time}
            AND NOT has(ignored, variant)
        GROUP BY code, user_id, event_id
    ),
    users AS (
        SELECT
            code,
            user_id,
            any(ends_at) AS ends_at,
            any(exposed_from) AS exposed_from,
            any(exposed_to) AS exposed_to,
            any(longest) AS longest,
            any(open_until) AS open_until,
            any(salt) AS salt,
            any(left_out_from) AS left_out_from,
            any(left_out_to) AS left_out_to,
            any(n_variants) AS n_variants,
            minIf(text, text <> '') AS least_text,
            minIf((least.1, least.2, least.3, event_id, least.4, least.5), is_within) AS first,
            maxIf(least.3, is_within) AS forced,
            minIf(least.2, is_within) <> maxIf(least.2, is_within) AS crossover
        FROM (SELECT *, least.1 >= starts_at AND least.1 < ends_at AS is_within FROM assigned)
        GROUP BY code, user_id
        HAVING max(is_within)
    ),
    judged AS (
        SELECT
            code,
            user_id,
            first.1 AS exposed_at,
            toUInt32({cell}) AS cell,
            toUInt32(cell * n_variants + intDiv(first.2, 2)) AS slot,
            first.6 AS key_values,
            ends_at,
            longest,
            open_until,
            murmurHash3_32(concat(if(least_text = '', toString(user_id), least_text), ':', salt)) % {n_buckets} AS bucket,
            multiIf(bucket >= left_out_from AND bucket < left_out_to, 'left_out', forced > 0, 'forced', first.2 % 2 = 0, 'unknown', crossover, 'crossover', 'exposed') AS status
        FROM users
        WHERE first.5 % 2 = 1 AND exposed_at >= exposed_from AND exposed_at < exposed_to
    )
