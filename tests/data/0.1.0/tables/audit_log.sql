CREATE TABLE esk010.audit_log
(
    `at` DateTime64(6, 'UTC') COMMENT 'When it ended, UTC.',
    `who` String COMMENT 'Name of the API key; `local` where none is asked for.',
    `address` LowCardinality(String) COMMENT 'Address that the request came from.',
    `action` LowCardinality(String) COMMENT 'Such as `sign-in`, `letter-retry`, `replay-pause`, `version-promote`, `review-label`.',
    `target` String COMMENT 'What it was done to: a row, a replay, a version, a letter.',
    `result` LowCardinality(String) COMMENT '`done`, or the reason why it was not.',
    `detail` String COMMENT 'What else a person may want to know, such as the label.'
)
ENGINE = MergeTree
ORDER BY at
SETTINGS index_granularity = 8192
