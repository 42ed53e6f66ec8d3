CREATE TABLE esk010.logs_augmented
(
    `row_id` String COMMENT 'Identity of the source row: the plain id for the source table, `upload:<digest>:<n>` for files, `<digest>:<n>` for a source without an id column.',
    `text` String COMMENT 'The query, cleaned: Unicode NFKC, no control characters.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'When the source row was created, UTC.',
    `user_id` Nullable(String) COMMENT 'The user, where the source has one.',
    `session_id` Nullable(String) COMMENT 'The session, where the source has one.',
    `source_domain` LowCardinality(Nullable(String)) COMMENT 'The domain that the source table itself had noted.',
    `polled_at` DateTime64(6, 'UTC') COMMENT 'When the poller read the row, UTC.',
    `label` LowCardinality(String) COMMENT 'A domain name of the taxonomy; never anything else.',
    `confidence` Nullable(Float64) COMMENT 'Probability of the label, null where the endpoint gives no logprobs.',
    `alternatives` Array(Tuple(
        label String,
        confidence Float64)) COMMENT 'The other likely labels, most likely first.',
    `label_version` LowCardinality(String) COMMENT 'Which model, prompt and taxonomy decided.',
    `model` LowCardinality(String) COMMENT 'The labelling model\'s name.',
    `labeled_at` DateTime64(6, 'UTC') COMMENT 'When the label was decided, UTC.',
    `cached` Bool COMMENT 'Taken from an equal text\'s answer, without a call.',
    `variants` Array(String) COMMENT 'Rewordings that passed the checks.',
    `rejected` Array(Tuple(
        text String,
        reason String)) COMMENT 'Rewordings that did not, with the reason.',
    `augment_model` LowCardinality(String) COMMENT 'The augmenting model\'s name.',
    `augmented_at` DateTime64(6, 'UTC') COMMENT 'When the variants were written, UTC.',
    `_topic` LowCardinality(String) COMMENT 'Kafka topic that it was stored from',
    `_topic_id` UUID COMMENT 'that topic\'s incarnation',
    `_partition` Int32 COMMENT 'its partition there',
    `_offset` Int64 COMMENT 'its offset there',
    `_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC',
    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (created_at, row_id, label_version, augment_model)
SETTINGS index_granularity = 8192
