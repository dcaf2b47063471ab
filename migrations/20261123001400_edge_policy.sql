-- What an application changes at the edge besides its origins and path classes. The bounds are those of the models in
-- shared/contract/src/model; a test holds the two together.

-- A whole number from `lowest` to `highest`, as JSON has them.
CREATE FUNCTION is_whole(value jsonb, lowest numeric, highest numeric) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'number'
                THEN value::numeric BETWEEN lowest AND highest AND value::numeric = trunc(value::numeric) ELSE false END;

-- The limits of a contract, where they differ from the plan's.
CREATE FUNCTION is_edge_limits(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'object' THEN (
        SELECT coalesce(bool_and(CASE field.key
            WHEN 'requestsPerSecond' THEN is_whole(field.value, 1, 1000000)
            WHEN 'burst' THEN is_whole(field.value, 1, 10000000)
            WHEN 'inFlight' THEN is_whole(field.value, 1, 1000000)
            WHEN 'bodyBytes' THEN is_whole(field.value, 0, 1099511627776)
            WHEN 'requestsPerMonth' THEN is_whole(field.value, 1, 1000000000000000)
            ELSE false END), true)
        FROM jsonb_each(value) AS field) ELSE false END;

-- {"enabled": …, "rules": [{"pattern": …, "ttlSeconds": … | "bypass": true}]}
CREATE FUNCTION is_cache_rule(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'object'
                THEN jsonb_typeof(value -> 'pattern') IS NOT DISTINCT FROM 'string'
                     AND value ->> 'pattern' ~ '^/[!-~]*$' AND octet_length(value ->> 'pattern') <= 256
                     AND CASE WHEN value ? 'ttlSeconds'
                              THEN is_whole(value -> 'ttlSeconds', 1, 604800) AND NOT value @> '{"bypass": true}'
                              ELSE value @> '{"bypass": true}' END
                     AND value - ARRAY['pattern', 'ttlSeconds', 'bypass'] = '{}'
                ELSE false END;
CREATE FUNCTION is_cache_policy(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'object'
                THEN coalesce(jsonb_typeof(value -> 'enabled'), 'boolean') = 'boolean'
                     AND value - ARRAY['enabled', 'rules'] = '{}'
                     AND CASE coalesce(jsonb_typeof(value -> 'rules'), 'absent')
                             WHEN 'absent' THEN true
                             WHEN 'array' THEN jsonb_array_length(value -> 'rules') <= 32 AND (
                                 SELECT coalesce(bool_and(is_cache_rule(rule)), true)
                                 FROM jsonb_array_elements(value -> 'rules') AS rule)
                             ELSE false END
                ELSE false END;

-- {"allMs": …, "tags": {"tag": ms}}: what was stored at or before is not used.
CREATE FUNCTION is_cache_purges(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'object'
                THEN (NOT value ? 'allMs' OR is_whole(value -> 'allMs', 0, 9007199254740991))
                     AND value - ARRAY['allMs', 'tags'] = '{}'
                     AND CASE coalesce(jsonb_typeof(value -> 'tags'), 'absent')
                             WHEN 'absent' THEN true
                             WHEN 'object' THEN (
                                 SELECT count(*) <= 64 AND coalesce(bool_and(is_whole(tag.value, 0, 9007199254740991)
                                     AND tag.key ~ '^[!-+\--~]{1,128}$'), true)
                                 FROM jsonb_each(value -> 'tags') AS tag)
                             ELSE false END
                ELSE false END;

-- A host name as it is kept everywhere: lower case, no dot at the end, at most 253 bytes, labels of at most 63.
CREATE FUNCTION is_host_name(value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN octet_length(value) <= 253
           AND value ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
-- A host name and a port.
CREATE FUNCTION is_service_address(value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value ~ ':[1-9][0-9]{0,4}$'
                THEN is_host_name(split_part(value, ':', 1)) AND split_part(value, ':', 2)::integer <= 65535
                     AND split_part(value, ':', 3) = ''
                ELSE false END;

ALTER TABLE applications
    -- Secret keys may come with the marks of a browser.
    ADD COLUMN secret_from_browsers boolean NOT NULL DEFAULT false,
    ADD COLUMN edge_limits          jsonb   CHECK (edge_limits IS NULL OR is_edge_limits(edge_limits)),
    ADD COLUMN cache_policy         jsonb   NOT NULL DEFAULT '{}' CHECK (is_cache_policy(cache_policy)),
    ADD COLUMN cache_purges         jsonb   NOT NULL DEFAULT '{}' CHECK (is_cache_purges(cache_purges)),
    -- `name:port` of a headless Service that the edge resolves, beside `endpoints`.
    ADD COLUMN instance_service     text    CHECK (instance_service IS NULL OR is_service_address(instance_service)),
    -- {"serverName": …}: the instances speak TLS. NULL: they do not.
    ADD COLUMN instance_tls         jsonb   CHECK (jsonb_typeof(instance_tls) = 'object'
        AND instance_tls ? 'serverName' AND instance_tls - 'serverName' = '{}'
        AND jsonb_typeof(instance_tls -> 'serverName') = 'string'
        AND is_host_name(instance_tls ->> 'serverName'));

CREATE OR REPLACE FUNCTION applications_edge_changed(o applications, n applications) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (o.status, o.activated_at IS NULL, o.endpoints, o.base_path, o.edge_credentials, o.origins, o.path_policy,
            o.quota_exhausted, o.environment, o.region, o.strict_seconds, o.secret_from_browsers, o.edge_limits,
            o.cache_policy, o.cache_purges, o.instance_service, o.instance_tls, o.version)
        IS DISTINCT FROM
           (n.status, n.activated_at IS NULL, n.endpoints, n.base_path, n.edge_credentials, n.origins, n.path_policy,
            n.quota_exhausted, n.environment, n.region, n.strict_seconds, n.secret_from_browsers, n.edge_limits,
            n.cache_policy, n.cache_purges, n.instance_service, n.instance_tls, n.version);

CREATE OR REPLACE VIEW edge_apps AS
SELECT a.id, a.workspace_id, a.epoch, a.version, a.environment, a.region, a.status,
       a.activated_at IS NOT NULL AS activated, a.endpoints, a.base_path, a.edge_credentials, a.origins, a.path_policy,
       a.quota_exhausted, w.plan, w.status AS workspace_status, a.strict_seconds, a.secret_from_browsers, a.edge_limits,
       a.cache_policy, a.cache_purges, a.instance_service, a.instance_tls
FROM applications a JOIN workspaces w ON w.id = a.workspace_id;
