-- Join identical requests: take the shared answer, learn that one is on its way, or lead.
-- KEYS: answer, lease, then those of `admit`. ARGV: token, lease (ms), oldest answer that will do
-- (microseconds, on the workers' clock), then those of `admit`.
-- Returns {"shared", answer} or {"in progress"} or what `admit` returns.

local answer = redis.call("LINDEX", KEYS[1], 0)
local published_at = answer and tonumber(string.match(answer, "^(%d+):"))
if published_at and published_at >= tonumber(ARGV[3]) then return {"shared", answer} end
if redis.call("EXISTS", KEYS[2]) == 1 then return {"in progress"} end

local admitted = admit(3, 4)
if admitted[1] == "go" then
  redis.call("SET", KEYS[2], ARGV[1], "PX", math.ceil(ARGV[2] + admitted[2] / 1000))
  redis.call("DEL", KEYS[1])  -- an old answer would wake at once requests that await this one
end
return admitted
