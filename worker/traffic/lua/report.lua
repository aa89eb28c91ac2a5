-- Tell the breaker how a call went. KEYS: breaker.
-- ARGV: "ok", "failed" or "unknown", is_probe, failures in a row that open it, share of failures
-- that opens it, calls of which a share is taken at least, length of the window of that share, how
-- long it opens first, at most, good probes that close it.
-- Returns how long it opens by this report (microseconds, 0 if it does not), 1 if this closed it.

local now, breaker, is_probe = clock(), KEYS[1], ARGV[2] == "1"
local state = redis.call("HMGET", breaker, "until", "trips", "total", "since", "total_then", "failed")
local is_closed = number(state[1]) == 0

if ARGV[1] == "unknown" then
  if is_probe and not is_closed and number(state[1]) <= now then
    redis.call("HINCRBY", breaker, "probing", -1)  -- another one may try
  end
  return {0, 0}
end

if ARGV[1] == "ok" then
  if is_closed then
    redis.call("HDEL", breaker, "fails")
  elseif is_probe and number(state[1]) <= now then
    redis.call("HINCRBY", breaker, "probing", -1)
    if redis.call("HINCRBY", breaker, "good", 1) >= tonumber(ARGV[9]) then
      redis.call("DEL", breaker)
      return {0, 1}
    end
  end
  return {0, 0}
end

local total, since = number(state[3]), number(state[4])
local total_then, failed = number(state[5]), number(state[6])
if is_closed then
  if now - since > tonumber(ARGV[6]) then since, total_then, failed = now, total - 1, 0 end
  failed = failed + 1
  local in_a_row = redis.call("HINCRBY", breaker, "fails", 1)
  redis.call("HSET", breaker, "since", text(since), "total_then", total_then, "failed", failed)
  local calls = total - total_then
  local is_share = calls >= tonumber(ARGV[5]) and failed >= calls * tonumber(ARGV[4])
  if in_a_row < tonumber(ARGV[3]) and not is_share then return {0, 0} end
elseif not is_probe or number(state[1]) > now then
  return {0, 0}  -- a call from before it opened, or beside another probe that failed
end

local trips = number(state[2]) + 1
local lasts = math.min(tonumber(ARGV[8]), ARGV[7] * 2 ^ (trips - 1))
redis.call("DEL", breaker)
redis.call("HSET", breaker, "until", text(now + lasts), "trips", trips, "total", total)
-- Without traffic nobody probes: forgotten, it is closed.
redis.call("PEXPIRE", breaker, math.ceil(lasts / 1000) + 600000)
return {lasts, 0}
