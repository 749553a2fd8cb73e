-- Published rows have another meaning: metric events are copies where they share the event
-- type as well as the id. The next run computes every experiment anew.
UPDATE experiments SET recompute_at = 0;
