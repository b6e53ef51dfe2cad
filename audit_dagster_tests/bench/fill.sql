-- Operations as a lab's tools leave them: `rows` of them, `per_day` a day, the last one at `until`.
-- rows, per_day: integer, until: timestamptz
INSERT INTO audit_logs (
    timestamp, operation_id, tool_name, operation, user_name, git_branch, git_commit_hash, git_dirty,
    parameters, results, duration_seconds, success, error_message, note, command, working_directory, context,
    entry_sha256
)
SELECT %(until)s::timestamptz - (%(rows)s::integer - n) * interval '1 day' / %(per_day)s::integer,
       md5(n::text)::uuid,
       tool,
       (ARRAY['extract', 'parse', 'validate', 'visualize'])[1 + hash / 7 %% 4],
       (ARRAY['ada', 'grace', 'katherine', 'mary'])[1 + hash / 11 %% 4],
       'main',
       substr(md5((n / 500)::text) || md5((n / 500 + 1)::text), 1, 40),
       hash %% 10 = 0,
       jsonb_build_object(
           'project', 'Winter Turf - v3', 'start_date', day, 'end_date', day, 'node_id', jsonb_build_array(site, site + 1),
           'output_format', 'csv', 'resample', hash %% 60 || 'min', 'db_password', '${SECRET:DB_PASSWORD}'
       ),
       CASE WHEN failed THEN '{}' ELSE jsonb_build_object(
           'records_extracted', hash %% 100000, 'output_file', 'data/' || day || '_site_' || site || '.csv',
           'missing_values', hash %% 40, 'mean_temperature', (hash %% 4000) / 100.0
       ) END,
       (hash %% 100000) / 1000.0,
       NOT failed,
       CASE WHEN failed THEN 'ConnectionError: the logger of site ' || site || ' did not answer within 30 s' END,
       CASE WHEN hash %% 3 = 0 THEN 'Export for the monthly report, site ' || site || ' <20 °C & up>' END,
       jsonb_build_array(
           'python3', '/home/ada/rtgs/tools/' || tool || '.py', '--project', 'Winter Turf - v3',
           '--start-date', day, '--end-date', day, '--node-id', site::text, '--output-format', 'csv'
       ),
       '/home/ada/rtgs',
       jsonb_build_object(
           'hostname', 'lab-' || hash %% 5, 'platform', 'Linux-6.1.0-x86_64', 'python_version', '3.11.2',
           'source', 'Manual/Local', 'process_id', md5((n / 3)::text),
           'git', jsonb_build_object('root', '/home/ada/rtgs')
       ),
       md5(n::text) || md5(n::text || 'sha')
FROM generate_series(1, %(rows)s::integer) AS n,
     LATERAL (SELECT abs(hashint4(n) %% 1000000) AS hash) AS hashed,
     LATERAL (
         SELECT hash %% 20 = 0 AS failed,
                hash %% 300 AS site,
                (date '2023-01-01' + hash %% 700)::text AS day,
                (ARRAY['sensing-data', 'gridded-data', 'visualization', 'data-parser', 'device-configuration',
                       'error-analysis', 'agricultural-modeling', 'mcp-server'])[1 + hash / 3 %% 8] AS tool
     ) AS made
