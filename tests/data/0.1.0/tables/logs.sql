CREATE TABLE esk010.logs
(
    `id` UInt64,
    `query_text` String,
    `created_at` DateTime64(3, 'UTC'),
    `user_id` Nullable(String),
    `session_id` Nullable(String),
    `domain` LowCardinality(Nullable(String))
)
ENGINE = MergeTree
ORDER BY (created_at, id)
SETTINGS index_granularity = 8192
