-- Which steps of the schema were taken. A step may be taken twice: each is
-- written so that the second time changes nothing.
CREATE TABLE IF NOT EXISTS schema_versions {on_cluster} (
    version    UInt32,
    trialog    String,
    applied_at DateTime DEFAULT now()
) ENGINE = {engine}
ORDER BY version
