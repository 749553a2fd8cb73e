-- The users who count: one variant, none forced, exposed by their first assignment within the
-- dates of the experiment. `window_micros` is the conversion window.
CREATE OR REPLACE TABLE exposed AS
SELECT user_id, min(variant) AS variant, epoch_us(min(assigned_at)) AS micros, arg_min(context, (assigned_at, event_fingerprint)) AS context
FROM assignments
GROUP BY user_id
HAVING count(DISTINCT variant) = 1 AND NOT bool_or(coalesce(forced, false));

CREATE OR REPLACE TABLE counted AS
SELECT DISTINCT exposed.user_id, variant, exposed.micros AS exposed_at, event_type, event_fingerprint AS id, epoch_us(timestamp) AS micros, value
FROM metrics JOIN exposed USING (user_id)
WHERE epoch_us(timestamp) >= exposed.micros;
