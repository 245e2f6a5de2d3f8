-- Of one source only so many decisions are kept; those of before have none and make room in their turn.
ALTER TABLE decision ADD COLUMN source TEXT NOT NULL DEFAULT '';
CREATE INDEX decision_source ON decision (source);
