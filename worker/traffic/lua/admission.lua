-- May one call be made to Mosaic now? Breaker, pauses and budgets are asked in one step, so that
-- all processes decide as one. Nothing is written unless the answer is yes.

-- The keys from `key` on are the breaker, the pauses, the cells; the arguments from `argument` on:
-- how many pauses, how many probes at a time, how long a probe may last, how long the caller would
-- wait for its turn, then interval and tolerance of each cell.
-- Returns {"go", wait, is_probe, fails} or {"held", why, retry_after}.
local function admit(key, argument)
  local now, breaker = clock(), KEYS[key]
  local first_cell = key + 1 + ARGV[argument]
  local probes, probe_lasts = number(ARGV[argument + 1]), number(ARGV[argument + 2])
  local patience = number(ARGV[argument + 3])

  local state = redis.call("HMGET", breaker, "until", "probing", "probing_until", "fails")
  local open_until, probing, probing_until = number(state[1]), number(state[2]), number(state[3])
  if open_until > now then return {"held", "breaker", open_until - now} end
  local is_half_open = open_until > 0
  if probing_until <= now then probing = 0 end  -- whoever was probing has died
  if is_half_open and probing >= probes then return {"held", "probing", 1000000} end

  for _, moment in ipairs(redis.call("MGET", unpack(KEYS, key + 1, first_cell - 1))) do
    if number(moment) > now then return {"held", "pause", number(moment) - now} end
  end

  -- GCRA: a cell holds the moment at which its budget will be whole again.
  local wait, cells = 0, redis.call("MGET", unpack(KEYS, first_cell))
  for index, moment in ipairs(cells) do
    local tolerance = number(ARGV[argument + 3 + 2 * index])
    local whole_at = math.max(number(moment), now)
    local this_wait = whole_at - now - tolerance
    if this_wait > patience then return {"held", tostring(index), this_wait} end
    wait = math.max(wait, this_wait)
  end

  -- The call is made when its turn comes in all of them: counted from now, a cell that had no
  -- part in the wait would take the calls that wait together for a steady flow, and let more in.
  for index, moment in ipairs(cells) do
    local interval = number(ARGV[argument + 2 + 2 * index])
    local whole_at = math.max(number(moment), now + wait) + interval
    local left = math.ceil((whole_at - now) / 1000)
    redis.call("SET", KEYS[first_cell + index - 1], text(whole_at), "PX", left)
  end
  redis.call("HINCRBY", breaker, "total", 1)
  if is_half_open then
    redis.call("HSET", breaker, "probing", probing + 1, "probing_until", text(now + probe_lasts))
  end
  return {"go", wait, is_half_open and 1 or 0, number(state[4])}
end
