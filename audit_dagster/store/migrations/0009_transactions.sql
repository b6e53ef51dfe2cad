-- What arrived since the last look, in whatever order it was committed: rows of transactions that were open then, or
-- began later.

SET LOCAL ROLE audit_owner;

-- changed_days, new_successes
CREATE INDEX audit_logs_transaction ON audit_logs (transaction_id);
