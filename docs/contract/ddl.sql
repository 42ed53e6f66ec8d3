CREATE DATABASE IF NOT EXISTS `esk`;

CREATE TABLE IF NOT EXISTS `esk`.`logs_labeled` (
    `row_id` String COMMENT 'Identity of the source row: the plain id for the source table, `upload:<digest>:<n>` for files, `<digest>:<n>` for a source without an id column.',
    `text` String COMMENT 'The query, cleaned: Unicode NFKC, no control characters.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'When the source row was created, UTC.',
    `user_id` Nullable(String) COMMENT 'The user, where the source has one.',
    `session_id` Nullable(String) COMMENT 'The session, where the source has one.',
    `source_domain` LowCardinality(Nullable(String)) COMMENT 'The domain that the source table itself had noted.',
    `polled_at` DateTime64(6, 'UTC') COMMENT 'When the poller read the row, UTC.',
    `label` LowCardinality(String) COMMENT 'A domain name of the taxonomy; never anything else.',
    `confidence` Nullable(Float64) COMMENT 'Probability of the label, calibrated where `calibration` is given; null where the endpoint gives no logprobs. Of a label by the proxy: its score, by its own fit the probability that the model would give this label.',
    `alternatives` Array(Tuple(label String, confidence Float64)) COMMENT 'The other likely labels, most likely first.',
    `label_version` LowCardinality(String) COMMENT 'Which model, prompt and taxonomy decided.',
    `model` LowCardinality(String) COMMENT 'The labelling model\'s name; of a label by the proxy the model that taught it, of one by a person `human:` and the name.',
    `labeled_at` DateTime64(6, 'UTC') COMMENT 'When the label was decided, UTC.',
    `cached` Bool COMMENT 'Taken from an equal text\'s answer, without a call.',
    `confidence_raw` Nullable(Float64) COMMENT 'The confidence as the model reported it, before calibration.',
    `calibration` Nullable(Int64) COMMENT 'Generation of the version\'s calibration that `confidence` and `alternatives` went through; null: none, they are as reported.',
    `decided_by` LowCardinality(String) DEFAULT if(label_version = 'human', 'human', 'llm') COMMENT 'Who decided: `llm`, the version\'s model; `proxy`, a classifier taught by its labels and certified for the version; `human`, a person.',
    `proxy_generation` Nullable(Int64) COMMENT 'Only on labels by the proxy: its generation, counted in each label version.',
    `drawn_by` LowCardinality(Nullable(String)) COMMENT 'Only on labels of people: the queue that the row came from, `audit`, `unsure`, `search` or `disagreements`.',
    `draw_probability` Nullable(Float64) COMMENT 'Only on labels of people: the probability with which the row was drawn, null where it was not drawn at random.',
    `_topic` LowCardinality(String) COMMENT 'Kafka topic that it was stored from',
    `_topic_id` UUID COMMENT 'that topic\'s incarnation',
    `_partition` Int32 COMMENT 'its partition there',
    `_offset` Int64 COMMENT 'its offset there',
    `_writer` LowCardinality(String) COMMENT 'release of labelstream that stored it',
    `_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC',
    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1,
    PROJECTION `label_places` (
    SELECT _topic_id, _partition, intDiv(_offset, 65536), label_version, if(label_version = 'human', row_id, ''), if(label_version = 'human', created_at, toDateTime64(0, 6, 'UTC')), label_version = 'human' AND endsWith(model, ':undo'),
        min(_offset), max(_offset), groupBitmap(toUInt32(bitAnd(_offset, 65535))),
        uniqCombined(14)(created_at, row_id), count(), max(labeled_at), min(created_at), max(created_at),
        groupArrayIf(tuple(text, source_domain, label, model, labeled_at, drawn_by, draw_probability, _offset), label_version = 'human')
    GROUP BY _topic_id, _partition, intDiv(_offset, 65536), label_version, if(label_version = 'human', row_id, ''), if(label_version = 'human', created_at, toDateTime64(0, 6, 'UTC')), label_version = 'human' AND endsWith(model, ':undo')
    ),
    PROJECTION `row_times` (
    SELECT row_id, created_at ORDER BY row_id
    )
) ENGINE = ReplacingMergeTree
PRIMARY KEY (created_at, row_id, label_version)
ORDER BY (created_at, row_id, label_version, _topic_id, _partition, _offset)
SETTINGS index_granularity = 1024, min_compress_block_size = 8192, deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

CREATE TABLE IF NOT EXISTS `esk`.`logs_augmented` (
    `row_id` String COMMENT 'Identity of the source row: the plain id for the source table, `upload:<digest>:<n>` for files, `<digest>:<n>` for a source without an id column.',
    `text` String COMMENT 'The query, cleaned: Unicode NFKC, no control characters.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'When the source row was created, UTC.',
    `user_id` Nullable(String) COMMENT 'The user, where the source has one.',
    `session_id` Nullable(String) COMMENT 'The session, where the source has one.',
    `source_domain` LowCardinality(Nullable(String)) COMMENT 'The domain that the source table itself had noted.',
    `polled_at` DateTime64(6, 'UTC') COMMENT 'When the poller read the row, UTC.',
    `label` LowCardinality(String) COMMENT 'A domain name of the taxonomy; never anything else.',
    `confidence` Nullable(Float64) COMMENT 'Probability of the label, calibrated where `calibration` is given; null where the endpoint gives no logprobs. Of a label by the proxy: its score, by its own fit the probability that the model would give this label.',
    `alternatives` Array(Tuple(label String, confidence Float64)) COMMENT 'The other likely labels, most likely first.',
    `label_version` LowCardinality(String) COMMENT 'Which model, prompt and taxonomy decided.',
    `model` LowCardinality(String) COMMENT 'The labelling model\'s name; of a label by the proxy the model that taught it, of one by a person `human:` and the name.',
    `labeled_at` DateTime64(6, 'UTC') COMMENT 'When the label was decided, UTC.',
    `cached` Bool COMMENT 'Taken from an equal text\'s answer, without a call.',
    `confidence_raw` Nullable(Float64) COMMENT 'The confidence as the model reported it, before calibration.',
    `calibration` Nullable(Int64) COMMENT 'Generation of the version\'s calibration that `confidence` and `alternatives` went through; null: none, they are as reported.',
    `decided_by` LowCardinality(String) DEFAULT if(label_version = 'human', 'human', 'llm') COMMENT 'Who decided: `llm`, the version\'s model; `proxy`, a classifier taught by its labels and certified for the version; `human`, a person.',
    `proxy_generation` Nullable(Int64) COMMENT 'Only on labels by the proxy: its generation, counted in each label version.',
    `variants` Array(String) COMMENT 'Rewordings that passed the checks.',
    `rejected` Array(Tuple(text String, reason String)) COMMENT 'Rewordings that did not, with the reason.',
    `augment_model` LowCardinality(String) COMMENT 'The augmenting model\'s name.',
    `augmented_at` DateTime64(6, 'UTC') COMMENT 'When the variants were written, UTC.',
    `verify_calls` Nullable(UInt16) COMMENT 'Calls that it took to label the variants again, and reject those with another label; null where they were not verified (`AUGMENT_VERIFY`).',
    `_topic` LowCardinality(String) COMMENT 'Kafka topic that it was stored from',
    `_topic_id` UUID COMMENT 'that topic\'s incarnation',
    `_partition` Int32 COMMENT 'its partition there',
    `_offset` Int64 COMMENT 'its offset there',
    `_writer` LowCardinality(String) COMMENT 'release of labelstream that stored it',
    `_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC',
    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1,
    PROJECTION `stored_places` (
    SELECT _topic_id, _partition, intDiv(_offset, 65536), min(_offset), max(_offset), groupBitmap(toUInt32(bitAnd(_offset, 65535)))
    GROUP BY _topic_id, _partition, intDiv(_offset, 65536)
    )
) ENGINE = ReplacingMergeTree
PRIMARY KEY (created_at, row_id, label_version, augment_model)
ORDER BY (created_at, row_id, label_version, augment_model, _topic_id, _partition, _offset)
SETTINGS index_granularity = 1024, min_compress_block_size = 8192, deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';

