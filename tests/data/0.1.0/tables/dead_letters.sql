CREATE TABLE esk010.dead_letters
(
    `row_id` String COMMENT 'The row, where the message could be read that far.',
    `step` LowCardinality(String) COMMENT 'Which step gave it up: poll, label, augment or store.',
    `reason` LowCardinality(String) COMMENT 'A short, countable reason, such as `undecodable`.',
    `error` String COMMENT 'What exactly was wrong, for a person.',
    `attempts` Int64 COMMENT 'How often it was tried.',
    `failed_at` DateTime64(6, 'UTC') COMMENT 'When it was given up, UTC.',
    `topic` LowCardinality(String) COMMENT 'Origin: the topic that it was read from.',
    `partition` Int32 COMMENT 'Origin: the partition.',
    `offset` Int64 COMMENT 'Origin: the offset.',
    `payload` String COMMENT 'The received bytes, unchanged. Empty where they are too large for the topic: then the origin says where they are.',
    `_topic` LowCardinality(String) COMMENT 'Kafka topic that it was stored from',
    `_topic_id` UUID COMMENT 'that topic\'s incarnation',
    `_partition` Int32 COMMENT 'its partition there',
    `_offset` Int64 COMMENT 'its offset there',
    `_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC',
    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (failed_at, _topic_id, _partition, _offset)
SETTINGS index_granularity = 8192
