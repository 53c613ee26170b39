-- Version 2: handlers that are held back stay so across restarts. The release
-- before does not know the column and goes on as if none were.

ALTER TABLE handlers ADD COLUMN paused_at INTEGER;
