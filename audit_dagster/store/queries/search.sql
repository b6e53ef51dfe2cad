-- The newest operations that have a text somewhere in what people write and read, in upper or lower case.
-- text: text, text_in_json: text, as it stands inside a JSON text, tool_name: text or null (all tools), limit: integer
SELECT *
FROM audit_logs
WHERE (%(tool_name)s::text IS NULL OR tool_name = %(tool_name)s)
  AND (strpos(lower(concat_ws(chr(10), tool_name, operation, user_name)), lower(%(text)s::text)) > 0
       OR strpos(lower(note), lower(%(text)s)) > 0
       OR strpos(lower(error_message), lower(%(text)s)) > 0
       OR strpos(lower(parameters::text), lower(%(text_in_json)s::text)) > 0
       OR strpos(lower(results::text), lower(%(text_in_json)s)) > 0)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s::bigint
