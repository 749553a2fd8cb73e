ALTER TABLE assignments {on_cluster} ADD COLUMN IF NOT EXISTS user_text String;
