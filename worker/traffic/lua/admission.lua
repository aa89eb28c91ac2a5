-- May one call be made to Mosaic now? Breakers, pauses and budgets are asked in one step, so that
-- all processes decide as one. Nothing is written unless the answer is yes.

local LONGEST_WAIT = 10000000  -- longer than any caller waits for its turn

-- What a breaker has against a call that has been tried before, or may be made at another time.
local function objection(breaker, now, probes)
  if breaker.is_open then return {"held", "breaker", breaker.ends - now} end
  if breaker.is_half_open and breaker.probing >= probes then return {"held", "probing", 1000000} end
end

-- The keys from `key` on are the breaker all share, that of the client, the pauses, the rates; the
-- arguments from `argument` on: how many pauses, 1 for a logout that was never tried, how many
-- probes at a time, how many of a client whose calls hang, how long the caller would wait for its
-- turn, how many calls may wait at once for theirs, then interval and tolerance of each rate.
-- Returns {"go", wait, the opening of each breaker whose probe it is (0: of none), 1 if a good answer
-- would be news} or {"held", why, retry_after}.
local function admit(key, argument)
  local now, first_pause = clock(), key + 2
  local first_rate, first_number = first_pause + ARGV[argument], argument + 6
  local is_untried, probes = ARGV[argument + 1] == "1", number(ARGV[argument + 2])
  local max_wait, places = number(ARGV[argument + 4]), number(ARGV[argument + 5])

  local shared, own = look(KEYS[key], now), look(KEYS[key + 1], now)
  local own_probes = own.is_slow and number(ARGV[argument + 3]) or probes
  local held
  if is_untried then
    -- Whether Mosaic takes it is known only once it was asked: held back, it would wait for as long
    -- as other calls fail. It is one call for each logout. What hangs must leave slots to others.
    if own.is_slow and own.probing >= own_probes then held = {"held", "probing", 1000000} end
  else
    held = objection(shared, now, probes) or objection(own, now, own_probes)
  end
  if held then return held end

  for _, moment in ipairs(redis.call("MGET", unpack(KEYS, first_pause, first_rate - 1))) do
    local left = ahead(moment, now, LONGEST_PAUSE)
    if left > 0 then return {"held", "pause", left} end
  end

  -- GCRA: a rate holds the moment at which its budget will be whole again.
  local wait, whole_in = 0, redis.call("MGET", unpack(KEYS, first_rate))
  for index, moment in ipairs(whole_in) do
    local interval = number(ARGV[first_number + 2 * index - 2])
    local tolerance = number(ARGV[first_number + 2 * index - 1])
    whole_in[index] = ahead(moment, now, tolerance + interval + LONGEST_WAIT)
    local this_wait = whole_in[index] - tolerance
    -- Who waits holds a slot of its worker. It comes again when a turn would have come, or later.
    if this_wait > math.min(max_wait, places * interval) then
      return {"held", tostring(index), math.max(this_wait, max_wait)}
    end
    wait = math.max(wait, this_wait)
  end

  -- The call is made when its turn comes in all of them: counted from now, a rate that had no
  -- part in the wait would take the calls that wait together for a steady flow, and let more in.
  for index, left in ipairs(whole_in) do
    left = math.max(left, wait) + number(ARGV[first_number + 2 * index - 2])
    local key_of_rate = KEYS[first_rate + index - 1]
    redis.call("SET", key_of_rate, text(now + left), "PX", math.ceil(left / 1000))
  end
  local until_moment = text(now + PROBE_LASTS)
  return {"go", wait, let_through(shared, until_moment), let_through(own, until_moment),
          (shared.row or own.row) and 1 or 0}
end