CREATE TABLE IF NOT EXISTS `esk`.`dead_letters` (
    `row_id` String COMMENT 'The row, where the message could be read that far.',
    `step` LowCardinality(String) COMMENT 'Which step gave it up: poll, mask, label, augment or store.',
    `reason` LowCardinality(String) COMMENT 'A short, countable reason, such as `undecodable`.',
    `error` String COMMENT 'What exactly was wrong, for a person.',
    `attempts` Int64 COMMENT 'How often it was tried.',
    `failed_at` DateTime64(6, 'UTC') COMMENT 'When it was given up, UTC.',
    `topic` LowCardinality(String) COMMENT 'Origin: the topic that it was read from.',
    `partition` Int32 COMMENT 'Origin: the partition.',
    `offset` Int64 COMMENT 'Origin: the offset.',
    `payload` String COMMENT 'The received bytes, unchanged. Empty where they are too large for the topic, or hold personal data that cannot be masked: then the origin or the error says where they are.',
    `_topic` LowCardinality(String) COMMENT 'Kafka topic that it was stored from',
    `_topic_id` UUID COMMENT 'that topic\'s incarnation',
    `_partition` Int32 COMMENT 'its partition there',
    `_offset` Int64 COMMENT 'its offset there',
    `_writer` LowCardinality(String) COMMENT 'release of labelstream that stored it',
    `_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC',
    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
ORDER BY (failed_at, _topic_id, _partition, _offset)
SETTINGS index_granularity = 1024, min_compress_block_size = 8192;

CREATE TABLE IF NOT EXISTS `esk`.`label_versions` (
    `version` String COMMENT 'name of the label version',
    `model` String COMMENT 'the labelling model',
    `prompt` String COMMENT 'digest of the prompt',
    `taxonomy` String COMMENT 'digest of the taxonomy',
    `mode` String COMMENT 'how the label is asked for',
    `status` LowCardinality(String) COMMENT 'promoted, trial or retired',
    `promoted_at` DateTime64(6, 'UTC') COMMENT 'the newest promoted version of a row is its current one',
    `created_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when the version was first registered',
    `changed_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts',
    `live` Bool DEFAULT false COMMENT 'a trial that labels live rows: shown where nothing else is'
) ENGINE = MergeTree
ORDER BY (version, changed_at);

CREATE TABLE IF NOT EXISTS `esk`.`audit_log` (
    `at` DateTime64(6, 'UTC') COMMENT 'When it ended, UTC.',
    `who` String COMMENT 'Name of the API key; `local` where none is asked for.',
    `address` LowCardinality(String) COMMENT 'Address that the request came from.',
    `action` LowCardinality(String) COMMENT 'Such as `sign-in`, `letter-retry`, `replay-pause`, `version-promote`, `review-label`.',
    `target` String COMMENT 'What it was done to: a row, a replay, a version, a letter.',
    `result` LowCardinality(String) COMMENT '`done`, or the reason why it was not.',
    `detail` String COMMENT 'What else a person may want to know, such as the label.'
) ENGINE = MergeTree
ORDER BY at;

CREATE TABLE IF NOT EXISTS `esk`.`review_answers` (
    `row_id` String COMMENT 'The row.',
    `created_at` DateTime64(6, 'UTC') COMMENT 'The row\'s time, UTC.',
    `text` String COMMENT 'The row\'s text.',
    `source_domain` LowCardinality(Nullable(String)) COMMENT 'The domain that the source table itself had noted.',
    `answer` LowCardinality(String) COMMENT '`not-sure`; `no-label`, where no label of the taxonomy fits; `taken-back`, where the answer before it no longer stands.',
    `who` LowCardinality(String) COMMENT 'Name of the reviewer\'s API key; `local` where none is asked for.',
    `answered_at` DateTime64(6, 'UTC') COMMENT 'When, UTC. Of several answers of one person the last counts.',
    `drawn_by` LowCardinality(Nullable(String)) COMMENT 'The queue that the row came from, as in `logs_labeled`.',
    `draw_probability` Nullable(Float64) COMMENT 'The probability with which the row was drawn, null where it was not drawn at random.'
) ENGINE = MergeTree
ORDER BY (created_at, row_id);

CREATE TABLE IF NOT EXISTS `esk`.`erasures` (
    `kind` LowCardinality(String) COMMENT 'user or row',
    `digest` String COMMENT 'keyed hash of the id',
    `key` String COMMENT 'what it was hashed with: a salt, or a generation of PRIVACY_SECRET',
    `until` DateTime64(6, 'UTC') COMMENT 'rows up to this time are erased, UTC',
    `nonce` String COMMENT 'while it goes on: what the ids of what is left are made with',
    `at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts'
) ENGINE = ReplacingMergeTree(at)
ORDER BY (kind, digest, key);

