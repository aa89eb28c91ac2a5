-- Tell both breakers how a call went. KEYS: the breaker all clients share, that of the client.
-- ARGV: "ok", "failed" or "unknown"; of which opening of each it was a probe (0: of none); the client;
-- for whom it asked; 1 if it took its time; then the rules, in the order of `names`.
-- Returns of each in turn: how long this opens it (microseconds, 0 if it does not), 1 if this closed it.

local now, how, client, whom, took_its_time = clock(), ARGV[1], ARGV[4], ARGV[5], ARGV[6]
local shared, own = look(KEYS[1], now), look(KEYS[2], now)
shared.probe_of, own.probe_of = tonumber(ARGV[2]), tonumber(ARGV[3])

-- Failures in a row that open it; the share of failures that does, of how many calls at least, in how
-- long a window, and how many of one and the same are counted in it; how long it opens at first, and
-- at most; good probes that close it, bad ones that open it again.
local names, rules = {"in_a_row", "share", "calls", "window", "of_one", "first", "most", "good", "bad"}, {}
for place, name in ipairs(names) do rules[name] = tonumber(ARGV[6 + place]) end

local function failures(breaker, field)
  return cjson.decode(redis.call("HGET", breaker.key, field) or "{}")
end

-- So many need no names any more, and none of them is counted too often.
local function name_in(window, who)
  local names = 0
  for _ in pairs(window) do names = names + 1 end
  return (window[who] or names < 100) and who or "others"
end

local function note(breaker, field, failed, who)
  failed[who] = (failed[who] or 0) + 1
  redis.call("HSET", breaker.key, field, cjson.encode(failed))
end

-- One who fails says nothing of the others: on its own no client weighs anything with the breaker that
-- all share, and never more than all the others together.
local function weight(breaker, failed)
  local all, of_one = 0, 0
  for _, times in pairs(failed) do
    all, of_one = all + times, math.max(of_one, times)
  end
  if breaker == own then return all end
  return all - of_one + math.min(of_one, all - of_one)
end

-- Who failed lately, and of how many calls.
local function lately(breaker)
  local found = redis.call("HMGET", breaker.key, "total", "since", "total_then", "window")
  local age = now - number(found[2])
  if age >= 0 and age <= rules.window and found[4] then
    return cjson.decode(found[4]), number(found[1]) - number(found[3])
  end
  redis.call("HSET", breaker.key, "since", text(now), "total_then", number(found[1]) - 1, "window", "{}")
  return {}, 1
end

-- Make room for another probe. Returns whether this one has a say: not one of an earlier opening, or
-- beside another one that opened it again.
local function end_probe(breaker)
  if breaker.is_closed or breaker.probe_of ~= breaker.trips then return false end
  redis.call("HSET", breaker.key, "probing", math.max(0, breaker.probing - 1))
  return breaker.is_half_open
end

local function succeed(breaker)
  if breaker.is_closed then redis.call("HDEL", breaker.key, "row") end
  if not end_probe(breaker) then return 0 end
  if redis.call("HINCRBY", breaker.key, "good", 1) < rules.good then return 0 end
  redis.call("DEL", breaker.key)
  return 1
end

local function open(breaker)
  local found = redis.call("HMGET", breaker.key, "total", "first")
  local total, first = number(found[1]), text(math.min(tonumber(found[2] or now), now))
  local lasts = math.min(rules.most, rules.first * 2 ^ breaker.trips)
  redis.call("DEL", breaker.key)
  redis.call("HSET", breaker.key, "until", text(now + lasts), "trips", breaker.trips + 1, "total", total,
             "first", first, "latest", text(now))
  -- Without traffic no call probes: forgotten, it is closed.
  redis.call("PEXPIRE", breaker.key, math.ceil(lasts / 1000) + 600000)
  return lasts
end

-- Returns how long it opens. What is no news of the row (whoever asks again fails again) is none of
-- the others' business; nor is what was counted often enough in the window.
local function fail(breaker, who, is_news, is_counted)
  if breaker.is_closed then
    local row, window, calls = failures(breaker, "row"), lately(breaker)
    if is_news then note(breaker, "row", row, who) end
    if is_counted then note(breaker, "window", window, name_in(window, who)) end
    local is_share = calls >= rules.calls and weight(breaker, window) >= calls * rules.share
    if weight(breaker, row) >= rules.in_a_row or is_share then return open(breaker) end
  elseif end_probe(breaker) then
    local bad = failures(breaker, "bad")
    if is_news then note(breaker, "bad", bad, who) end
    if weight(breaker, bad) >= math.min(rules.bad, rules.in_a_row) then return open(breaker) end
  end
  return 0
end

if how == "unknown" then
  end_probe(shared)
  end_probe(own)
  return {0, 0, 0, 0}
elseif how == "ok" then
  return {0, succeed(shared), 0, succeed(own)}
end

local is_news, is_counted = false, false
if own.is_closed then
  is_news = not failures(own, "row")[whom]
  local window = lately(own)
  local name = name_in(window, whom)
  is_counted = name == "others" or (window[name] or 0) < rules.of_one
elseif own.is_half_open then
  is_news = not failures(own, "bad")[whom]
  is_counted = is_news
end
local shared_lasts = fail(shared, client, is_news, is_counted)
local own_lasts = fail(own, whom, is_news, is_counted)
if not own.is_closed or own_lasts > 0 then redis.call("HSET", own.key, "slow", took_its_time) end
return {shared_lasts, 0, own_lasts, 0}
