-- Join identical requests: take the shared answer, learn that one is on its way, or lead.
-- KEYS: answer, lease, then those of `admit`. ARGV: token, lease (ms), oldest answer that will do
-- (microseconds, on the workers' clock), then those of `admit`.
-- Returns {"shared", answer} or {"in progress"} or what `admit` returns.

-- Milliseconds: 30 s for a call, 5 s to say so, and the wait for its turn. One that lasts for longer was
-- taken before the clock was set back, or by the Redis that failed over to this one. Had its holder died,
-- all who ask the same would wait for as long as the clocks are apart.
local LONGEST_LEASE = 35000 + LONGEST_WAIT / 1000

local answer = redis.call("LINDEX", KEYS[1], 0)
local published_at = answer and tonumber(string.match(answer, "^(%d+):"))
if published_at and published_at >= tonumber(ARGV[3]) then return {"shared", answer} end
local leased = redis.call("PTTL", KEYS[2])
if leased >= 0 and leased <= LONGEST_LEASE then return {"in progress"} end

local admitted = admit(3, 4)
if admitted[1] == "go" then
  redis.call("SET", KEYS[2], ARGV[1], "PX", math.ceil(ARGV[2] + admitted[2] / 1000))
  redis.call("DEL", KEYS[1])  -- an old answer would wake at once requests that await this one
end
return admitted
