-- Join a flight: take the answer of one that has landed, learn that one is under way, or start it.
-- KEYS: answer, lease, then those of `admit`. ARGV: token, lease (ms), oldest answer that will do
-- (ms, on the workers' clock), then those of `admit`.
-- Returns {"landed", answer} or {"flying"} or what `admit` returns.

local answer = redis.call("LINDEX", KEYS[1], 0)
local landed_at = answer and tonumber(string.match(answer, "^(%d+):"))
if landed_at and landed_at >= tonumber(ARGV[3]) then return {"landed", answer} end
if redis.call("EXISTS", KEYS[2]) == 1 then return {"flying"} end

local admitted = admit(3, 4)
if admitted[1] == "go" then
  redis.call("SET", KEYS[2], ARGV[1], "PX", math.ceil(ARGV[2] + admitted[2] / 1000))
  redis.call("DEL", KEYS[1])  -- an old answer would wake the passengers of this flight at once
end
return admitted
