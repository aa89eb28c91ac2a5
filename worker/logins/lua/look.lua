-- Whether a bucket is full. KEYS: the buckets. ARGV: for each its size.
-- Returns as `count` does.

for place, key in ipairs(KEYS) do
  if tonumber(redis.call("GET", key) or "0") >= tonumber(ARGV[place]) then
    local left = math.max(1, redis.call("PTTL", key))
    local is_first = redis.call("SET", key .. ":said", "", "NX", "PX", left)
    return {place, left, is_first and 1 or 0}
  end
end
return {0, 0, 0}
