-- Count once in each bucket, or in none if one of them is full.
-- KEYS: the buckets. ARGV: for each its size and its length (milliseconds).
-- Returns the number of the full one and how long it stays so (milliseconds), or 0 and 0.

for place, key in ipairs(KEYS) do
  if tonumber(redis.call("GET", key) or "0") >= tonumber(ARGV[2 * place - 1]) then
    return {place, redis.call("PTTL", key)}
  end
end
for place, key in ipairs(KEYS) do
  if redis.call("INCR", key) == 1 then redis.call("PEXPIRE", key, ARGV[2 * place]) end
end
return {0, 0}