CREATE TABLE IF NOT EXISTS `esk`.`schema_migrations` (
    `version` UInt32 COMMENT 'the schema version that the migration leads to; 0.1.0 wrote version 1',
    `name` String COMMENT 'what it does',
    `state` LowCardinality(String) COMMENT 'begun, exchanged or done',
    `at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when that was'
) ENGINE = MergeTree
ORDER BY (version, at);

CREATE VIEW IF NOT EXISTS `esk`.`logs_labeled_current` AS
WITH (
    SELECT (groupArray(version), groupArray(place))
    FROM (
        SELECT version,
            multiIf(
                status = 'promoted', least(toInt64(number), 65534),
                status = 'trial' AND live, toInt64(0),
                toInt64(-1)
            ) AS place
        FROM (
            SELECT version, tupleElement(last, 1) AS status, tupleElement(last, 3) AS live,
                row_number() OVER (ORDER BY tupleElement(last, 2), version) AS number
            FROM (
                SELECT version, argMax(tuple(status, promoted_at, live), changed_at) AS last
                FROM `esk`.`label_versions`
                GROUP BY version
            )
        )
        UNION ALL SELECT '' AS version, toInt64(0) AS place
    )
) AS places
SELECT
    `row_id`,
    argMax(`_text`, _rank) AS `text`,
    `created_at`,
    tupleElement(argMax(tuple(`_user_id`), _rank), 1) AS `user_id`,
    tupleElement(argMax(tuple(`_session_id`), _rank), 1) AS `session_id`,
    tupleElement(argMax(tuple(`_source_domain`), _rank), 1) AS `source_domain`,
    argMax(`_polled_at`, _rank) AS `polled_at`,
    argMax(`_label`, _rank) AS `label`,
    tupleElement(argMax(tuple(`_confidence`), _rank), 1) AS `confidence`,
    argMax(`_alternatives`, _rank) AS `alternatives`,
    argMax(`_label_version`, _rank) AS `label_version`,
    argMax(`_model`, _rank) AS `model`,
    argMax(`_labeled_at`, _rank) AS `labeled_at`,
    argMax(`_cached`, _rank) AS `cached`,
    tupleElement(argMax(tuple(`_confidence_raw`), _rank), 1) AS `confidence_raw`,
    tupleElement(argMax(tuple(`_calibration`), _rank), 1) AS `calibration`,
    argMax(`_decided_by`, _rank) AS `decided_by`,
    tupleElement(argMax(tuple(`_proxy_generation`), _rank), 1) AS `proxy_generation`
FROM (
    SELECT
        created_at,
        row_id,
        `text` AS `_text`,
        `user_id` AS `_user_id`,
        `session_id` AS `_session_id`,
        `source_domain` AS `_source_domain`,
        `polled_at` AS `_polled_at`,
        `label` AS `_label`,
        `confidence` AS `_confidence`,
        `alternatives` AS `_alternatives`,
        `label_version` AS `_label_version`,
        `model` AS `_model`,
        `labeled_at` AS `_labeled_at`,
        `cached` AS `_cached`,
        `confidence_raw` AS `_confidence_raw`,
        `calibration` AS `_calibration`,
        `decided_by` AS `_decided_by`,
        `proxy_generation` AS `_proxy_generation`,
        if(
            label_version = 'human',
            toInt64(65535),
            transform(toString(label_version), tupleElement(places, 1), tupleElement(places, 2), toInt64(0))
        ) AS _place,
        bitOr(bitShiftLeft(toUInt128(toUInt16(_place)), 112), bitOr(bitShiftLeft(toUInt128(toUInt64(toUnixTimestamp64Micro(labeled_at) + 2208988800000000)), 56), toUInt128(toUInt64(_offset)))) AS _rank
    FROM `esk`.`logs_labeled`
    WHERE _place >= 0
)
GROUP BY created_at, row_id
SETTINGS optimize_aggregation_in_order = 1
COMMENT 'labelstream 1d7ffe504938f5f9';
