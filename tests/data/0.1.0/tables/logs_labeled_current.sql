CREATE VIEW esk010.logs_labeled_current
(
    `row_id` String,
    `text` String,
    `created_at` DateTime64(6, 'UTC'),
    `user_id` Nullable(String),
    `session_id` Nullable(String),
    `source_domain` Nullable(String),
    `polled_at` DateTime64(6, 'UTC'),
    `label` String,
    `confidence` Nullable(Float64),
    `alternatives` Array(Tuple(
        label String,
        confidence Float64)),
    `label_version` String,
    `model` String,
    `labeled_at` DateTime64(6, 'UTC'),
    `cached` Bool
)
COMMENT 'labelstream 8e6c008ec8ed2f75'
AS WITH
    (
        SELECT (groupArray(version), groupArray(rank))
        FROM
        (
            SELECT
                version,
                if(status = 'promoted', toInt64(place), toInt64(-1)) AS rank
            FROM
            (
                SELECT
                    version,
                    tupleElement(last, 1) AS status,
                    row_number() OVER (ORDER BY tupleElement(last, 2) ASC, version ASC) AS place
                FROM
                (
                    SELECT
                        version,
                        argMax(tuple(status, promoted_at), changed_at) AS last
                    FROM esk010.label_versions
                    GROUP BY version
                )
            )
            UNION ALL
            SELECT
                '' AS version,
                toInt64(0) AS rank
        )
    ) AS ranks
SELECT
    row_id,
    argMax(_text, _rank) AS text,
    created_at,
    tupleElement(argMax(tuple(_user_id), _rank), 1) AS user_id,
    tupleElement(argMax(tuple(_session_id), _rank), 1) AS session_id,
    tupleElement(argMax(tuple(_source_domain), _rank), 1) AS source_domain,
    argMax(_polled_at, _rank) AS polled_at,
    argMax(_label, _rank) AS label,
    tupleElement(argMax(tuple(_confidence), _rank), 1) AS confidence,
    argMax(_alternatives, _rank) AS alternatives,
    argMax(_label_version, _rank) AS label_version,
    argMax(_model, _rank) AS model,
    argMax(_labeled_at, _rank) AS labeled_at,
    argMax(_cached, _rank) AS cached
FROM
(
    SELECT
        created_at,
        row_id,
        text AS _text,
        user_id AS _user_id,
        session_id AS _session_id,
        source_domain AS _source_domain,
        polled_at AS _polled_at,
        label AS _label,
        confidence AS _confidence,
        alternatives AS _alternatives,
        label_version AS _label_version,
        model AS _model,
        labeled_at AS _labeled_at,
        cached AS _cached,
        if(label_version = 'human', toUnixTimestamp64Micro(labeled_at), transform(toString(label_version), tupleElement(ranks, 1), tupleElement(ranks, 2), toInt64(0))) AS _rank
    FROM esk010.logs_labeled
    WHERE _rank >= 0
)
GROUP BY
    created_at,
    row_id
SETTINGS optimize_aggregation_in_order = 1
