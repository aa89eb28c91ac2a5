-- How long a bucket of this length stays full (milliseconds); nil if it is not. Redis keeps the moment
-- at which a key ends: once its clock was set back, that lies farther ahead than the bucket is long, and
-- a user would wait for as long as the clocks are apart.
local function stays_full(key, size, length)
  if tonumber(redis.call("GET", key) or "0") < tonumber(size) then return nil end
  local left = redis.call("PTTL", key)
  if left > tonumber(length) then
    left = tonumber(length)
    redis.call("PEXPIRE", key, length)
  end
  return math.max(1, left)
end

-- What is told of a full one: its number, for how long, and 1 if it is told for the first time.
local function told(place, key, left)
  local is_first = redis.call("SET", key .. ":said", "", "NX", "PX", left)
  return {place, left, is_first and 1 or 0}
end
