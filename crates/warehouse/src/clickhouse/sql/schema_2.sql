-- Users as the texts that were sent; empty for integers, and for what came before this step.
ALTER TABLE {assignments} {on_cluster} ADD COLUMN IF NOT EXISTS user_text String CODEC(ZSTD(1));
