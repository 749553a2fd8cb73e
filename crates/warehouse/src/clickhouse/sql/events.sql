-- Events of one kind in the order of the tables, which costs the server no sorting; those of
-- one user at one time are in the order of their content.
SELECT experiment_id, user_id, {time}, {name}, {value}, event_id{texts}
FROM {table}
WHERE experiment_id IN ({experiments}) AND {visible} AND {users}{condition}
ORDER BY experiment_id, user_id, {time}, {name}, {order_value}, event_id
SETTINGS {settings}
FORMAT RowBinary
