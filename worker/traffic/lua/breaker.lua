-- Two breakers stand before each call: one of its client alone, one that all clients share. Each is
-- a hash; while `until` is 0 it is closed, before that moment open, after it half open.
--   trips         how often in a row it has opened
--   first, latest when it did so, the first and the last time
--   row           who has failed since the last good answer
--   window        who has failed since the moment `since`, when `total` was `total_then`
--   total         calls let through
--   probing       calls let through that are under way, while it is not closed …
--   probing_until … and when the processes that make them are taken for dead
--   good, bad     how many probes were, and who failed, since it is half open
--   slow          whether the last one that failed took its time

local PROBE_LASTS = 35000000  -- longer than any call; then its process is taken for dead

local function look(key, now)
  local found =
    redis.call("HMGET", key, "until", "trips", "probing", "probing_until", "row", "slow", "latest")
  local ends = number(found[1])
  -- It opened at a moment to come: the clock was set back since. Probes find out whether it may close.
  if number(found[7]) > now then ends = math.min(ends, now) end
  return {
    key = key, ends = ends, trips = number(found[2]), row = found[5], is_slow = found[6] == "1",
    is_closed = ends == 0, is_open = ends > now, is_half_open = ends > 0 and ends <= now,
    probing = ahead(found[4], now, PROBE_LASTS) > 0 and number(found[3]) or 0,
  }
end

-- Count a call. Returns of which opening it is a probe, 0 if of none.
local function let_through(breaker, probing_until)
  redis.call("HINCRBY", breaker.key, "total", 1)
  if breaker.is_closed then return 0 end
  redis.call("HSET", breaker.key, "probing", breaker.probing + 1, "probing_until", probing_until)
  return breaker.trips
end
