-- Count once in each bucket, or in none if one of them is full.
-- KEYS: the buckets. ARGV: for each its size and its length (milliseconds).
-- Returns the number of the full one, how long it stays so (milliseconds), and 1 if that is said for
-- the first time; or three times 0.

for place, key in ipairs(KEYS) do
  if tonumber(redis.call("GET", key) or "0") >= tonumber(ARGV[2 * place - 1]) then
    local left = math.max(1, redis.call("PTTL", key))
    local is_first = redis.call("SET", key .. ":said", "", "NX", "PX", left)
    return {place, left, is_first and 1 or 0}
  end
end
for place, key in ipairs(KEYS) do
  if redis.call("INCR", key) == 1 then redis.call("PEXPIRE", key, ARGV[2 * place]) end
end
return {0, 0, 0}
