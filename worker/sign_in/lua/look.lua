-- Whether a bucket is full. KEYS: the buckets. ARGV: for each its size.
-- Returns as `count` does.

for place, key in ipairs(KEYS) do
  if tonumber(redis.call("GET", key) or "0") >= tonumber(ARGV[place]) then
    return {place, redis.call("PTTL", key)}
  end
end
return {0, 0}
