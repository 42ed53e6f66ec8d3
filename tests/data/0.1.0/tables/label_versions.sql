CREATE TABLE esk010.label_versions
(
    `version` String COMMENT 'name of the label version',
    `model` String COMMENT 'the labelling model',
    `prompt` String COMMENT 'digest of the prompt',
    `taxonomy` String COMMENT 'digest of the taxonomy',
    `mode` String COMMENT 'how the label is asked for',
    `status` LowCardinality(String) COMMENT 'promoted, trial or retired',
    `promoted_at` DateTime64(6, 'UTC') COMMENT 'the newest promoted version of a row is its current one',
    `created_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when the version was first registered',
    `changed_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts'
)
ENGINE = MergeTree
ORDER BY (version, changed_at)
SETTINGS index_granularity = 8192
