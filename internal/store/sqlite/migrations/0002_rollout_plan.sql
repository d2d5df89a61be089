-- A rollout's spec and plan never change and hold every host; its state changes with every host that is done.

CREATE TABLE rollout_plan (id TEXT PRIMARY KEY, spec TEXT NOT NULL, plan TEXT NOT NULL) STRICT;
INSERT INTO rollout_plan (id, spec, plan)
  SELECT id, coalesce(body -> '$.spec', ''), coalesce(body -> '$.plan', '') FROM rollout;
UPDATE rollout SET body = json_remove(body, '$.spec', '$.plan');
