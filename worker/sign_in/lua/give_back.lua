-- Take back what was counted: it was no failure. KEYS: the buckets.

for _, key in ipairs(KEYS) do
  if tonumber(redis.call("GET", key) or "0") > 0 then redis.call("DECR", key) end
end
